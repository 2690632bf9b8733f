"""What the check said that a scheduled run begins with, as the report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def drift_of(decision: Mapping[str, Any]) -> dict[str, Any]:
    """The report's `drift`, from the decision that stage drift-check committed. `score` is None where nothing was comparable."""
    score = decision["score"]
    shown = None
    if score is not None:
        bounds = None if score["low"] is None else [score["low"], score["high"]]
        shown = {key: score[key] for key in ("kind", "then", "now", "difference")} | {"ci": bounds, "n": score["n_pairs"]}
    judged = {name: {key: item[key] for key in ("kind", "then", "now", "n_pairs")} for name, item in decision["alignment"].items()}
    told = {key: decision[key] for key in ("moved", "reason", "run", "now")}
    return told | {"score": shown, "alignment": judged}
