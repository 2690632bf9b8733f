"""The two losses of a Local Reward Function, as pure functions of the difference r_k(x, y+) - r_k(x, y-)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def bradley_terry(diff: Tensor, *, reduction: str = "mean") -> Tensor:
    """-log sigmoid(diff), unweighted. diff [pairs]; returns a scalar (mean), or [pairs] for reduction "none".

    Source: Eq. 4 (it is a loss: theorem 4.1's "maximizer" is its minimizer).
    """
    from torch.nn.functional import softplus

    return _reduce(softplus(-diff), reduction)


def soft_gap(diff: Tensor, gap: Tensor, beta: float, *, reduction: str = "mean") -> Tensor:
    """Cross entropy of sigmoid(diff) against the target probability sigmoid(beta * gap). diff, gap [pairs].

    Its minimum is at diff = beta * gap, so the reward learns the size of the measured difference R+ - R-, and means of
    rewards over inputs order configurations as means of R do. With infinite beta it is `bradley_terry`.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits

    target = (beta * gap).sigmoid()
    return _reduce(binary_cross_entropy_with_logits(diff, target, reduction="none"), reduction)


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    return losses.mean() if reduction == "mean" else losses
