"""A proposal: other knobs for one component. And the Protocol of those who make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from optimas_core.canonical import canonical_json, digest
from optimas_core.system import Component


@dataclass(frozen=True, slots=True)
class Proposal:
    """Knob values that replace the incumbent's. `proposer` and `summary` say where it came from, for the report.

    `sources` are training examples that are shown in it: it is never ranked on those.
    """

    component: str
    knob: str
    values: Mapping[str, Any]
    proposer: str
    summary: str
    sources: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Stable short name: proposer and content."""
        return f"{self.proposer}:{digest([self.component, self.values])[:8]}"

    def to_json(self) -> dict[str, Any]:
        return {
            "component": self.component,
            "knob": self.knob,
            "values": dict(self.values),
            "proposer": self.proposer,
            "summary": self.summary,
            "sources": list(self.sources),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Proposal:
        return cls(data["component"], data["knob"], dict(data["values"]), data["proposer"], data["summary"], tuple(data["sources"]))


@dataclass(frozen=True, slots=True)
class Observation:
    """One execution of the component inside the system: x_k, y_k and the global reward it led to. Training split only."""

    example_id: str
    inputs: Mapping[str, Any]
    output: Mapping[str, Any]
    reward: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier proposal of this component's knob, with its mean local reward (None where it was never scored)."""

    values: Mapping[str, Any]
    score: float | None


@dataclass(frozen=True, slots=True)
class Situation:
    """What a proposer may look at: the component under its incumbent knobs, observations, earlier attempts, a seed."""

    component: Component
    knob: str
    knobs: Mapping[str, Any]
    observations: Sequence[Observation] = ()
    attempts: Sequence[Attempt] = field(default_factory=tuple)
    count: int = 3
    seed: int = 0


class Proposer(Protocol):
    """Makes proposals, for a prompt at most `situation.count`; the incumbent is never one of them (it is always a candidate anyway)."""

    async def propose(self, situation: Situation) -> list[Proposal]: ...


def without_repeats(proposals: Sequence[Proposal], knobs: Mapping[str, Any]) -> list[Proposal]:
    """Drop proposals equal to the incumbent or to an earlier one, keeping the order."""
    seen = {canonical_json(knobs)}
    kept = []
    for proposal in proposals:
        content = canonical_json({**knobs, **proposal.values})
        if content not in seen:
            seen.add(content)
            kept.append(proposal)
    return kept
