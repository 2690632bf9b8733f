"""Local Reward Functions: r_k(x_k, y_k) = h_k(phi([x_k, y_k])), how they are fitted, adapted, judged and stored.

Importing this package imports neither torch nor transformers: each name is loaded on first use.
Pure numbers (`pairwise_accuracy`, `decision_alignment`, `RewardPair`) never need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimas_core.rewards._alignment import (
        AlignmentResult,
        DecisionAlignment,
        better_than_chance,
        decision_alignment,
        pairwise_accuracy,
    )
    from optimas_core.rewards._backbone import Backbone, load_backbone
    from optimas_core.rewards._lessons import follow
    from optimas_core.rewards._losses import bradley_terry, soft_gap
    from optimas_core.rewards._model import RewardModel
    from optimas_core.rewards._pairs import RewardPair, render, split_by_example
    from optimas_core.rewards._ranks import ALONE, ProcessesLost, Ranks, training_processes
    from optimas_core.rewards._reports import AdaptReport, Drift, FitReport

_HOME = {
    "ALONE": "_ranks",
    "AdaptReport": "_reports",
    "AlignmentResult": "_alignment",
    "Backbone": "_backbone",
    "DecisionAlignment": "_alignment",
    "Drift": "_reports",
    "FitReport": "_reports",
    "ProcessesLost": "_ranks",
    "Ranks": "_ranks",
    "RewardModel": "_model",
    "RewardPair": "_pairs",
    "better_than_chance": "_alignment",
    "bradley_terry": "_losses",
    "decision_alignment": "_alignment",
    "follow": "_lessons",
    "load_backbone": "_backbone",
    "pairwise_accuracy": "_alignment",
    "render": "_pairs",
    "soft_gap": "_losses",
    "split_by_example": "_pairs",
    "training_processes": "_ranks",
}

__all__ = [
    "ALONE",
    "AdaptReport",
    "AlignmentResult",
    "Backbone",
    "DecisionAlignment",
    "Drift",
    "FitReport",
    "ProcessesLost",
    "Ranks",
    "RewardModel",
    "RewardPair",
    "better_than_chance",
    "bradley_terry",
    "decision_alignment",
    "follow",
    "load_backbone",
    "pairwise_accuracy",
    "render",
    "soft_gap",
    "split_by_example",
    "training_processes",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value
