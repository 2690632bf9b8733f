"""`kubectl port-forward` as a child process, for laptops that reach a cluster only through its API server."""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optimas_core._redaction import without_keys
from optimas_core.errors import EnvironmentNotReady

_READY_S = 20.0
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
_TEXT_CHARS = 300


def kubectl_can_reach() -> bool:
    """Whether there is a kubectl and a kubeconfig that it would read."""
    named = os.environ.get("KUBECONFIG")
    files = [Path(part) for part in named.split(os.pathsep) if part] if named else [Path("~/.kube/config").expanduser()]
    return shutil.which("kubectl") is not None and any(file.is_file() for file in files)


@contextmanager
def forwarded(namespace: str, service: str, port: int) -> Iterator[str]:
    """An address on this machine that leads to the service, while the block runs.

    Raises:
        EnvironmentNotReady: kubectl cannot forward, and says why.
    """
    command = ["kubectl", "port-forward", "--address", "127.0.0.1", "-n", namespace, f"svc/{service}", f":{port}"]
    output = subprocess.PIPE
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True, errors="replace")
    lines: queue.Queue[str | None] = queue.Queue(maxsize=100)

    def reading() -> None:
        assert child.stdout is not None
        for line in child.stdout:  # read to the end, or kubectl would block on a full pipe
            if not lines.full():
                lines.put(line)
        lines.put(None)

    threading.Thread(target=reading, name="kubectl-port-forward", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{_local_port(lines, namespace, service)}"
    finally:
        child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _local_port(lines: queue.Queue[str | None], namespace: str, service: str) -> int:
    until = time.monotonic() + _READY_S
    said: list[str] = []
    while (left_s := until - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left_s)
        except queue.Empty:
            break
        if line is None:
            break
        found = _FORWARDING.search(line)
        if found:
            return int(found[1])
        said.append(line.strip())
    text = without_keys(" ".join(said))[-_TEXT_CHARS:] or f"no word of it within {_READY_S:g} s"
    raise EnvironmentNotReady(
        f"kubectl cannot forward to svc/{service} in namespace {namespace}: {text}",
        remedy="Check the kubeconfig and the namespace of Kubeflow Pipelines (--kfp-namespace), or give --host.",
    )
