"""Gradient steps on LoRA and heads together: one optimizer step from any number of micro-batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from optimas_core.errors import TrainingDiverged
from optimas_core.rewards._backbone import Backbone
from optimas_core.rewards._batches import PairRows
from optimas_core.rewards._losses import bradley_terry, soft_gap
from optimas_core.rewards._ranks import ALONE, Ranks

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int, float], None]
"""Called after each optimizer step with (steps done, steps at most, loss of the step)."""

_WARM_UP = 0.1
_CLIP = 1.0


@dataclass(frozen=True)
class Objective:
    loss: Literal["soft_gap", "bradley_terry"]
    beta: float

    def __call__(self, diff: Tensor, gap: Tensor) -> Tensor:
        """Loss of each pair. diff, gap [pairs] -> [pairs]."""
        if self.loss == "bradley_terry":
            return bradley_terry(diff, reduction="none")
        return soft_gap(diff, gap, self.beta, reduction="none")


class Trainer:
    """Owns the optimizer and the trainable tensors of one fit or adaptation.

    `heads`: component -> [dim] tensor; only those named in `trainable` are updated, the others merely pass gradients
    on to the backbone (that is how rehearsed pairs of other components hold the shared LoRA in place). With several
    `ranks` each of them has a trainer that holds the same numbers, and takes the same steps.
    """

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, np.ndarray],
        trainable: Sequence[str],
        *,
        objective: Objective,
        learning_rate: float,
        total_steps: int,
        micro_batch_pairs: int,
        ranks: Ranks = ALONE,
    ) -> None:
        import torch

        self._backbone = backbone
        self._objective = objective
        self._learning_rate = learning_rate
        self._total_steps = total_steps
        self._ranks = ranks
        self.micro_batch_pairs = micro_batch_pairs
        self.steps = 0
        self.heads: dict[str, Any] = {}
        for name, weights in heads.items():
            tensor = torch.tensor(weights, dtype=torch.float32, device=backbone.device)
            self.heads[name] = tensor.requires_grad_(name in trainable)
        self._parameters = [*backbone.lora_parameters(), *(self.heads[name] for name in sorted(trainable))]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=learning_rate, weight_decay=0.0)

    def step(self, data: PairRows, batch: Sequence[int]) -> float:
        """`take`, in this process and in those that follow it."""
        self._ranks.tell({"do": "step", "batch": list(batch)})
        return self.take(data, batch)

    def take(self, data: PairRows, batch: Sequence[int]) -> float:
        """One optimizer step on a batch of pair numbers; returns its mean loss.

        The gradient is that of the mean over the whole batch, whatever the micro-batches and whichever process computes
        them. Where one does not fit in memory, the size is halved for good and the batch begins again from zero gradients.

        Raises:
            TrainingDiverged: the loss or a gradient is not finite.
        """
        import torch

        while True:
            self._optimizer.zero_grad(set_to_none=True)
            size = self._ranks.part_size(len(batch), self.micro_batch_pairs)
            share = self._ranks.share(data.micro_batches(batch, size))
            own = self._ranks.together(partial(self._loss, data, share, len(batch)), may_shrink=size > 1)
            if own is not None:
                break
            self.micro_batch_pairs = max(1, size // 2)
            if self._backbone.device.startswith("cuda"):
                torch.cuda.empty_cache()
        loss = self._ranks.add_up(self._parameters, own)
        norm = float(torch.nn.utils.clip_grad_norm_([p for p in self._parameters if p.grad is not None], _CLIP))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(
                f"the loss of step {self.steps + 1} is {loss} and the norm of its gradient {norm}.",
                remedy=f"Lower lrf.learning_rate (now {self._learning_rate:g}), or set lrf.precision to fp32.",
            )
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate * self._schedule()
        self._optimizer.step()
        self.steps += 1
        return loss

    def head_weights(self) -> dict[str, np.ndarray]:
        """The trainable heads as they are now: component -> [dim] float64."""
        return {name: tensor.detach().cpu().numpy().astype(np.float64) for name, tensor in self.heads.items() if tensor.requires_grad}

    def _loss(self, data: PairRows, share: Sequence[Sequence[int]], batch_pairs: int) -> float:
        return float(sum(self._accumulate(data, part, batch_pairs) for part in share))

    def _accumulate(self, data: PairRows, part: Sequence[int], batch_pairs: int) -> float:
        import torch

        numbers = np.asarray(part)
        used, place = np.unique(np.concatenate([data.chosen[numbers], data.rejected[numbers]]), return_inverse=True)
        vectors = self._backbone.encode([data.rows[index] for index in used])
        weights = torch.stack([self.heads[data.pairs[number].component] for number in part])
        better, worse = np.split(place, 2)
        diff = ((vectors[better.tolist()] - vectors[worse.tolist()]) * weights).sum(dim=1)
        gap = torch.tensor([data.pairs[number].gap for number in part], dtype=torch.float32, device=diff.device)
        loss = self._objective(diff, gap).sum() / batch_pairs
        loss.backward()
        return float(loss.detach())

    def _schedule(self) -> float:
        """Share of the learning rate: a linear warm-up over the first tenth, then linear to zero."""
        warm = max(1, round(_WARM_UP * self._total_steps))
        if self.steps < warm:
            return (self.steps + 1) / warm
        return max(0.0, (self._total_steps - self.steps) / max(1, self._total_steps - warm))
