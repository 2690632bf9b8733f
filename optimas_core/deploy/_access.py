"""Accounts and rights of the pods, as Kubernetes objects: pure functions, so that what is granted can be read and tested without a cluster.

    optimas              stages and child runs: our code asks nothing of the cluster, the containers of Kubeflow Pipelines beside it do
    optimas-controller   the pipeline that drives a run: the same; where many users are served, also runs over the pipelines API
    optimas-sandbox      generated code: no right, no token, no network

Read in the sources of Kubeflow Pipelines 2.17.0: its driver and launcher get one configuration map and, unless it says that credentials
come from the environment, one secret; Argo's executor writes what came out of a step. Why a pod cannot start the controller reads from the
pipelines API, so that it needs no right to see pods or workflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
"""One Kubernetes object, ready for YAML or JSON."""

STAGES, CONTROLLER, SANDBOX = "optimas", "optimas-controller", "optimas-sandbox"
SANDBOX_LABEL = {"app.kubernetes.io/component": "optimas-sandbox"}
LAUNCHER_CONFIGURATION = "kfp-launcher"
LAUNCHER_SECRET = "mlpipeline-minio-artifact"
"""The secret that Kubeflow Pipelines' own configuration names for its artifacts, unless an installation says otherwise."""
_LABELS = {"app.kubernetes.io/name": "optimas"}


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """`launcher_secret`: "" where the launcher takes its credentials from the environment. `multi_user`: the API serves many users."""

    namespace: str
    multi_user: bool = False
    launcher_secret: str = LAUNCHER_SECRET


def access_manifests(settings: AccessSettings) -> tuple[Manifest, ...]:
    """Accounts, roles and bindings, and the network policy of the sandbox, for one namespace."""
    shared = _launcher_rules(settings.launcher_secret)
    driving = [*shared, *_pipelines_rules()] if settings.multi_user else shared
    return (
        _account(STAGES, settings.namespace),
        *_granted(STAGES, settings.namespace, shared),
        _account(CONTROLLER, settings.namespace),
        *_granted(CONTROLLER, settings.namespace, driving),
        _account(SANDBOX, settings.namespace, token=False),
        _no_network(settings.namespace),
    )


def _launcher_rules(secret: str) -> list[Manifest]:
    """For the containers that Kubeflow Pipelines and Argo put beside ours."""
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [LAUNCHER_CONFIGURATION], "verbs": ["get"]},
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]},
    ]
    if secret:
        rules.append({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret], "verbs": ["get"]})
    return rules


def _pipelines_rules() -> list[Manifest]:
    """What `KubeflowPipelines` asks of an API that serves many users: it checks these with the cluster, for the namespace."""
    return [
        {"apiGroups": ["pipelines.kubeflow.org"], "resources": ["runs"], "verbs": ["create", "get", "list", "terminate"]},
        {"apiGroups": ["pipelines.kubeflow.org"], "resources": ["experiments", "pipelines"], "verbs": ["create", "get", "list"]},
    ]


def _account(name: str, namespace: str, *, token: bool = True) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(name, namespace),
        "automountServiceAccountToken": token,
    }


def _granted(name: str, namespace: str, rules: Sequence[Manifest]) -> tuple[Manifest, Manifest]:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": _metadata(name, namespace), "rules": list(rules)}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": _metadata(name, namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
    return role, binding


def _no_network(namespace: str) -> Manifest:
    """Nothing in, nothing out, for every pod with the label; a cluster without a policy engine accepts it and does nothing."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(SANDBOX, namespace),
        "spec": {"podSelector": {"matchLabels": dict(SANDBOX_LABEL)}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []},
    }


def _metadata(name: str, namespace: str) -> Manifest:
    return {"name": name, "namespace": namespace, "labels": dict(_LABELS)}
