"""The installation that the environment names: a namespace, a bucket, two secrets and a scripted model of our own in it, for a while.

KUBECONFIG, OPTIMAS_KFP_HOST, OPTIMAS_KFP_NAMESPACE (kubeflow), OPTIMAS_IMAGE, OPTIMAS_TRAIN_IMAGE, OPTIMAS_CLUSTER_S3 (the store as pods
see it), OPTIMAS_CLUSTER_S3_HERE (as this machine does), AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, OPTIMAS_KFP_CPU (limit of a stage).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimas_core.deploy import AccessSettings, access_manifests

HERE = Path(__file__).parent
LLM_KEY = "endpoint-key"
NEEDED = (
    *("KUBECONFIG", "OPTIMAS_KFP_HOST", "OPTIMAS_IMAGE", "OPTIMAS_TRAIN_IMAGE"),
    *("OPTIMAS_CLUSTER_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """`name` is that of the namespace with the model, of the experiment, and what the secrets' names begin with."""

    name: str
    host: str
    namespace: str
    bucket: str

    @property
    def settings(self) -> dict[str, Any]:
        """Parameters of the pipelines."""
        return {
            "image": os.environ["OPTIMAS_IMAGE"],
            "train_image": os.environ["OPTIMAS_TRAIN_IMAGE"],
            "s3_secret": f"{self.name}-s3",
            "llm_secret": f"{self.name}-llm",
            "cpu": os.environ.get("OPTIMAS_KFP_CPU", "500m"),
            "memory": os.environ.get("OPTIMAS_KFP_MEMORY", "2Gi"),
            "controller_cpu": "200m",
        }

    def project(self, folder: Path, latency_ms: int, **sections: Any) -> Path:
        """The scripted project with a model of that latency; `sections` replace those of run.yaml. Returns its path."""
        import yaml

        folder.mkdir(parents=True)
        (folder / "system.py").write_text((HERE / "project" / "system.py").read_text(encoding="utf-8"), encoding="utf-8")
        spec = yaml.safe_load((HERE / "project" / "run.yaml").read_text(encoding="utf-8")) | sections
        (folder / "run.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
        rows = [{"id": f"e{n:02d}", "question": f"What is the colour of item {n}?", "answer": f"green{n}"} for n in range(1, 71)]
        (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        address = f"http://scripted.{self.name}.svc.cluster.local:8000/benchmark/{latency_ms}/v1"
        (folder / "endpoint.txt").write_text(address, encoding="utf-8")
        return folder / "run.yaml"

    def pods(self, kfp_run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._of_run("pods", kfp_run_id)
        return found

    def workflow(self, kfp_run_id: str) -> dict[str, Any]:
        (found,) = self._of_run("workflows.argoproj.io", kfp_run_id)
        return dict(found)

    def _of_run(self, kind: str, kfp_run_id: str) -> list[Any]:
        listed = kubectl("get", kind, "-n", self.namespace, "-l", f"pipeline/runid={kfp_run_id}", "-o", "json")
        return list(json.loads(listed)["items"])


@contextmanager
def place() -> Iterator[Place]:
    """All of it, gone at the end. Raises: SystemExit: the environment lacks something."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise SystemExit(f"not set: {', '.join(missing)} (benchmarks/_kfp/place.py says what each is)")
    name = f"optimas-bench-{secrets.token_hex(4)}"
    os.environ["AWS_ENDPOINT_URL"] = os.environ.get("OPTIMAS_CLUSTER_S3_HERE") or os.environ["OPTIMAS_CLUSTER_S3"]
    os.environ.setdefault("AWS_REGION", "us-east-1")
    found = Place(name, os.environ["OPTIMAS_KFP_HOST"], os.environ.get("OPTIMAS_KFP_NAMESPACE") or "kubeflow", name)
    with ExitStack() as stack:
        _apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        stack.callback(kubectl, "delete", "namespace", name, "--wait=false")
        _apply(*access_manifests(AccessSettings(found.namespace)))  # stays: another run may lean on it
        key = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")}
        _secret(stack, found, f"{name}-s3", key | {"AWS_ENDPOINT_URL": os.environ["OPTIMAS_CLUSTER_S3"]})
        _secret(stack, found, f"{name}-llm", {"OPTIMAS_LLM_KEY": LLM_KEY})
        _bucket(stack, found.bucket)
        _model(found)
        yield found


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Raises: SystemExit: it failed."""
    done = subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, check=False, timeout=180)
    if done.returncode != 0:
        raise SystemExit(f"kubectl {' '.join(arguments)}: {done.stderr[-1000:]}")
    return done.stdout


def _apply(*manifests: Any) -> None:
    kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))


def _secret(stack: ExitStack, found: Place, name: str, values: dict[str, str]) -> None:
    """Through a file: a command line is read by every user of this machine."""
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": found.namespace}, "stringData": values}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "secret.json"
        file.write_text(json.dumps(manifest), encoding="utf-8")
        kubectl("apply", "-f", str(file))
    stack.callback(kubectl, "delete", "secret", name, "-n", found.namespace)


def _bucket(stack: ExitStack, name: str) -> None:
    import boto3

    bucket = boto3.session.Session().resource("s3").Bucket(name)
    bucket.create()
    stack.callback(bucket.delete)
    stack.callback(lambda: bucket.objects.all().delete())


def _model(found: Place) -> None:
    """endpoint.py as a pod with a service, once it answers."""
    where = {"name": "scripted", "namespace": found.name}
    container = {
        "name": "endpoint",
        "image": os.environ["OPTIMAS_IMAGE"],
        "command": ["python", "/program/endpoint.py", "8000"],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "program", "configMap": {"name": "scripted"}}]}
    program = {"endpoint.py": (HERE / "endpoint.py").read_text(encoding="utf-8")}
    _apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": where, "data": program},
        {"apiVersion": "v1", "kind": "Pod", "metadata": where | {"labels": {"app": "scripted"}}, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": where, "spec": {"selector": {"app": "scripted"}, "ports": [{"port": 8000}]}},
    )
    kubectl("wait", "--for=condition=Ready", "pod/scripted", "-n", found.name, "--timeout=120s")
