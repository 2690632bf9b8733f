"""How well a local reward agrees with the global one: on pairs, and on the decision between configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optimas_core.errors import DataError, MetricError, TrainingDiverged
from optimas_core.rewards._intervals import clopper_pearson, student_quantile


@dataclass(frozen=True)
class AlignmentResult:
    """Share of pairs ordered as the global reward orders them; `low` and `high` bound it at the chosen confidence."""

    accuracy: float
    low: float
    high: float
    n_pairs: int
    n_examples: int


@dataclass(frozen=True)
class DecisionAlignment:
    """Whether local means choose the configuration that global means would choose.

    `spearman`: rank correlation of mean local and mean global reward over the candidates, None when either side does
    not vary. `regret`: global reward lost by taking the local argmax, as a share of best minus worst, None when all
    candidates are equally good; candidates that tie locally share the choice, so their mean counts.
    """

    spearman: float | None
    regret: float | None
    best_local: str
    best_global: str
    candidates: int
    examples: int


def pairwise_accuracy(
    rewards: Sequence[tuple[float, float]],
    example_ids: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
) -> AlignmentResult:
    """Accuracy over (r(x, y+), r(x, y-)), a tie counting 0.5, with an interval that knows pairs share examples.

    The interval is Korn and Graubard's: the exact binomial (Clopper-Pearson) with an effective number of pairs,
    n / design effect * (z / t with examples - 1 degrees of freedom)^2. The design effect is the variance of the
    accuracy with whole examples as the sampling unit over its binomial variance, between 1 and the value that total
    dependence within an example gives; where all pairs agree (accuracy 0 or 1) it cannot be estimated and
    total dependence is assumed. A bootstrap over examples would have zero width there, and 4 examples
    all ordered rightly are not yet evidence against chance.

    No pairs: accuracy 0.5 in [0, 1], that is "nothing known". Without `example_ids` every pair is an example of its own.

    Raises:
        TrainingDiverged: a reward is NaN or infinite.
        DataError: ids and rewards differ in number.
    """
    values = np.asarray(rewards, dtype=np.float64).reshape(-1, 2)
    names = [str(index) for index in range(len(values))] if example_ids is None else list(example_ids)
    if len(names) != len(values):
        raise DataError(f"{len(values)} pairs came with {len(names)} example ids.", remedy="Give one id for each pair.")
    _require_finite(values, "a held-out pair")
    if not len(values):
        return AlignmentResult(0.5, 0.0, 1.0, 0, 0)
    wins = np.where(values[:, 0] > values[:, 1], 1.0, np.where(values[:, 0] == values[:, 1], 0.5, 0.0))
    accuracy = float(wins.mean())
    position = {name: index for index, name in enumerate(dict.fromkeys(names))}
    owner = np.asarray([position[name] for name in names])
    size = np.bincount(owner).astype(np.float64)
    low, high = _interval(accuracy, size, np.bincount(owner, weights=wins), confidence)
    return AlignmentResult(accuracy, low, high, len(values), len(size))


def better_than_chance(result: AlignmentResult) -> bool:
    """True when the interval lies above one half. An LRF for which this is False must not steer."""
    return result.low > 0.5


def decision_alignment(local: Mapping[str, Mapping[str, float]], global_: Mapping[str, Mapping[str, float]]) -> DecisionAlignment:
    """Compare mean local and mean global reward of the candidates, over the examples that all of them have.

    Both arguments: candidate -> example id -> reward. Candidates are those named on both sides.

    Raises:
        DataError: no candidate, or no example, in common.
        TrainingDiverged, MetricError: a local, or a global, reward that is not finite.
    """
    candidates = sorted(set(local) & set(global_))
    if not candidates:
        raise DataError("no candidate has both local and global rewards.", remedy="Score and measure the same ones.")
    examples = sorted(set.intersection(*(set(side[name]) for side in (local, global_) for name in candidates)))
    if not examples:
        raise DataError(f"the candidates {candidates} have no example in common.", remedy="Measure all of them on the same examples.")
    local_table = np.asarray([[local[name][key] for key in examples] for name in candidates], dtype=np.float64)
    global_table = np.asarray([[global_[name][key] for key in examples] for name in candidates], dtype=np.float64)
    _require_finite(local_table, "a candidate")
    if not np.isfinite(global_table).all():
        raise MetricError("a global reward is NaN or infinite.", remedy="Make the metric return a finite number.")
    local_mean = np.asarray([math.fsum(row) / len(examples) for row in local_table])
    global_mean = np.asarray([math.fsum(row) / len(examples) for row in global_table])
    best, worst = float(global_mean.max()), float(global_mean.min())
    chosen = local_mean == local_mean.max()
    regret = None if best == worst else (best - float(global_mean[chosen].mean())) / (best - worst)
    return DecisionAlignment(
        spearman=_spearman(local_mean, global_mean),
        regret=regret,
        best_local=candidates[int(local_mean.argmax())],
        best_global=candidates[int(global_mean.argmax())],
        candidates=len(candidates),
        examples=len(examples),
    )


def _interval(accuracy: float, size: np.ndarray, won: np.ndarray, confidence: float) -> tuple[float, float]:
    """size, won [examples]: pairs of each example and how many of them (ties as halves) are ordered rightly."""
    examples, pairs = len(size), float(size.sum())
    if examples < 2:
        return 0.0, 1.0  # one example says nothing about others
    total_dependence = float((size**2).sum() / pairs)
    binomial = accuracy * (1.0 - accuracy) / pairs
    if binomial == 0.0:
        effect = total_dependence
    else:
        residual = won - accuracy * size
        clustered = examples / (examples - 1) * float((residual**2).sum()) / pairs**2
        effect = min(max(clustered / binomial, 1.0), max(total_dependence, 1.0))
    upper = 1.0 - (1.0 - confidence) / 2.0
    few_examples = (student_quantile(upper, pairs - 1.0) / student_quantile(upper, examples - 1.0)) ** 2
    effective = pairs / effect * min(few_examples, 1.0)
    if binomial == 0.0:
        effective = pairs / effect  # no variance was estimated, so its degrees of freedom do not enter
    return clopper_pearson(accuracy * effective, effective, confidence)


def _spearman(left: np.ndarray, right: np.ndarray) -> float | None:
    """Pearson correlation of the average ranks; None when a side has one rank only. left, right [candidates]."""
    left_rank, right_rank = _ranks(left), _ranks(right)
    left_rank -= left_rank.mean()
    right_rank -= right_rank.mean()
    scale = math.sqrt(float((left_rank**2).sum()) * float((right_rank**2).sum()))
    return None if scale == 0.0 else float((left_rank * right_rank).sum()) / scale


def _ranks(values: np.ndarray) -> np.ndarray:
    """Average ranks, ties sharing theirs. values [n] -> [n]."""
    below = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    ranks: np.ndarray = below + (equal - 1) / 2.0
    return ranks


def _require_finite(values: np.ndarray, where: str) -> None:
    if not np.isfinite(values).all():
        raise TrainingDiverged(f"a local reward of {where} is NaN or infinite.", remedy="Lower lrf.learning_rate and fit again.")
