"""What stages read of JSON that other stages committed. A workspace may come from anyone: another form is damage, no defect."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from optimas_core.artifacts import Artifact
from optimas_core.errors import ArtifactCorrupt


class _Committed(BaseModel):
    """Only what a later stage reads is named; the rest is the report's."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class ProposalShape(_Committed):
    component: str
    knob: str
    values: dict[str, Any]
    proposer: str
    summary: str
    sources: list[str]


class DroppedShape(_Committed):
    label: str
    proposer: str
    summary: str
    reason: str


class CandidateShape(_Committed):
    values: dict[str, Any]
    measured_reward: float | None


class RankingShape(_Committed):
    knob: str
    candidates: list[CandidateShape]
    values: dict[str, Any] | None
    reason: str


class AlignmentShape(_Committed):
    accuracy: float = Field(ge=0, le=1)
    low: float
    high: float
    n_pairs: int = Field(ge=0)
    n_examples: int = Field(ge=0)


class MetricsShape(_Committed):
    alignment: dict[str, AlignmentShape]
    adapted: bool | None = None


class VerdictShape(_Committed):
    kind: Literal["accept", "reject", "indecisive"]
    reason: str
    alpha_spent: float = Field(ge=0, le=1)
    difference: float | None
    incumbent_mean: float | None
    challenger_mean: float | None


class _DifferenceShape(_Committed):
    mean: float | None
    n: int


class SealedTestShape(_Committed):
    difference: _DifferenceShape


class MovementShape(_Committed):
    kind: Literal["fell", "rose", "same"]
    then: float | None
    now: float | None
    difference: float | None
    low: float | None
    high: float | None
    n_pairs: int = Field(ge=0)


class NowShape(_Committed):
    mean: float | None
    n: int = Field(ge=0)


class DriftShape(_Committed):
    moved: bool
    reason: str
    run: str
    configuration: str
    lrf: str | None
    now: NowShape
    score: MovementShape | None
    alignment: dict[str, MovementShape]
    preferences: dict[str, str]


def committed(artifact: Artifact, file: str, shape: Any) -> Any:
    """The value of an artifact's JSON file, which has at least what `shape` names.

    Raises:
        ArtifactCorrupt: it is not JSON, or has another form; names the place in it.
    """
    if file not in artifact.names:
        raise ArtifactCorrupt(f"{artifact.uri} has no {file}.", remedy="Delete that folder and resume: the stage is run again.")
    value = artifact.read_json(file)
    try:
        _adapter(shape).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(ascii(part)[:80].strip("'") for part in first["loc"])[:200] or "the whole"
        raise ArtifactCorrupt(
            f"{artifact.uri}/{file}: {place}: {first['msg'][:200]}.", remedy="Delete that folder and resume: the stage is run again."
        ) from None
    return value


@lru_cache(maxsize=16)
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
