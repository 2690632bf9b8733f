"""The images as a careful cluster starts them: a user it made up, a read-only root, no capability, nothing to gain rights with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from optimas_core.deploy import JobSettings, sandbox_pod, stage_job

UIDS = (65532, 1234567)
CHECKS = """
import importlib.util, os, pathlib, subprocess, sys, tempfile
import optimas_core
assert os.getuid() == int(sys.argv[1]), os.getuid()
for folder in (os.environ["HOME"], os.environ["HF_HOME"], tempfile.gettempdir()):
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    (pathlib.Path(folder) / "written").write_text("x")
try:
    open("/opt/optimas/written", "w")
except OSError as error:
    assert error.errno == 30, error  # a read-only file system
else:
    raise SystemExit("the root file system can be written")
assert importlib.util.find_spec("torch") is None
assert not os.path.exists("/etc/pip.conf"), "the settings of the machine that built it"
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
assert int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0 and int(status["NoNewPrivs"]) == 1
assert not os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token")
subprocess.run(["optimas", "--help"], check=True, stdout=subprocess.DEVNULL)
environment = {**os.environ, "_KFP_RUNTIME": "true"}
subprocess.run([sys.executable, "-c", "import kfp.dsl.executor_main"], check=True, env=environment)
import boto3, matplotlib, pyarrow
from optimas_core.launchers import stage_task
print("as it should be:", optimas_core.__version__)
"""


def pod_of(job: dict[str, Any], name: str, command: list[str]) -> dict[str, Any]:
    """The Job's pod alone, with another command."""
    spec = job["spec"]["template"]["spec"]
    spec["containers"][0]["command"] = command
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": job["metadata"]["namespace"]}, "spec": spec}


@pytest.mark.parametrize("uid", UIDS)
def test_the_runtime_image_works_as_any_user_on_a_read_only_root(cluster: Any, runtime_image: str, uid: int) -> None:
    settings = JobSettings(cluster.namespace, runtime_image, user_id=uid, cpu="1", memory="512Mi")
    name = f"runtime-{uid}"
    cluster.apply(pod_of(stage_job(name, "train-first", {}, settings), name, ["python", "-c", CHECKS, str(uid)]))
    pod, log = cluster.finished(name)
    assert pod["status"]["phase"] == "Succeeded" and "as it should be" in log, log


def test_a_cluster_can_tell_that_the_image_is_not_for_root(cluster: Any, runtime_image: str) -> None:
    """`runAsNonRoot` without a user: the kubelet starts it only if the image names a number."""
    pod = pod_of(
        stage_job("own", "train-first", {}, JobSettings(cluster.namespace, runtime_image, cpu="1", memory="256Mi")),
        "own-user",
        ["id", "-u"],
    )
    pod["spec"]["securityContext"] = {"runAsNonRoot": True}
    cluster.apply(pod)
    pod, log = cluster.finished("own-user")
    assert (pod["status"]["phase"], log.strip()) == ("Succeeded", "65532")


def test_the_controller_task_starts_within_its_quarter_gibibyte(cluster: Any, runtime_image: str) -> None:
    settings = JobSettings(cluster.namespace, runtime_image, cpu="1", memory="256Mi")
    command = ["python", "-m", "optimas_core.launchers.controller_task", "--help"]
    cluster.apply(pod_of(stage_job("controller-help", "train-first", {}, settings), "controller-help", command))
    pod, log = cluster.finished("controller-help")
    assert pod["status"]["phase"] == "Succeeded" and "--run-id" in log, log


@pytest.fixture
def generated(cluster: Any, sandbox_image: str) -> Callable[..., tuple[dict[str, Any], str]]:
    """Runs a program in the sandbox."""

    def run(name: str, program: str, **settings: Any) -> tuple[dict[str, Any], str]:
        cluster.apply(sandbox_pod(name, cluster.namespace, sandbox_image, program, **settings))
        pod, log = cluster.finished(name)
        return pod, log

    return run


SEARCH = """
import glob, importlib.util, os, sys
print(sorted(name for name in os.environ if name not in ("PATH", "HOME", "HOSTNAME", "LANG", "LC_CTYPE", "GPG_KEY", "PWD")
             and not name.startswith(("PYTHON", "KUBERNETES_"))))
print(glob.glob("/var/run/secrets/**", recursive=True) + glob.glob("/run/secrets/**", recursive=True))
print([name for name in ("pip", "optimas_core", "numpy") if importlib.util.find_spec(name)])
print([path for path in ("/written", "/usr/written", os.path.expanduser("~/../written")) if not write(path)])
"""
WRITE = "def write(path):\n    try:\n        open(path, 'w')\n    except OSError as error:\n        return error.errno in (13, 30)\n"


def test_generated_code_finds_no_token_no_key_no_package_and_writes_in_tmp_only(generated: Callable[..., Any]) -> None:
    pod, log = generated("search", WRITE + SEARCH)
    assert pod["status"]["phase"] == "Succeeded", log
    assert log.splitlines() == ["[]"] * 4


def test_generated_code_that_does_not_end_is_ended(generated: Callable[..., Any]) -> None:
    pod, _ = generated("endless", "while True: pass", deadline_s=8)
    assert pod["status"]["phase"] == "Failed" and pod["status"]["reason"] == "DeadlineExceeded"


def test_generated_code_that_eats_memory_is_killed_alone(generated: Callable[..., Any]) -> None:
    pod, _ = generated("eater", "found = bytearray(1 << 30)\nfound[::4096] = b'1' * len(found[::4096])", memory="64Mi")
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert pod["status"]["phase"] == "Failed" and (state["reason"] == "OOMKilled" or state["exitCode"] in (1, 137))


def test_generated_code_reaches_nothing(generated: Callable[..., Any]) -> None:
    program = """
import os, socket
host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
try:
    socket.create_connection((host, port), timeout=5)
    print("reached")
except OSError:
    print("refused")
"""
    _, log = generated("network", program)
    if "reached" in log:
        pytest.skip("the cluster enforces no network policies: generated code reaches the API server (without a token)")
    assert log.strip() == "refused"
