"""Preference data measured in shards: each measures a part of the examples, and all fill the one call cache of the workspace.

A shard commits nothing. Once every shard is done, `generate_preferences` finds each call in the cache, pays for none and commits the
table: so it has the same bytes for any number of shards, and a shard that ran twice, half or not at all changes nothing but who pays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from optimas_core.errors import SpecError
from optimas_core.stages._context import StageContext
from optimas_core.stages._generate_preferences import PreferenceRequest, measure_preferences, preferences_name

MAX_SHARDS = 16
"""More do not pay: a task of a cluster costs seconds, and one process holds hundreds of calls in flight."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count`, counted from 0."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_SHARDS or not 0 <= self.index < self.count:
            raise SpecError(
                f"there is no shard {self.index} of {self.count}.", remedy=f"Give 1 to {MAX_SHARDS} shards, and an index from 0 below it."
            )

    def holds(self, example_id: str) -> bool:
        """Whether the example belongs here: by a hash of its id, the same on every machine and for every Python."""
        number = int.from_bytes(hashlib.sha256(example_id.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        return number % self.count == self.index


async def measure_shard(context: StageContext, request: PreferenceRequest, shard: Shard) -> Mapping[str, Mapping[str, int]]:
    """Make the calls that `request` needs for the examples of `shard`; returns what was counted, component by component.

    Nothing to do where the table is committed, or where no example belongs to the shard.
    """
    own = tuple(name for name in request.examples if shard.holds(name))
    if not own or context.existing("preferences", preferences_name(context, request)) is not None:
        return {}
    tables = await measure_preferences(context, replace(request, examples=own))
    context.budget.flush()
    return tables.summary
