"""What the accounts may do, and that it is no more than is used."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from optimas_core.cli._manifests import manifests_yaml
from optimas_core.deploy import AccessSettings, JobSettings, access_manifests, sandbox_pod, stage_job

JOB = JobSettings(namespace="team", image="optimas-runtime:1", environment={"AWS_ENDPOINT_URL": "http://s3:9000"})
ARGUMENTS = {"workspace": "s3://b/p", "run_id": "r-1", "bundle": "a" * 64}


def of_kind(manifests: tuple[dict[str, Any], ...], kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in manifests if item["kind"] == kind}


def rights(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    """(resource, name or "*", verb)"""
    return {
        (resource, name, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", ["*"])
        for verb in rule["verbs"]
    }


LAUNCHER = {("configmaps", "kfp-launcher", "get"), ("workflowtaskresults", "*", "create"), ("workflowtaskresults", "*", "patch")}


def test_a_stage_may_do_what_the_containers_beside_it_need_and_nothing_else() -> None:
    roles = of_kind(access_manifests(AccessSettings("team")), "Role")
    assert rights(roles["optimas"]) == LAUNCHER | {("secrets", "mlpipeline-minio-artifact", "get")}
    without = of_kind(access_manifests(AccessSettings("team", launcher_secret="")), "Role")
    assert rights(without["optimas"]) == LAUNCHER
    assert set(roles) == {"optimas", "optimas-controller"}  # the sandbox has none


def test_the_controller_drives_runs_only_where_the_api_asks_who_it_is() -> None:
    one_user = of_kind(access_manifests(AccessSettings("team", launcher_secret="")), "Role")["optimas-controller"]
    assert rights(one_user) == LAUNCHER
    many = of_kind(access_manifests(AccessSettings("team", multi_user=True, launcher_secret="")), "Role")["optimas-controller"]
    assert {resource for resource, _, _ in rights(many) - LAUNCHER} == {"runs", "experiments", "pipelines"}
    assert "delete" not in {verb for _, _, verb in rights(many)}


@pytest.mark.parametrize("multi_user", [False, True])
def test_no_rule_names_everything_and_each_binding_grants_one_role_to_one_account(multi_user: bool) -> None:
    manifests = access_manifests(AccessSettings("team", multi_user=multi_user))
    assert all(
        "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        for role in of_kind(manifests, "Role").values()
        for rule in role["rules"]
    )
    for role in of_kind(manifests, "Role").values():
        assert all("resourceNames" in rule for rule in role["rules"] if "secrets" in rule["resources"])
    for name, binding in of_kind(manifests, "RoleBinding").items():
        assert binding["roleRef"]["name"] == name
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "team"}]
    assert {item["metadata"]["namespace"] for item in manifests} == {"team"}
    assert not {"ClusterRole", "ClusterRoleBinding"} & {item["kind"] for item in manifests}


def test_the_sandbox_has_no_token_no_network_and_none_of_our_environment() -> None:
    manifests = access_manifests(AccessSettings("team"))
    assert of_kind(manifests, "ServiceAccount")["optimas-sandbox"]["automountServiceAccountToken"] is False
    policy = of_kind(manifests, "NetworkPolicy")["optimas-sandbox"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"] and policy["ingress"] == policy["egress"] == []
    pod = sandbox_pod("generated", "team", "optimas-sandbox:1", "print(1)")
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["serviceAccountName"] == "optimas-sandbox" and pod["spec"]["automountServiceAccountToken"] is False
    assert "env" not in pod["spec"]["containers"][0] and "envFrom" not in pod["spec"]["containers"][0]
    assert pod["spec"]["activeDeadlineSeconds"] == 60 and pod["spec"]["terminationGracePeriodSeconds"] == 1


@pytest.mark.parametrize(
    "pod", [stage_job("s", "train-first", ARGUMENTS, JOB)["spec"]["template"]["spec"], sandbox_pod("g", "n", "i", "1")["spec"]]
)
def test_every_pod_is_locked(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert "/tmp" in mounts.values() and set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"])
    assert container["resources"]["limits"]["memory"] and pod["automountServiceAccountToken"] is False


def test_a_stage_job_holds_names_of_secrets_and_asks_for_gpus_only_when_told() -> None:
    job = stage_job("s", "train-first", ARGUMENTS, JOB)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"][:4] == ["python", "-m", "optimas_core.launchers.stage_task", "train-first"]
    assert container["command"][4:] == ["--workspace", "s3://b/p", "--run-id", "r-1", "--bundle", "a" * 64]
    values = {item["name"]: item.get("value") for item in container["env"]}
    assert values["AWS_ENDPOINT_URL"] == "http://s3:9000"  # what is given stands above the secret's
    assert values["AWS_SECRET_ACCESS_KEY"] is None and values["OPENAI_API_KEY"] is None
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    with_gpus = stage_job("s", "train-first", ARGUMENTS, JobSettings(namespace="n", image="i", gpus=2, s3_secret=""))
    (container,) = with_gpus["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert {item["valueFrom"]["secretKeyRef"]["name"] for item in container["env"]} == {"optimas-llm"}
    assert job["spec"]["backoffLimit"] == 2


def test_the_yaml_reads_back_as_the_objects() -> None:
    settings = AccessSettings("team", multi_user=True)
    assert tuple(yaml.safe_load_all(manifests_yaml(settings))) == access_manifests(settings)
