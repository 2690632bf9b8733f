"""Choosing the next token of every row of a batch, so that no row's choice depends on its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class RowSampling:
    """How one row is decoded. `temperature` 0 is greedy; then `seed` and `top_p` are not used."""

    temperature: float
    top_p: float
    seed: int


def choose_tokens(logits: Tensor, rows: Sequence[RowSampling], steps: Sequence[int]) -> Tensor:
    """Next token of each row, int64 `[rows]`, from `logits` `[rows, vocabulary]`.

    A sampled row takes the argmax of `logits / temperature + g` with Gumbel noise g drawn from (seed, step) alone,
    which is a draw from the softmax; so a request has one answer per seed, in whatever batch it runs.

    Source: Gumbel-max trick (Maddison et al. 2014).
    """
    import torch

    chosen: Tensor = logits.argmax(dim=-1)
    sampled = [i for i, row in enumerate(rows) if row.temperature > 0]
    if not sampled:
        return chosen
    index = torch.tensor(sampled, device=logits.device)
    temperature = torch.tensor([rows[i].temperature for i in sampled], device=logits.device)
    scores = logits[index].float() / temperature[:, None]
    nucleus = [j for j, i in enumerate(sampled) if rows[i].top_p < 1]
    if nucleus:
        at = torch.tensor(nucleus, device=logits.device)
        top_p = torch.tensor([rows[sampled[j]].top_p for j in nucleus], device=logits.device)
        scores[at] = _keep_nucleus(scores[at], top_p)
    scores += torch.stack([_gumbel(rows[i].seed, steps[i], logits.shape[-1]) for i in sampled]).to(logits.device)
    chosen[index] = scores.argmax(dim=-1)
    return chosen


def _keep_nucleus(scores: Tensor, top_p: Tensor) -> Tensor:
    """Minus infinity outside the smallest set of tokens whose probability reaches `top_p` `[rows]`."""
    ordered, order = scores.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    ordered = ordered.masked_fill(before >= top_p[:, None].clamp(min=1e-9), float("-inf"))
    return scores.scatter(-1, order, ordered)


def _gumbel(seed: int, step: int, size: int) -> Tensor:
    """Standard Gumbel noise `[size]`, float32, a pure function of (seed, step)."""
    import numpy
    import torch

    # Philox with the pair as its key: any step's noise without drawing the earlier ones, the same on every machine.
    generator = numpy.random.Generator(numpy.random.Philox(key=[seed % 2**64, step]))
    exponential = torch.from_numpy(generator.standard_exponential(size, dtype=numpy.float32))
    return -exponential.clamp_(min=1e-12).log_()
