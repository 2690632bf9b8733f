"""What a run has spent, and what each of its processes may still spend: one append-only log that all of them share.

A record holds what its writer settled, the writer's new allowance, and the sums after it. Whoever appends record n has read
record n-1, so no two processes ever share out the same money; and the newest record alone tells where the run stands.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from optimas_core.artifacts import Conflict, RecordLog
from optimas_core.canonical import canonical_json, digest
from optimas_core.errors import ArtifactCorrupt


@dataclass(frozen=True, slots=True)
class Spend:
    """An amount. `usd` is the sum of the known prices; `usd_unknown_calls` counts calls whose price is not known."""

    usd: float = 0.0
    tokens: int = 0
    system_runs: float = 0.0
    usd_unknown_calls: int = 0

    def plus(self, other: Spend) -> Spend:
        return Spend(
            self.usd + other.usd,
            self.tokens + other.tokens,
            self.system_runs + other.system_runs,
            self.usd_unknown_calls + other.usd_unknown_calls,
        )

    def minus(self, other: Spend) -> Spend:
        return Spend(
            self.usd - other.usd,
            self.tokens - other.tokens,
            self.system_runs - other.system_runs,
            self.usd_unknown_calls - other.usd_unknown_calls,
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where money is spent: the key of a ledger row beside the model."""

    stage: str
    iteration: int
    component: str

    def row(self, model: str) -> RowKey:
        return (self.stage, self.iteration, self.component, model)


RowKey = tuple[str, int, str, str]


@dataclass(slots=True)
class LedgerRow:
    """What one (stage, iteration, component, model) used.

    `usd` sums the prices of all but `unpriced_calls` of the calls; `seconds` sums call latencies and training time, `gpu_seconds`
    the part of it on a GPU of ours. `lost_calls` of the calls were sent and their answers lost: they may have been billed, and
    are counted at the most they may have cost.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    unpriced_calls: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    system_runs: float = 0.0
    cache_hits: int = 0
    lost_calls: int = 0

    def add(self, other: LedgerRow) -> None:
        for name in LedgerRow.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a process may spend beyond what is settled; if it dies, this counts as spent."""

    amount: Spend = Spend()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """Sums after a record: what is settled, and each living or dead process's open allowance."""

    settled: Spend = Spend()
    seconds: float = 0.0
    open: Mapping[str, Allowance] = field(default_factory=dict)

    def without(self, writer: str) -> Allowance:
        """What all others may spend, together."""
        amount, seconds = Spend(), 0.0
        for name, allowance in self.open.items():
            if name != writer:
                amount, seconds = amount.plus(allowance.amount), seconds + allowance.seconds
        return Allowance(amount, seconds)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a record adds: rows of settled spending, their sum, their wall time, and the writer's new allowance (None: it is done)."""

    rows: Mapping[RowKey, LedgerRow] = field(default_factory=dict)
    spent: Spend = Spend()
    seconds: float = 0.0
    allowance: Allowance | None = None


