"""Every Parquet table of a workspace: its columns, declared once, with a version.

Committed tables hold no wall-clock facts, so that a run that was killed and resumed commits the same bytes; seconds and
cache hits stand in `ledger`, which is observational and lies beside the report.

To change a table: add a version to `VERSIONS` with the function that lifts a row of the version before to it, keep
the old one, and add a fixture of the new one to tests/fixtures/tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

ColumnType = Literal["text", "json", "int", "float", "bool"]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `json` is text that holds canonical JSON; `allowed` lists the only values a text may have."""

    name: str
    type: ColumnType
    nullable: bool = False
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableVersion:
    """The columns of one released version; `key` names those that together are unique (empty: rows may repeat).

    `lift` turns a row of the version before into one of this version; the first version has none.
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    lift: Callable[[Row], Row] | None = None


# Written by us into every row of every table.
COMMON = (Column("schema_version", "int"), Column("run_id", "text"), Column("created_at", "text"))

_STATUS = ("ok", "missing", "format_error")

_PREFERENCES_1 = TableVersion(
    columns=(
        Column("component", "text"),
        Column("example_id", "text"),
        Column("context_json", "json"),  # x_k, the component's input
        Column("chosen_json", "json"),
        Column("rejected_json", "json"),
        Column("reward_chosen", "float"),
        Column("reward_rejected", "float"),
        Column("se_chosen", "float", nullable=True),  # one rollout has no standard error
        Column("se_rejected", "float", nullable=True),
        Column("n_chosen", "int"),
        Column("n_rejected", "int"),
        Column("configuration_digest", "text"),
        Column("iteration", "int"),
    ),
    key=(
        "component", "example_id", "context_json", "chosen_json", "rejected_json", "configuration_digest", "iteration",
    ),
)  # fmt: skip

_ROLLOUTS_1 = TableVersion(
    columns=(
        Column("example_id", "text"),
        Column("component", "text"),
        Column("candidate", "text"),  # "0", "1", … or a configuration's digest
        Column("repeat", "int"),
        Column("inputs_json", "json"),
        Column("output_json", "json", nullable=True),
        Column("reward", "float", nullable=True),  # missing is null, never a number
        Column("status", "text", allowed=_STATUS),
        Column("tokens_in", "int", nullable=True),
        Column("tokens_out", "int", nullable=True),
        Column("usd", "float", nullable=True),  # null: the price is not known
        Column("configuration_digest", "text"),
    ),
    key=("example_id", "component", "candidate", "repeat", "configuration_digest"),
)

_VALIDATIONS_1 = TableVersion(
    columns=(
        Column("example_id", "text"),
        Column("arm", "text", allowed=("incumbent", "challenger")),
        Column("repeat", "int"),
        Column("reward", "float", nullable=True),
        Column("status", "text", allowed=_STATUS),
    ),
    key=("example_id", "arm", "repeat"),
)

_LEDGER_1 = TableVersion(
    columns=(
        Column("stage", "text"),
        Column("iteration", "int", nullable=True),
        Column("component", "text", nullable=True),
        Column("model", "text", nullable=True),
        Column("calls", "int"),
        Column("tokens_in", "int"),
        Column("tokens_out", "int"),
        Column("usd", "float", nullable=True),  # of the calls whose price is known; null: of none
        Column("unpriced_calls", "int"),
        Column("lost_calls", "int"),  # sent, and the answer lost: counted at the most they may have cost
        Column("seconds", "float"),  # call latencies and training, added up
        Column("gpu_seconds", "float"),
        Column("system_runs", "float"),  # equivalent system runs: a partial run counts its fraction
        Column("cache_hits", "int"),
    ),
    key=("stage", "iteration", "component", "model"),
)

# table -> version -> its columns. The greatest version is the one written.
VERSIONS: Mapping[str, Mapping[int, TableVersion]] = {
    "preferences": {1: _PREFERENCES_1},
    "rollouts": {1: _ROLLOUTS_1},
    "validations": {1: _VALIDATIONS_1},
    "ledger": {1: _LEDGER_1},
}


def current_version(table: str) -> int:
    """The version that is written now. Raises: KeyError: no such table."""
    return max(VERSIONS[table])
