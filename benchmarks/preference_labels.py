"""Equivalent system runs for each correctly labelled pair: ours beside the paper's plain procedure, at equal label accuracy.

    python benchmarks/preference_labels.py [--examples 400] [--candidates 4] [--quick] [--json]

The system is simulated (`_speed/simulated.py`), so the true expected reward of every candidate output is known and a label is
right or wrong. Seeds are fixed: the same arguments print the same table.

*Plain* is the paper's section 4.1 as written: n rollouts of everything after C_k for every candidate, the higher mean is
preferred, whatever the gap; means that tie give no pair. *Ours* is `optimas_core.preferences.collect` as a run uses it. System
runs count executed components as a share of the system (the paper's Table 3), those the cache served not.

Each row of ours stands beside the plain procedure at the n, interpolated, at which its labels are as accurate; `ratio` is ours
over plain, in system runs for a correct pair. The rows "without racing" and "plain, noise rule" show where the saving comes from.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from _speed.simulated import CHOSEN, PlainInput, examples, plain, system, true_reward
from _speed.table import Column, Figure, Found

from optimas_core.preferences import Collected, ScoredCandidate, collect, label_pairs
from optimas_core.rollouts import Budget, RolloutEngine
from optimas_core.spec import BudgetSettings, PreferenceSettings

MOST = 96
COLUMNS = (
    Column("way", "procedure"),
    Column("rollouts", "rollouts"),
    Column("accuracy", "accuracy", ".3f"),
    Column("pairs", "pairs"),
    Column("system_runs", "system runs", ".0f"),
    Column("runs_per_correct", "runs a correct pair", ".3f"),
    Column("plain_rollouts", "plain needs n", ".1f"),
    Column("plain_runs_per_correct", "and runs", ".3f"),
    Column("ratio", "ratio", ".3f"),
)


@dataclass(frozen=True, slots=True)
class Labels:
    pairs: int
    correct: int
    system_runs: float

    @property
    def accuracy(self) -> float:
        return self.correct / self.pairs

    @property
    def runs_per_correct(self) -> float:
        return self.system_runs / self.correct


def judged(pairs: Iterable[tuple[Any, Any]], system_runs: float) -> Labels:
    """`pairs` of (preferred, other) outputs."""
    right = [true_reward(better) > true_reward(worse) for better, worse in pairs]
    return Labels(len(right), sum(right), system_runs)


def collected(count: int, settings: PreferenceSettings) -> tuple[Collected, float]:
    """Our preference data of the rewriter, and the system runs it took."""
    budget = Budget(BudgetSettings())
    engine = RolloutEngine(system(), budget, concurrency=64)
    start = engine.system.configuration
    work = collect(engine, CHOSEN, examples(count), start, settings, stage="benchmark", iteration=0, seed=0)
    return asyncio.run(work), budget.spent().system_runs


def ours(data: Collected, system_runs: float) -> Labels:
    return judged(((pair.chosen.output, pair.rejected.output) for record in data.inputs for pair in record.pairs), system_runs)


def every_pair(item: PlainInput, n: int) -> list[tuple[Any, Any]]:
    """The paper's labels: the higher mean of n rollouts."""
    ranked = sorted(zip((sum(rewards[:n]) for rewards in item.rewards), range(len(item.outputs)), strict=True), reverse=True)
    return [
        (item.outputs[better], item.outputs[worse])
        for place, (score, better) in enumerate(ranked)
        for other, worse in ranked[place + 1 :]
        if score > other
    ]


def beyond_noise(item: PlainInput, n: int) -> list[tuple[Any, Any]]:
    """The same rollouts with our rule for labels: a gap above one standard error."""
    scored = [ScoredCandidate(("",), output, rewards[:n]) for output, rewards in zip(item.outputs, item.rewards, strict=True)]
    least = PreferenceSettings().min_gap_se
    return [(pair.chosen.output, pair.rejected.output) for pair in label_pairs(scored, min_gap_se=least, deterministic=False)]


def at(data: Sequence[PlainInput], n: int, rule: Callable[[PlainInput, int], list[tuple[Any, Any]]]) -> Labels:
    runs = sum(item.runs_before + n * len(item.outputs) * item.runs_a_rollout for item in data)
    return judged((pair for item in data for pair in rule(item, n)), runs)


def equally_accurate(curve: Sequence[tuple[int, Labels]], accuracy: float) -> tuple[float, float] | None:
    """(n, runs for a correct pair) where the plain procedure reaches `accuracy`, between the two n around it; None: never."""
    for (n, below), (following, above) in itertools.pairwise(curve):
        if below.accuracy <= accuracy <= above.accuracy:
            part = (accuracy - below.accuracy) / max(above.accuracy - below.accuracy, 1e-12)
            return n + part * (following - n), below.runs_per_correct + part * (above.runs_per_correct - below.runs_per_correct)
    return None


def row(way: str, rollouts: int, labels: Labels, curve: Sequence[tuple[int, Labels]]) -> dict[str, Any]:
    equal = equally_accurate(curve, labels.accuracy)
    return {
        "way": way,
        "rollouts": rollouts,
        "accuracy": labels.accuracy,
        "pairs": labels.pairs,
        "system_runs": labels.system_runs,
        "runs_per_correct": labels.runs_per_correct,
        "plain_rollouts": equal[0] if equal else None,
        "plain_runs_per_correct": equal[1] if equal else None,
        "ratio": labels.runs_per_correct / equal[1] if equal else None,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="few examples: a smoke test")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    asked = parser.parse_args(arguments)
    count = 40 if asked.quick else asked.examples
    default = PreferenceSettings(candidates=asked.candidates)
    sizes = [default.rollouts] if asked.quick else [default.rollouts, 8, 16]
    taken = {
        (n, racing): collected(count, default.model_copy(update={"rollouts": n, "racing": racing}))
        for n in sizes
        for racing in (True, False)
    }
    first, _ = taken[sizes[0], True]
    candidates = [[item.output for item in record.candidates] for record in first.inputs]
    measured = asyncio.run(plain(system(), examples(count), candidates, MOST))
    tried = [*range(1, 17), *range(18, 33, 2), *range(36, MOST + 1, 4)]
    curve = [(n, at(measured, n, every_pair)) for n in tried]
    rows = [row("plain", n, at(measured, n, every_pair), curve) for n in sizes]
    rows += [row("plain, noise rule", n, at(measured, n, beyond_noise), curve) for n in sizes]
    rows += [row("ours, without racing", n, ours(*taken[n, False]), curve) for n in sizes]
    rows += [row("ours", n, ours(*taken[n, True]), curve) for n in sizes]
    mine = next(item for item in rows if item["way"] == "ours" and item["rollouts"] == default.rollouts)
    why = f"the plain procedure does not reach {mine['accuracy']:.3f} in {MOST} rollouts"
    figure = Figure(
        "runs-per-correct-pair",
        "system runs for a correctly labelled pair, ours at its defaults over plain at equal accuracy",
        mine["ratio"],
        1 / 3,
        "lower",
        why=why,
    )
    facts = {"examples": count, "candidates": asked.candidates, "components": len(system().components)}
    Found([figure], COLUMNS, rows, facts).show(as_json=asked.json)


if __name__ == "__main__":
    main()
