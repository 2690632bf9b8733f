"""Linear heads h_k on fixed vectors: a convex problem, solved exactly and the same way every time (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimas_core.canonical import derive_seed

L2_GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_FOLDS = 4
_NEWTON_STEPS = 50
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Head:
    """Weights [features] float64 and the strength of the L2 term they were fitted with. No bias: r_k is only
    identified up to a constant, which cancels in every difference."""

    weights: np.ndarray
    l2: float

    def score(self, vectors: np.ndarray) -> np.ndarray:
        """[n, features] -> [n] float64, each row summed by itself so that n does not change a bit of the result."""
        scores: np.ndarray = (vectors.astype(np.float64) * self.weights).sum(axis=1)
        return scores


def targets(gaps: np.ndarray, loss: str, beta: float) -> np.ndarray:
    """The probability that y+ is preferred: 1 for `bradley_terry`, sigmoid(beta * gap) for `soft_gap`. [pairs]"""
    return np.ones(len(gaps)) if loss == "bradley_terry" else _sigmoid(beta * gaps)


def pair_losses(diffs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Cross entropy of sigmoid(diff) against `target`: both losses of `_losses.py`, in numpy. [pairs]"""
    losses: np.ndarray = np.logaddexp(0.0, diffs) - target * diffs
    return losses


def fit_head(differences: np.ndarray, target: np.ndarray, example_ids: Sequence[str], *, seed: int, start: Head | None = None) -> Head:
    """Minimize mean loss + l2/2 |w - w_0|^2 over w. differences [pairs, features], target [pairs].

    Without `start`, w_0 is 0 and l2 is the value of `L2_GRID` with the lowest loss over inner folds, folds divided by
    example; fewer than four examples take the strongest. With `start`, w_0 is its weights and l2 its own: what was
    learned before acts as the prior of the new data.
    """
    centre = np.zeros(differences.shape[1]) if start is None else start.weights
    if not len(differences):
        return Head(centre, L2_GRID[-1] if start is None else start.l2)
    # All solutions lie in w_0 + the span of the rows, so the problem is solved in its (much smaller) coordinates.
    _, scale, basis = np.linalg.svd(differences.astype(np.float64), full_matrices=False)
    basis = basis[scale > scale[0] * 1e-10]
    reduced = differences @ basis.T
    offset = differences @ centre
    l2 = _choose_l2(reduced, offset, target, example_ids, seed) if start is None else start.l2
    return Head(centre + _newton(reduced, offset, target, l2) @ basis, l2)


def _choose_l2(reduced: np.ndarray, offset: np.ndarray, target: np.ndarray, example_ids: Sequence[str], seed: int) -> float:
    names = sorted(set(example_ids), key=lambda name: derive_seed("l2-folds", seed, name))
    if len(names) < _FOLDS:
        return L2_GRID[-1]
    fold_of = {name: index % _FOLDS for index, name in enumerate(names)}
    fold = np.asarray([fold_of[name] for name in example_ids])
    losses = []
    for l2 in L2_GRID:
        total = 0.0
        for index in range(_FOLDS):
            inside = fold != index
            weights = _newton(reduced[inside], offset[inside], target[inside], l2)
            total += float(pair_losses(reduced[~inside] @ weights + offset[~inside], target[~inside]).sum())
        losses.append(total)
    return L2_GRID[int(np.argmin(losses))]


def _newton(rows: np.ndarray, offset: np.ndarray, target: np.ndarray, l2: float) -> np.ndarray:
    """Newton's method with halved steps on a strictly convex function: it converges from anywhere."""
    count, size = rows.shape
    weights = np.zeros(size)

    def objective(candidate: np.ndarray) -> float:
        return float(pair_losses(rows @ candidate + offset, target).mean() + 0.5 * l2 * candidate @ candidate)

    value = objective(weights)
    for _ in range(_NEWTON_STEPS):
        probability = _sigmoid(rows @ weights + offset)
        gradient = rows.T @ (probability - target) / count + l2 * weights
        curvature = (rows.T * (probability * (1.0 - probability))) @ rows / count
        curvature[np.diag_indices(size)] += l2
        step = np.linalg.solve(curvature, gradient)
        length = 1.0
        while (candidate_value := objective(weights - length * step)) > value and length > 1e-6:
            length /= 2.0
        if value - candidate_value <= _TOLERANCE:
            break
        weights, value = weights - length * step, candidate_value
    return weights


def _sigmoid(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.exp(-np.logaddexp(0.0, -values))
    return result
