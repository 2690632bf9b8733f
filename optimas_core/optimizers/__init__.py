"""Local optimization: who proposes other configurations of a component, and how discrete values are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimas_core.optimizers._choices import OtherValues, choice_probabilities, draw_better
from optimas_core.optimizers._demonstrations import Demonstrations
from optimas_core.optimizers._edits import Edits
from optimas_core.optimizers._leak_guard import Dropped, LeakGuard
from optimas_core.optimizers._proposal import Attempt, Observation, Proposal, Proposer, Situation, without_repeats

if TYPE_CHECKING:
    from optimas_core.optimizers._opro import Opro, largest_question, parse_proposals

__all__ = [
    "Attempt",
    "Demonstrations",
    "Dropped",
    "Edits",
    "LeakGuard",
    "Observation",
    "Opro",
    "OtherValues",
    "Proposal",
    "Proposer",
    "Situation",
    "choice_probabilities",
    "draw_better",
    "largest_question",
    "parse_proposals",
    "without_repeats",
]


def __getattr__(name: str) -> Any:
    if name not in ("Opro", "largest_question", "parse_proposals"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from optimas_core.optimizers import _opro

    return getattr(_opro, name)
