"""Why a pod of a run cannot start: KFP itself says RUNNING for ever, but Argo writes the reason into its node's message.

Measured texts, 21 to 25 s after the pod was made: `Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu…`,
`CreateContainerConfigError: secret "x" not found`, `ErrImagePull: …` and `ImagePullBackOff: …`.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optimas_core.canonical import MAX_JSON_BYTES, parse_json

_WAITING = ("Pending", "Running", "Error", "Failed", "")
_CHARS = 240
_IMAGE = re.compile(r"(?:ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull|ImageInspectError|RegistryUnavailable)")
_QUOTED_IMAGE = re.compile(r"image \\?\"([^\"\\]+)\\?\"")
_INSUFFICIENT = re.compile(r"Insufficient ([\w./-]+)")
_MISSING = re.compile(r"(secret|configmap|serviceaccount|persistentvolumeclaim) \\?\"([^\"\\]+)\\?\" not found", re.IGNORECASE)
_SELECTOR = re.compile(r"didn'?t match (?:Pod'?s )?node (?:affinity|selector)|node\(s\) didn't match", re.IGNORECASE)
_TAINT = re.compile(r"untolerated taint(?:\(s\))? ?\{?([^},]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PodProblem:
    """`capacity` may end by itself (another pod ends, a node is added); `configuration` needs a person. `sentence` names step and cause."""

    step: str
    kind: Literal["capacity", "configuration"]
    sentence: str


def problems_of(detail: Mapping[str, Any]) -> tuple[PodProblem, ...]:
    """What stops pods of a run, from `GET /apis/v1beta1/runs/<id>`; empty where nothing does or nothing can be read."""
    found: dict[str, PodProblem] = {}
    for node in nodes_of(detail):
        if node.get("type", "Pod") != "Pod" or node.get("phase", "") not in _WAITING:
            continue
        message = node.get("message")
        problem = _explain(step_of(node), message) if isinstance(message, str) else None
        if problem is not None:
            found.setdefault(problem.sentence, problem)
    return tuple(found[key] for key in sorted(found))


def _explain(step: str, message: str) -> PodProblem | None:
    text = " ".join(message.split())
    if _IMAGE.search(text):
        image = _QUOTED_IMAGE.search(text)
        return PodProblem(
            step, "configuration", f"{step}: its image {repr(image[1]) + ' ' if image else ''}cannot be pulled ({_short(text)})."
        )
    missing = _MISSING.search(text)
    if missing:
        return PodProblem(step, "configuration", f"{step}: {missing[1].lower()} {missing[2]!r} does not exist in the namespace.")
    if "CreateContainerConfigError" in text or "CreateContainerError" in text:
        return PodProblem(step, "configuration", f"{step}: its container cannot be created ({_short(text)}).")
    if "Unschedulable" in text:
        lacking = tuple(dict.fromkeys(name.rstrip(".,") for name in _INSUFFICIENT.findall(text)))
        if lacking:
            return PodProblem(step, "capacity", f"{step}: no node has enough {' and '.join(lacking)} free ({_short(text)}).")
        if _SELECTOR.search(text):
            return PodProblem(step, "configuration", f"{step}: no node matches its node selector or affinity ({_short(text)}).")
        taint = _TAINT.search(text)
        if taint:
            return PodProblem(step, "configuration", f"{step}: it tolerates no taint of a node that would do ({_short(text)}).")
        return PodProblem(step, "capacity", f"{step}: no node takes it ({_short(text)}).")
    return None


def nodes_of(detail: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Argo's nodes of a run, from `GET /apis/v1beta1/runs/<id>`; none where there is nothing that can be read."""
    runtime = detail.get("pipeline_runtime")
    if not isinstance(runtime, dict):
        return
    for key in ("workflow_manifest", "pipeline_manifest"):  # the second holds the Workflow of a run that was just created
        try:
            status = parse_json(runtime.get(key) or "{}").get("status") or {}
            nodes = status.get("nodes") or _unpacked(status.get("compressedNodes"))
        except (ValueError, AttributeError, TypeError):
            continue
        if isinstance(nodes, dict) and nodes:
            yield from (node for node in nodes.values() if isinstance(node, dict))
            return


def _unpacked(packed: Any) -> Any:
    """A large Workflow keeps its nodes gzipped. Raises: ValueError: damaged, or larger than is read."""
    if not isinstance(packed, str):
        return {}
    try:
        unzip = zlib.decompressobj(wbits=31)
        data = unzip.decompress(base64.b64decode(packed, validate=True), MAX_JSON_BYTES)
    except zlib.error as error:
        raise ValueError("damaged nodes") from error
    if unzip.unconsumed_tail:
        raise ValueError("too many nodes")
    return parse_json(data)


def step_of(node: Mapping[str, Any]) -> str:
    """The task's name out of an Argo node's path: `controller-x7k2p.root.train-lrf.executor(0)` is train-lrf."""
    path = [re.sub(r"\(\d+(?::[^)]*)?\)$", "", part) for part in str(node.get("name") or "").split(".")]
    named = [part for part in path[1:] if part and part not in ("root", "executor", "driver")]
    found = named[-1] if named else str(node.get("displayName") or "a step")
    return found.removesuffix("-driver")[:80]


def _short(text: str) -> str:
    return text if len(text) <= _CHARS else text[: _CHARS - 1] + "…"
