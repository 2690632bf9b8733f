"""What a fit and an adaptation tell: numbers only, ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from optimas_core.rewards._alignment import AlignmentResult


@dataclass(frozen=True)
class FitReport:
    """`train_loss` and `held_out_loss` hold one mean per epoch (one value in all for the frozen rung).

    `rows` is the number of distinct (x, y) read, `truncated` how many lost tokens from the middle of x_k, `outputs_cut`
    how many had a y_k longer than the backbone has positions (only then is y_k touched). `best_epoch` counts from 1.
    """

    rung: str
    loss: str
    train_loss: tuple[float, ...]
    held_out_loss: tuple[float, ...]
    best_epoch: int
    alignment: Mapping[str, AlignmentResult]
    n_pairs: int
    n_held_out_pairs: int
    rows: int
    truncated: int
    outputs_cut: int
    steps: int
    micro_batch_pairs: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Drift:
    """Pairwise accuracy on the same held-out pairs, before and after an adaptation."""

    before: AlignmentResult
    after: AlignmentResult

    @property
    def loss_of_accuracy(self) -> float:
        return self.before.accuracy - self.after.accuracy


@dataclass(frozen=True)
class AdaptReport:
    """One adaptation of r_k. `kept` False: everything was rolled back, bit for bit, and `reason` says why.

    `own` is the adapted component's accuracy on its own guard pairs, None without any; `drift` every other component's.
    """

    component: str
    kept: bool
    reason: str
    own: Drift | None
    drift: Mapping[str, Drift]
    train_loss: tuple[float, ...]
    n_pairs: int
    n_replay: int
    steps: int
    rows: int
    truncated: int
    outputs_cut: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
