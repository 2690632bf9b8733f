"""One row of a preference data set, its text, and the split that keeps an example on one side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optimas_core.canonical import canonical_json, derive_seed
from optimas_core.errors import DataError

_SEED_RANGE = float(1 << 63)  # derive_seed gives 63 bits


@dataclass(frozen=True)
class RewardPair:
    """(x_k, y_k+, y_k-) with the global rewards that the two outputs were measured to lead to.

    Source: paper section 4.1. `reward_chosen` and `reward_rejected` are Monte Carlo means of R (Eq. 3), in the
    metric's own units; the loss `soft_gap` reads their difference.
    """

    component: str
    example_id: str
    context: Mapping[str, Any]
    chosen: Mapping[str, Any]
    rejected: Mapping[str, Any]
    reward_chosen: float
    reward_rejected: float

    @property
    def gap(self) -> float:
        return self.reward_chosen - self.reward_rejected


def render(context: Mapping[str, Any], output: Mapping[str, Any]) -> tuple[str, str]:
    """The texts of x_k and y_k: a line "name: value" per field, in the order of the names.

    The order is that of the names, not of insertion, so that a mapping read back from canonical JSON has the same text.
    """
    return _text(context), _text(output)


def split_by_example(example_ids: Iterable[str], held_out: float, seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """(training ids, held-out ids). No example is on both sides, and neither side is empty.

    An id's side is a threshold on its own hash, so it does not change when more examples arrive later: pairs held out
    from the first fit stay held out from every adaptation. The one exception is a side that would be empty: then
    the example nearest to the threshold moves there.

    Raises:
        DataError: fewer than two different examples, or `held_out` not between 0 and 1.
    """
    if not 0.0 < held_out < 1.0:
        raise DataError(f"held_out is {held_out!r}.", remedy="Give a share between 0 and 1, for example 0.3.")
    position = {name: derive_seed("lrf-split", seed, name) / _SEED_RANGE for name in set(example_ids)}
    if len(position) < 2:
        raise DataError(
            f"{len(position)} different example(s) cannot be divided into a training and a held-out side.",
            remedy="Label pairs on at least two examples.",
        )
    ordered = sorted(position, key=lambda name: (position[name], name))
    count = sum(position[name] < held_out for name in ordered)
    count = min(max(count, 1), len(ordered) - 1)
    return frozenset(ordered[count:]), frozenset(ordered[:count])


def _text(fields: Mapping[str, Any]) -> str:
    return "\n".join(_line(name, fields[name]) for name in sorted(fields))


def _line(name: str, value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "\n".join([f"{name}:", *(f"- {_scalar(item)}" for item in value)])
    return f"{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else canonical_json(value)
