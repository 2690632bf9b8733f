"""Why a run failed: Kubeflow Pipelines itself says FAILED and no more, Argo's node says the exit code, the pod's log says why.

Measured on 2.17.0: a failed run has no error, neither its own nor of a task; a node has `main: Error (exit code 1)`; the log of a pod is
served, also after the pod has gone where logs are archived, below `/apis/v1alpha1/runs/<id>/nodes/<pod>/log` only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimas_core.launchers.kfp_api._pod_problems import nodes_of, step_of

LOG_TAIL_BYTES = 64 << 10
_CHARS = 400
# What says most, first: our own sentence, that of an error of ours at the end of a traceback, the driver's, another traceback's end.
_TELLING = (
    re.compile(r"^optimas: (.+)$"),
    re.compile(r"^optimas_core\.(?:\w+\.)+\w+: (.+)$"),
    re.compile(r"^F\d{4} .*\bfailed: (.+)$"),
    re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception)\b.*)$"),
)


@dataclass(frozen=True, slots=True)
class FailedStep:
    """One pod that did not end well. `node` is what its log is asked for by; `message` is Argo's."""

    step: str
    node: str
    message: str

    def sentence(self, log: str) -> str:
        """What a person is told; `log` is the end of the pod's log, "" where it cannot be had."""
        return f"{self.step}: {telling(log) or self.message or 'it failed and left no word'}"


def failed_steps(detail: Mapping[str, Any]) -> tuple[FailedStep, ...]:
    """The pods that failed, the first to fail first, from `GET /apis/v1beta1/runs/<id>`; of several tries of one step the last."""
    found: dict[str, tuple[str, FailedStep]] = {}
    for node in nodes_of(detail):
        if node.get("type") != "Pod" or node.get("phase") not in ("Failed", "Error"):
            continue
        ended, step = str(node.get("finishedAt") or ""), step_of(node)
        message = " ".join(str(node.get("message") or "").split())[:_CHARS]
        if step not in found or ended >= found[step][0]:
            found[step] = (ended, FailedStep(step, str(node.get("id") or ""), message))
    return tuple(failed for _, failed in sorted(found.values(), key=lambda item: (item[0], item[1].step)))


def telling(log: str) -> str:
    """The line of a log that says why it ended, without what stands around it; "" where none does."""
    lines = [line.strip() for line in log.splitlines()]
    for pattern in _TELLING:
        for line in reversed(lines):
            match = pattern.match(line)
            if match:
                return match[1][:_CHARS]
    return ""
