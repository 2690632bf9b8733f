"""What one execution of a system did, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

StepStatus = Literal["ran", "skipped", "given"]


@dataclass(frozen=True, slots=True)
class Step:
    """(x_k, y_k) of one component. `given`: its outputs were fixed by the caller and it did not run."""

    component: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    status: StepStatus


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Steps in topological order and every field that was written, the system's inputs included."""

    steps: Mapping[str, Step]
    fields: Mapping[str, Any]

    def outputs(self, names: tuple[str, ...]) -> dict[str, Any]:
        """The named final fields, whichever component wrote them; None where its writer was skipped."""
        return {name: self.fields.get(name) for name in names}
