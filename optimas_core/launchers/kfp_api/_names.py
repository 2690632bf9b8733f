"""Names of everything we make in Kubeflow Pipelines: derived, never random, so that whoever starts again finds what is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from optimas_core.canonical import canonical_json, digest_bytes
from optimas_core.errors import SpecError

# A text of more than about 128 KiB fails on the cluster with nothing but "No more retries left", and each one is copied into many nodes.
MAX_PARAMETER_BYTES = 100_000
_VERSION_DIGEST_CHARS = 16


def child_run_name(run_id: str, iteration: int) -> str:
    """The KFP run of one iteration: `<run_id>-it-0007`."""
    if iteration < 0:
        raise ValueError(f"iteration {iteration} is negative")
    return f"{run_id}-it-{iteration:04d}"


def stage_run_name(run_id: str, stage: Literal["warm-up", "sealed-test"]) -> str:
    """The KFP runs before the first iteration and after the last one."""
    return f"{run_id}-{stage}"


def child_prefix(run_id: str) -> str:
    """What the names of all its children begin with; `is_child_run` tells them from other runs that are called alike."""
    return f"{run_id}-"


def is_child_run(name: str, run_id: str) -> bool:
    """Whether `name` is a KFP run that this run's controller submitted: another run may be called like `<run_id>-it-is-late`."""
    return re.fullmatch(re.escape(child_prefix(run_id)) + r"(?:it-\d{4,}|warm-up|sealed-test)(?:-again-\d+)?", name) is not None


def attempt_name(run_id: str, attempt: int) -> str:
    """The controller's KFP run: the run id, and `<run_id>-again-2` for what was started again after a failure."""
    return run_id if attempt == 1 else f"{run_id}-again-{attempt}"


def version_name(pipeline: str, yaml: bytes) -> str:
    """Name of a pipeline version: what the YAML is decides it, so the same YAML is uploaded once."""
    return f"{pipeline}-{digest_bytes(yaml)[:_VERSION_DIGEST_CHARS]}"


def checked_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as they may be sent.

    Raises:
        SpecError: a value JSON cannot hold, or one of more than `MAX_PARAMETER_BYTES`.
    """
    for name, value in parameters.items():
        try:
            size = len(value.encode() if isinstance(value, str) else canonical_json(value).encode("utf-8", "surrogatepass"))
        except (TypeError, ValueError) as error:
            raise SpecError(f"pipeline parameter {name!r} is no JSON: {error}.", remedy="Give it plain values.") from None
        if size > MAX_PARAMETER_BYTES:
            raise SpecError(
                f"pipeline parameter {name!r} has {size} bytes; a cluster takes at most {MAX_PARAMETER_BYTES}.",
                remedy="Keep the value in the workspace and pass its URI and digest.",
            )
    return dict(parameters)
