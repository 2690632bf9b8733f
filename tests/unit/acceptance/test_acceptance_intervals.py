"""Intervals of the report: honest at small n, never zero-wide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.acceptance import mean_interval, paired_difference_interval

scores = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@pytest.mark.parametrize("n", [1, 5, 20, 350])
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_constant_scores_never_give_a_zero_wide_interval(n: int, value: float) -> None:
    interval = mean_interval([value] * n)
    assert 0 <= interval.low < interval.high <= 1
    assert interval.low <= value <= interval.high


def test_twenty_equal_differences_are_not_certainty() -> None:
    interval = paired_difference_interval([0.0] * 20)
    assert interval.low < -0.02 and interval.high > 0.02


@given(scores)
def test_the_mean_lies_inside_and_order_is_irrelevant(values: list[float]) -> None:
    interval = mean_interval(values)
    assert interval.low - 1e-9 <= sum(values) / len(values) <= interval.high + 1e-9
    assert mean_interval(values[::-1]) == interval


@given(scores)
def test_intervals_move_and_scale_with_the_range(values: list[float]) -> None:
    interval, scaled = mean_interval(values), mean_interval([10 + 5 * v for v in values], metric_range=(10, 15))
    assert scaled.low == pytest.approx(10 + 5 * interval.low, abs=1e-6)
    assert scaled.high == pytest.approx(10 + 5 * interval.high, abs=1e-6)


@pytest.mark.parametrize(("up", "down", "n"), [(0.1, 0.1, 20), (0.2, 0.1, 60), (0.05, 0.02, 60), (0.3, 0.05, 20)])
def test_paired_interval_covers(up: float, down: float, n: int) -> None:
    draws = np.random.default_rng(0).random((1500, n))
    differences = (draws < up).astype(float) - ((draws >= up) & (draws < up + down))
    intervals = [paired_difference_interval(row.tolist()) for row in differences]
    covered = np.mean([i.low <= up - down <= i.high for i in intervals])
    assert covered >= 0.93


@pytest.mark.parametrize(("p", "n"), [(0.35, 20), (0.35, 100), (0.1, 50), (0.95, 100)])
def test_mean_interval_covers(p: float, n: int) -> None:
    draws = (np.random.default_rng(1).random((1500, n)) < p).astype(float)
    intervals = [mean_interval(row.tolist()) for row in draws]
    assert np.mean([i.low <= p <= i.high for i in intervals]) >= 0.93


def test_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])
