"""Seeded sampling: independent of the batch, drawn from the softmax, inside the nucleus."""

from __future__ import annotations

import pytest

from optimas_core.models._local_sampling import RowSampling, choose_tokens

torch = pytest.importorskip("torch")


def logits(rows: int, vocabulary: int = 500) -> object:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(1))


def test_a_row_draws_the_same_alone_and_among_others() -> None:
    values = logits(6)
    rows = [RowSampling(0.0 if i == 2 else 1.0, 0.9 if i % 2 else 1.0, seed=i) for i in range(6)]
    steps = [0, 3, 1, 7, 2, 5]
    together = choose_tokens(values, rows, steps)
    for i in range(6):
        assert choose_tokens(values[i : i + 1], [rows[i]], [steps[i]]).item() == together[i].item()
    order = [4, 2, 0, 5, 1, 3]
    shuffled = choose_tokens(values[order], [rows[i] for i in order], [steps[i] for i in order])
    assert shuffled.tolist() == [together[i].item() for i in order]


def test_temperature_zero_is_greedy() -> None:
    values = logits(3)
    assert choose_tokens(values, [RowSampling(0.0, 0.1, seed=9)] * 3, [0, 1, 2]).tolist() == values.argmax(-1).tolist()


def test_draws_follow_the_softmax_at_the_given_temperature() -> None:
    values = torch.log(torch.tensor([0.5, 0.3, 0.2])).repeat(4000, 1)
    drawn = choose_tokens(values, [RowSampling(2.0, 1.0, seed=i) for i in range(4000)], [3] * 4000)
    expected = torch.tensor([0.5, 0.3, 0.2]).sqrt()
    expected /= expected.sum()
    shares = torch.bincount(drawn, minlength=3) / 4000
    assert torch.allclose(shares, expected, atol=0.03)  # about 4 standard errors


def test_steps_and_seeds_give_different_draws() -> None:
    flat = torch.zeros(64, 1000)
    by_step = choose_tokens(flat, [RowSampling(1.0, 1.0, seed=5)] * 64, list(range(64)))
    by_seed = choose_tokens(flat, [RowSampling(1.0, 1.0, seed=i) for i in range(64)], [5] * 64)
    assert len(set(by_step.tolist())) > 50 and len(set(by_seed.tolist())) > 50


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    values = torch.log(torch.tensor([0.05, 0.5, 0.15, 0.3])).repeat(400, 1)
    drawn = {p: set() for p in (0.4, 0.6, 0.9)}
    for p, found in drawn.items():
        found |= set(choose_tokens(values, [RowSampling(1.0, p, seed=i) for i in range(400)], [0] * 400).tolist())
    assert drawn == {0.4: {1}, 0.6: {1, 3}, 0.9: {1, 2, 3}}


def test_a_seed_of_63_bits_is_taken_whole() -> None:
    flat = torch.zeros(2, 1000)
    a, b = choose_tokens(flat, [RowSampling(1.0, 1.0, seed=7), RowSampling(1.0, 1.0, seed=7 + 2**40)], [0, 0]).tolist()
    assert a != b
