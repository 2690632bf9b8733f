"""The Protocol of an acceptance rule, and the one that a run spec names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, assert_never

from optimas_core.acceptance._paired_sequential import PairedSequentialGate
from optimas_core.acceptance._strict import StrictGate
from optimas_core.acceptance._verdict import Decision, ScorePair
from optimas_core.spec import AcceptanceSettings, PairedSequentialAcceptance, StrictAcceptance


class Gate(Protocol):
    """Judges a challenger against the incumbent on the same items.

    The caller fixes the order of the validation items once per run, measures both arms on the first `first_items`, and
    calls `decide` with the pairs in item order (None where a score is missing). While the answer is `continue` it measures
    up to `next_items` items in total and calls again with ALL pairs from item 0. With `available` items it ends.
    """

    def first_items(self, available: int) -> int:
        """How many items to measure before the first call."""
        ...

    def decide(
        self,
        pairs: Sequence[ScorePair],
        *,
        alpha: float,
        available: int,
        metric_range: tuple[float, float],
        seed: int,
    ) -> Decision:
        """A pure function of its arguments. `alpha` is this test's level; `seed` must not change during a test."""
        ...


def gate_for(settings: AcceptanceSettings) -> Gate:
    """The gate that the `acceptance` section of run.yaml names."""
    match settings:
        case StrictAcceptance():
            return StrictGate(items=settings.items)
        case PairedSequentialAcceptance():
            return PairedSequentialGate(
                items=settings.items,
                first_look=settings.first_look,
                max_missing=settings.max_missing,
                futility_gain=settings.futility_gain,
            )
        case _:
            assert_never(settings)
