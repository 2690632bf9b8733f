"""What the API server answers to the tokens of our accounts."""

from __future__ import annotations

from typing import Any

import pytest

FORBIDDEN = 403
ACCOUNTS = ("optimas", "optimas-controller", "optimas-sandbox")


@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/namespaces/{ns}/secrets"),
        ("GET", "/api/v1/namespaces/{ns}/secrets/optimas-llm"),
        ("GET", "/api/v1/namespaces/{ns}/pods"),
        ("POST", "/api/v1/namespaces/{ns}/pods"),
        ("POST", "/api/v1/namespaces/{ns}/pods/some/exec"),
        ("GET", "/api/v1/namespaces/{ns}/configmaps"),
        ("POST", "/apis/argoproj.io/v1alpha1/namespaces/{ns}/workflows"),
        ("GET", "/apis/argoproj.io/v1alpha1/namespaces/{ns}/workflows"),
        ("POST", "/apis/batch/v1/namespaces/{ns}/jobs"),
        ("POST", "/api/v1/namespaces/{ns}/serviceaccounts/optimas-controller/token"),
        ("GET", "/api/v1/namespaces/default/secrets"),
        ("GET", "/api/v1/nodes"),
    ],
)
def test_an_account_is_denied_what_it_does_not_use(cluster: Any, account: str, method: str, path: str) -> None:
    assert cluster.answer(account, method, path.format(ns=cluster.namespace)) == FORBIDDEN


@pytest.mark.parametrize("account", ["optimas", "optimas-controller"])
@pytest.mark.parametrize("path", ["configmaps/kfp-launcher", "secrets/mlpipeline-minio-artifact"])
def test_what_the_launcher_reads_is_allowed(cluster: Any, account: str, path: str) -> None:
    """404 where the namespace has none: asked and allowed."""
    assert cluster.answer(account, "GET", f"/api/v1/namespaces/{cluster.namespace}/{path}") in (200, 404)
    assert cluster.answer("optimas-sandbox", "GET", f"/api/v1/namespaces/{cluster.namespace}/{path}") == FORBIDDEN


@pytest.mark.parametrize(
    ("verb", "resource", "stages", "controller"),
    [
        ("create", "runs", "no", "yes"),
        ("terminate", "runs", "no", "yes"),
        ("get", "runs", "no", "yes"),
        ("delete", "runs", "no", "no"),
        ("create", "pipelines", "no", "yes"),
        ("delete", "pipelines", "no", "no"),
        ("create", "jobs", "no", "no"),
    ],
)
def test_only_the_controller_creates_runs(cluster: Any, verb: str, resource: str, stages: str, controller: str) -> None:
    """The question that the pipelines API asks the cluster where it serves many users."""
    for account, wanted in (("optimas", stages), ("optimas-controller", controller)):
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{cluster.namespace}:{account}",
                "resourceAttributes": {
                    "namespace": cluster.namespace,
                    "verb": verb,
                    "group": "pipelines.kubeflow.org",
                    "version": "v1beta1",
                    "resource": resource,
                },
            },
        }
        assert cluster.allowed(review) is (wanted == "yes"), account
