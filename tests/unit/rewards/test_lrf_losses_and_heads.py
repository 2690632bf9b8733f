"""Eq. 4 and the soft gap loss at known values, and the convex fit of a head."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core.rewards import bradley_terry, soft_gap
from optimas_core.rewards._heads import L2_GRID, Head, fit_head, pair_losses, targets


@pytest.mark.parametrize(("diff", "loss"), [(1.0, 0.313262), (0.0, 0.693147), (-1.0, 1.313262)])
def test_bradley_terry_reference_values(diff: float, loss: float) -> None:
    import torch

    assert float(bradley_terry(torch.tensor([diff]))) == pytest.approx(loss, abs=1e-6)


def test_bradley_terry_is_the_unweighted_mean() -> None:
    import torch

    assert float(bradley_terry(torch.tensor([1.0, -1.0]))) == pytest.approx((0.313262 + 1.313262) / 2, abs=1e-6)


def test_losses_are_finite_far_out() -> None:
    import torch

    far = torch.tensor([1e4, -1e4])
    assert bradley_terry(far, reduction="none").tolist() == pytest.approx([0.0, 1e4])
    assert torch.isfinite(soft_gap(far, torch.tensor([0.3, 0.3]), 4.0))


@pytest.mark.parametrize("gap", [0.05, 0.35, 1.0])
def test_soft_gap_is_least_where_the_difference_is_beta_times_the_gap(gap: float) -> None:
    import torch

    diff = torch.tensor([4.0 * gap], requires_grad=True)
    soft_gap(diff, torch.tensor([gap]), 4.0).backward()
    assert diff.grad is not None
    assert float(diff.grad) == pytest.approx(0.0, abs=1e-7)


def test_soft_gap_tends_to_bradley_terry() -> None:
    import torch

    diff = torch.tensor([0.7, -0.2])
    assert float(soft_gap(diff, torch.tensor([0.5, 0.5]), 1e3)) == pytest.approx(float(bradley_terry(diff)), abs=1e-6)


@given(st.lists(st.tuples(st.floats(-30, 30), st.floats(0, 1)), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_numpy_and_torch_losses_agree(rows: list[tuple[float, float]]) -> None:
    import torch

    diff, gap = np.array(rows).T
    for loss, value in (
        ("soft_gap", soft_gap(torch.tensor(diff), torch.tensor(gap), 4.0)),
        ("bradley_terry", bradley_terry(torch.tensor(diff))),
    ):
        assert pair_losses(diff, targets(gap, loss, 4.0)).mean() == pytest.approx(float(value), rel=1e-9, abs=1e-12)


def _problem(seed: int, pairs: int = 120, features: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=features)
    differences = rng.normal(size=(pairs, features))
    target = 1.0 / (1.0 + np.exp(-differences @ truth))
    return truth, differences, target, [f"e{index // 4}" for index in range(pairs)]


def test_a_head_finds_the_direction_and_is_a_stationary_point() -> None:
    truth, differences, target, names = _problem(0)
    head = fit_head(differences, target, names, seed=0)
    assert np.corrcoef(head.weights, truth)[0, 1] > 0.95
    probability = 1.0 / (1.0 + np.exp(-differences @ head.weights))
    gradient = differences.T @ (probability - target) / len(target) + head.l2 * head.weights
    assert np.abs(gradient).max() < 1e-4
    assert head.l2 in L2_GRID


def test_noise_asks_for_more_regularization_than_signal() -> None:
    _, differences, target, names = _problem(1)
    noise = np.random.default_rng(2).random(len(target))
    assert fit_head(differences, noise, names, seed=0).l2 > fit_head(differences, target, names, seed=0).l2


def test_an_adapted_head_stays_near_its_start_on_little_data() -> None:
    _, differences, target, names = _problem(3)
    start = fit_head(differences, target, names, seed=0)
    one = fit_head(differences[:1], 1.0 - target[:1], names[:1], seed=0, start=start)
    assert 0.0 < float(np.linalg.norm(one.weights - start.weights)) < 10 * float(np.linalg.norm(start.weights))
    assert one.l2 == start.l2
    unchanged = fit_head(differences[:0], target[:0], [], seed=0, start=start)
    assert np.array_equal(unchanged.weights, start.weights)


def test_separable_and_degenerate_problems_have_finite_heads() -> None:
    _, differences, _, names = _problem(4)
    ones = np.ones(len(names))
    assert np.isfinite(fit_head(np.abs(differences), ones, names, seed=0).weights).all()
    assert not fit_head(differences * 0.0, ones, names, seed=0).weights.any()
    assert not fit_head(differences[:0], ones[:0], [], seed=0).weights.any()


def test_a_row_scores_the_same_alone_and_among_others() -> None:
    rng = np.random.default_rng(0)
    head = Head(rng.normal(size=384), 1.0)
    rows = rng.normal(size=(37, 384)).astype(np.float32)
    together = head.score(rows)
    assert all(float(head.score(rows[index : index + 1])[0]) == together[index] for index in range(37))
    assert math.isfinite(together.sum())