class Ledger:
    """One process's hand on the shared log. Not thread-safe: `Budget` holds a lock around it.

    Args:
        log: the run's log; None keeps everything in memory (a single call outside a run).

    Raises:
        ArtifactCorrupt: the newest record is damaged; the caps depend on it, so nothing is spent.
    """

    def __init__(self, log: RecordLog | None) -> None:
        self._log = log
        self._writer = uuid.uuid4().hex[:16]
        self._turn = 0
        self._seen = -1
        self._kept: list[Mapping[RowKey, LedgerRow]] = []
        self.account = Account()
        newest = log.latest() if log is not None else None
        if newest is not None:
            self._seen = newest[0]
            self.account = _account(*newest)

    @property
    def allowance(self) -> Allowance:
        """What this process may spend beyond what is settled."""
        return self.account.open.get(self._writer, Allowance())

    def others(self, account: Account | None = None) -> Allowance:
        """What other processes of the run may still spend, or may have spent when they died."""
        return (account or self.account).without(self._writer)

    def append(self, entry: Callable[[Account], Entry]) -> None:
        """Append what `entry` makes of the newest account; it is asked again when another process was faster.

        Raises:
            StoreUnavailable: nothing is appended as far as we know; appending again is safe.
            Whatever `entry` raises; then nothing is appended.
        """
        while True:
            made = entry(self.account)
            following = self._after(made)
            if self._log is None:
                self.account = following
                self._kept.append(made.rows)
                return
            index = self._seen + 1
            try:
                self._log.append(index, self._body(made, following))
            except Conflict:
                there = self._log.read(index)
                if there is None:
                    raise
                self._seen, self.account = index, _account(index, there)
                if (there["writer"], there["turn"]) != (self._writer, self._turn):
                    continue
            self._seen, self.account = index, following
            self._turn += 1
            return

    def refresh(self) -> bool:
        """Read what other processes have appended since; whether there was anything."""
        before = self._seen
        while self._log is not None and (there := self._log.read(self._seen + 1)) is not None:
            self._seen, self.account = self._seen + 1, _account(self._seen + 1, there)
        return self._seen > before

    def rows(self) -> Iterator[tuple[RowKey, LedgerRow]]:
        """All settled rows, oldest first. Reads the whole log.

        Raises:
            ArtifactCorrupt: a record is damaged.
        """
        for rows in self._kept:
            yield from rows.items()
        for index, record in self._log.records() if self._log is not None else ():
            _account(index, record)
            for row in record["rows"]:
                values = {name: row[name] for name in LedgerRow.__slots__}
                yield (row["stage"], row["iteration"], row["component"], row["model"]), LedgerRow(**values)

    def _after(self, made: Entry) -> Account:
        still_open = {name: allowance for name, allowance in self.account.open.items() if name != self._writer}
        if made.allowance is not None:
            still_open[self._writer] = made.allowance
        return Account(self.account.settled.plus(made.spent), self.account.seconds + made.seconds, still_open)

    def _body(self, made: Entry, following: Account) -> bytes:
        record = {
            "writer": self._writer,
            "turn": self._turn,
            "rows": as_records(made.rows),
            "settled": asdict(following.settled),
            "seconds": following.seconds,
            "open": {name: asdict(allowance) for name, allowance in following.open.items()},
        }
        return canonical_json({**record, "check": digest(record)}).encode()


def as_records(rows: Mapping[RowKey, LedgerRow]) -> list[dict[str, Any]]:
    """Rows as plain mappings, sorted by their key."""
    return [{"stage": key[0], "iteration": key[1], "component": key[2], "model": key[3]} | asdict(row) for key, row in sorted(rows.items())]


def _account(index: int, record: Mapping[str, Any]) -> Account:
    try:
        if record["check"] != digest({key: value for key, value in record.items() if key != "check"}):
            raise ValueError("another check sum")
        open_ = {str(name): Allowance(_spend(item["amount"]), _amount(item["seconds"])) for name, item in dict(record["open"]).items()}
        found = Account(_spend(record["settled"]), _amount(record["seconds"]), open_)
        for row in record["rows"]:
            if not all(_amount(row[name]) >= 0 for name in LedgerRow.__slots__):
                raise ValueError("a negative amount")
            if not all(isinstance(row[name], str) for name in ("stage", "component", "model")) or type(row["iteration"]) is not int:
                raise ValueError("a row of nothing")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactCorrupt(
            f"ledger/{index:06d}.json is not a ledger record ({error}).", remedy="Restore it from a copy: the caps depend on it."
        ) from None
    return found


def _spend(data: Mapping[str, Any]) -> Spend:
    return Spend(_amount(data["usd"]), int(_amount(data["tokens"])), _amount(data["system_runs"]), int(_amount(data["usd_unknown_calls"])))


def _amount(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no amount")
    return value


def merged(parts: Sequence[Iterator[tuple[RowKey, LedgerRow]]]) -> dict[RowKey, LedgerRow]:
    """Rows of one key added up."""
    found: dict[RowKey, LedgerRow] = {}
    for part in parts:
        for key, row in part:
            found.setdefault(key, LedgerRow()).add(row)
    return found
