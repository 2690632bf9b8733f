"""What the cluster says of a KFP run's pods, in seconds: pure functions over Kubernetes objects. Times have a resolution of one second."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Observed:
    """One KFP run. `stages_s`: at least one stage's container ran, its start (interpreter, imports) included."""

    wall_s: float
    stages_s: float
    pods: int
    stage_pods: int
    object_kb: float

    @property
    def above_s(self) -> float:
        """Seconds of Kubeflow alone: drivers, pods that start, what waits between tasks."""
        return self.wall_s - self.stages_s


def observed(workflow: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Observed:
    """Of a run that has ended."""
    begin, end = seconds(workflow["status"]["startedAt"]), seconds(workflow["status"]["finishedAt"])
    spans = [span for pod in pods if task_of(pod) for span in [main_span(pod)] if span is not None]
    size = len(json.dumps(workflow, separators=(",", ":")).encode()) / 1000
    return Observed(end - begin, union_s(spans), len(pods), sum(1 for pod in pods if task_of(pod)), size)


def task_of(pod: Mapping[str, Any]) -> str:
    """The task whose own code ran in the pod; "" for a driver."""
    node = (pod["metadata"].get("annotations") or {}).get("workflows.argoproj.io/node-name", "")
    found = re.search(r"\.([\w-]+)(?:\(\d+\))?\.executor(?:\(\d+\))?$", node)
    return found[1] if found else ""


def main_span(pod: Mapping[str, Any]) -> Span | None:
    """When its main container ran; None where it never did or still does."""
    for status in pod["status"].get("containerStatuses") or ():
        ended = status.get("state", {}).get("terminated") if status.get("name") == "main" else None
        if ended and ended.get("startedAt"):
            return seconds(ended["startedAt"]), seconds(ended["finishedAt"])
    return None


def stretch_s(pods: Iterable[Mapping[str, Any]], task: str) -> float:
    """Seconds from the first start to the last end of that task's containers."""
    spans = [span for pod in pods if task_of(pod) == task for span in [main_span(pod)] if span is not None]
    return max(end for _, end in spans) - min(begin for begin, _ in spans)


def union_s(spans: Iterable[Span]) -> float:
    """Seconds covered by at least one span."""
    covered, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


def seconds(text: str) -> float:
    """Since 1970, of a time as Kubernetes writes it."""
    return datetime.fromisoformat(text).timestamp()
