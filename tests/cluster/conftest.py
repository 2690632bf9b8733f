"""What the cluster tier shares: the cluster that KUBECONFIG names, a namespace of the session's own, images and S3 (see README.md).

What a cluster lacks skips the tests that need it, with the reason.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from optimas_core import __version__
from optimas_core.deploy import AccessSettings, access_manifests

Manifest = dict[str, Any]
_CANNOT_PULL = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("cluster")


@dataclass(frozen=True)
class Cluster:
    """kubectl, and the API as an account of the cluster sees it."""

    namespace: str

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        done = subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, check=False, timeout=180)
        if check and done.returncode != 0:
            pytest.fail(f"kubectl {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout if done.returncode == 0 else done.stderr

    def apply(self, *manifests: Manifest) -> None:
        self.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))

    def secret(self, namespace: str, name: str, values: dict[str, str]) -> None:
        """Not on a command line, where every user of this machine reads it."""
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": values}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "secret.json"
            file.write_text(json.dumps(manifest))
            self.kubectl("apply", "-f", str(file))

    def get(self, kind: str, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", kind, "-n", self.namespace, "-o", "json", *arguments))

    def wait(self, what: str, found: Callable[[], Any], within_s: float = 180.0) -> Any:
        deadline = time.monotonic() + within_s
        while not (value := found()):
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: not within {within_s:g} s\n" + self.kubectl("get", "pods", "-n", self.namespace, "-o", "wide"))
            time.sleep(0.5)
        return value

    def pods_of(self, job: str) -> list[Manifest]:
        items: list[Manifest] = self.get("pods", "-l", f"job-name={job}")["items"]
        return items

    def finished(self, name: str, within_s: float = 180.0) -> tuple[Manifest, str]:
        """The pod at its end, and its log."""

        def ended() -> Manifest | None:
            pod: Manifest = self.get("pod", name)
            return pod if pod["status"].get("phase") in ("Succeeded", "Failed") else None

        pod = self.wait(f"the end of pod {name}", ended, within_s)
        return pod, self.kubectl("logs", "-n", self.namespace, name, check=False)

    def allowed(self, review: Manifest) -> bool:
        """The cluster's answer to a SubjectAccessReview."""
        return bool(json.loads(self.kubectl("create", "-o", "json", "-f", "-", given=json.dumps(review)))["status"].get("allowed"))

    def answer(self, account: str, method: str, path: str) -> int:
        """The status that the API server gives to the account's own token."""
        token = self.kubectl("create", "token", account, "-n", self.namespace).strip()
        found = json.loads(self.kubectl("config", "view", "--raw", "--minify", "-o", "json"))["clusters"][0]["cluster"]
        context = ssl.create_default_context(
            cadata=b64decode(found["certificate-authority-data"]).decode() if "certificate-authority-data" in found else None,
            cafile=found.get("certificate-authority"),
        )
        body = b"{}" if method == "POST" else None
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(found["server"] + path, data=body, method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        try:
            with opener.open(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A namespace with our accounts and rights in it, deleted at the end."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    reached = subprocess.run(["kubectl", "get", "--raw", "/readyz"], capture_output=True, text=True, check=False, timeout=60)
    if reached.returncode != 0:
        pytest.skip(f"the cluster does not answer: {reached.stderr.strip()[-200:]}")
    here = Cluster(f"optimas-test-{secrets.token_hex(4)}")
    here.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": here.namespace}})
    try:
        here.apply(*access_manifests(AccessSettings(here.namespace, multi_user=True)))
        yield here
    finally:
        here.kubectl("delete", "namespace", here.namespace, "--wait=false", check=False)


def _available(cluster: Cluster, image: str) -> str:
    """The image, once a pod has started from it."""
    name = f"probe-{secrets.token_hex(4)}"
    container = {"name": "probe", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["true"]}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": cluster.namespace},
            "spec": {"restartPolicy": "Never", "containers": [container]},
        }
    )

    def state() -> str | None:
        status = cluster.get("pod", name)["status"]
        waiting = [item["state"].get("waiting", {}).get("reason", "") for item in status.get("containerStatuses", [])]
        return next((reason for reason in waiting if reason in _CANNOT_PULL), None) or (
            status["phase"] if status.get("phase") in ("Succeeded", "Failed") else None
        )

    reason = cluster.wait(f"image {image}", state, 300.0)
    cluster.kubectl("delete", "pod", name, "-n", cluster.namespace, "--wait=false")
    if reason in _CANNOT_PULL:
        pytest.skip(f"no node can get the image {image} ({reason})")
    assert reason == "Succeeded"
    return image


@pytest.fixture(scope="session")
def runtime_image(cluster: Cluster) -> str:
    return _available(cluster, os.environ.get("OPTIMAS_IMAGE") or f"optimas-runtime:{__version__}")


@pytest.fixture(scope="session")
def train_image(cluster: Cluster) -> str:
    return _available(cluster, os.environ.get("OPTIMAS_TRAIN_IMAGE") or f"optimas-train:{__version__}")


@pytest.fixture(scope="session")
def sandbox_image(cluster: Cluster) -> str:
    return _available(cluster, os.environ.get("OPTIMAS_SANDBOX_IMAGE") or f"optimas-sandbox:{__version__}")


@dataclass(frozen=True)
class ClusterStore:
    """An S3 store: its address for pods, the name of the secret that holds its key, and a bucket of this test's own."""

    endpoint_url: str
    secret: str
    bucket: str


@pytest.fixture
def cluster_store(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterStore]:
    """In this process `Workspace.open` reaches it too. The bucket is deleted at the end: some stores hold few."""
    with a_bucket(cluster, cluster.namespace, "optimas-s3", monkeypatch) as store:
        yield store


@pytest.fixture(scope="session")
def kfp_store(cluster: Cluster, kfp_namespace: str) -> Iterator[ClusterStore]:
    """The same for runs of Kubeflow Pipelines, one bucket for the session; the secret lies where their pods are."""
    with pytest.MonkeyPatch.context() as patch, a_bucket(cluster, kfp_namespace, f"{cluster.namespace}-s3", patch) as store:
        try:
            yield store
        finally:
            cluster.kubectl("delete", "secret", store.secret, "-n", kfp_namespace, check=False)


@contextmanager
def a_bucket(cluster: Cluster, namespace: str, secret_name: str, patch: pytest.MonkeyPatch) -> Iterator[ClusterStore]:
    """A bucket, deleted at the end, and a secret of that namespace with its key."""
    endpoint = os.environ.get("OPTIMAS_CLUSTER_S3")
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not (endpoint and key and secret):
        pytest.skip("OPTIMAS_CLUSTER_S3, AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set: no S3 store for pods")
    import boto3

    here = os.environ.get("OPTIMAS_CLUSTER_S3_HERE") or endpoint
    patch.setenv("AWS_ENDPOINT_URL", here)
    patch.setenv("AWS_REGION", os.environ.get("AWS_REGION") or "us-east-1")
    bucket = f"optimas-test-{secrets.token_hex(6)}"
    client = boto3.session.Session().client("s3", endpoint_url=here, region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    values = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
    cluster.secret(namespace, secret_name, values)
    try:
        yield ClusterStore(endpoint, secret_name, bucket)
    finally:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", []):
                client.delete_object(Bucket=bucket, Key=item["Key"])
        client.delete_bucket(Bucket=bucket)
