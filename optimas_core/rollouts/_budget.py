"""Hard caps of a run: reserved before a call, settled after it. No schedule of calls, retries or kills exceeds them.

A process takes its share of a cap in blocks. A block is written to the ledger before anything of it is spent; when it is settled
the rows of what was really spent replace it. A block that a killed process never settled counts in full: money that may have
been spent is never spent twice.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optimas_core.artifacts import RunWorkspace
from optimas_core.canonical import canonical_json
from optimas_core.errors import ArtifactCorrupt, BudgetExhausted, StoreUnavailable
from optimas_core.spec import BudgetSettings
from optimas_core.system import CallUsage, WorstCase

_FLUSH_S = 10.0


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where money is spent: the key of a ledger row beside the model."""

    stage: str
    iteration: int
    component: str


@dataclass(slots=True)
class LedgerRow:
    """What one (stage, iteration, component, model) used. `usd` None: a call of unknown price is among them."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = 0.0
    seconds: float = 0.0
    system_runs: float = 0.0
    cache_hits: int = 0

    def add(self, other: Mapping[str, Any]) -> None:
        self.calls += other["calls"]
        self.tokens_in += other["tokens_in"]
        self.tokens_out += other["tokens_out"]
        self.usd = None if self.usd is None or other["usd"] is None else self.usd + other["usd"]
        self.seconds += other["seconds"]
        self.system_runs += other["system_runs"]
        self.cache_hits += other["cache_hits"]


@dataclass(slots=True)
class _Block:
    """A part of the caps this process may spend: its size and what of it is still free."""

    name: str
    size: Spend = Spend()
    rows: dict[tuple[str, int, str, str], LedgerRow] = field(default_factory=dict)
    spent: Spend = Spend()
    reserved: Spend = Spend()
    began_s: float = field(default_factory=lambda: time.monotonic())


class Budget:
    """Caps and ledger of one run, for one process. Thread-safe.

    Args:
        caps: the run's caps; None is no cap.
        run: where the ledger lives; None keeps it in memory (a single call outside a run).
        block_share: part of each cap taken at once.

    Raises (from `reserve`):
        BudgetExhausted: names the cap, what is spent and what the call may cost.
    """

    def __init__(self, caps: BudgetSettings, run: RunWorkspace | None = None, *, block_share: float = 0.02) -> None:
        self._caps = caps
        self._run = run
        self._share = block_share
        self._lock = threading.RLock()
        self._settled: dict[tuple[str, int, str, str], LedgerRow] = {}
        self._before = Spend()
        self._unsettled = Spend()
        self._held_runs = 0.0
        self._seconds_before = 0.0
        self._started_s = time.monotonic()
        if run is not None:
            self._load(run)
        self._block = _Block(uuid.uuid4().hex[:16])

    @property
    def caps(self) -> BudgetSettings:
        return self._caps

    def hold_back(self, system_runs: float) -> None:
        """Keep what so many system runs cost, at the average so far, out of reach of `reserve` until it is called with 0."""
        with self._lock:
            self._held_runs = system_runs

    def spent(self) -> Spend:
        """Everything used so far by every process of the run, blocks lost to a kill included."""
        with self._lock:
            return self._before.plus(self._unsettled).plus(self._block.spent)

    def hours(self) -> float:
        """Wall time of all the run's processes so far."""
        return (self._seconds_before + time.monotonic() - self._started_s) / 3600

    def reserve(self, worst: WorstCase, system_runs: float) -> Spend:
        """Set aside what a call may cost at most. Returns the reservation for `settle`.

        Raises:
            BudgetExhausted: a cap would be exceeded, or USD is capped and the model has no price.
        """
        asked = Spend(worst.usd or 0.0, worst.tokens, system_runs)
        with self._lock:
            if self._caps.usd is not None and worst.usd is None:
                raise BudgetExhausted(
                    "budget.usd is set and a model has no price.",
                    remedy="Add it under `prices` in run.yaml, or drop budget.usd.",
                )
            if self._caps.hours is not None and self.hours() >= self._caps.hours:
                raise BudgetExhausted(f"budget.hours = {self._caps.hours:g} is used up.", remedy="Raise it and resume.")
            self._require_room(asked)
            self._cover(self._block, self._before, asked)
            self._block.reserved = self._block.reserved.plus(asked)
            return asked

    def fits_once_settled(self, worst: WorstCase, system_runs: float) -> bool:
        """Whether a refused reservation may still be granted: only what calls in flight have reserved stands in its way."""
        with self._lock:
            if (worst.usd is None and self._caps.usd is not None) or self._block.reserved == Spend():
                return False
            if self._caps.hours is not None and self.hours() >= self._caps.hours:
                return False
            after = self.spent().plus(self._held()).plus(Spend(worst.usd or 0.0, worst.tokens, system_runs))
            caps = ((name, getattr(self._caps, name)) for name in ("usd", "tokens", "system_runs"))
            return all(cap is None or getattr(after, name) <= cap + 1e-9 for name, cap in caps)

    def settle(self, reservation: Spend, place: Place, calls: list[CallUsage], *, system_runs: float) -> None:
        """Replace a reservation by what was really used (also after a failed call: nothing, unless it was billed)."""
        with self._lock:
            block = self._block
            block.reserved = Spend(
                block.reserved.usd - reservation.usd,
                block.reserved.tokens - reservation.tokens,
                block.reserved.system_runs - reservation.system_runs,
            )
            self._record(block, place, calls, system_runs)
            if time.monotonic() - block.began_s > _FLUSH_S:
                with contextlib.suppress(StoreUnavailable):  # the block's reservation covers it until a flush succeeds
                    self.flush()

    def record_cached(self, place: Place) -> None:
        """Count an execution that the cache served."""
        with self._lock:
            row = self._block.rows.setdefault((place.stage, place.iteration, place.component, ""), LedgerRow())
            row.cache_hits += 1

    def record_compute(self, place: Place, seconds: float) -> None:
        """Count seconds of training or scoring, which no model call shows."""
        with self._lock:
            row = self._block.rows.setdefault((place.stage, place.iteration, place.component, "lrf"), LedgerRow())
            row.seconds += seconds

    def flush(self) -> None:
        """Settle the block: its rows replace its reservation in the ledger. Call at the end of a stage; cheap when idle."""
        with self._lock:
            block = self._block
            if not block.rows:
                return
            rows = [
                {"stage": key[0], "iteration": key[1], "component": key[2], "model": key[3]}
                | {name: getattr(row, name) for name in LedgerRow.__slots__}
                for key, row in sorted(block.rows.items())
            ]
            record = {"block": block.name, "rows": rows, "seconds": round(time.monotonic() - block.began_s, 3)}
            fresh, before = _Block(uuid.uuid4().hex[:16], reserved=block.reserved), self._before.plus(block.spent)
            self._cover(fresh, before, Spend())  # calls in flight stay covered before their old block goes
            self._write(f"{block.name}.settled", record)
            # Only now in memory: a store that did not answer loses no row, the block is flushed the next time.
            for key, row in block.rows.items():
                self._settled.setdefault(key, LedgerRow()).add({name: getattr(row, name) for name in LedgerRow.__slots__})
            self._before, self._block = before, fresh

    def rows(self) -> list[dict[str, Any]]:
        """The ledger so far: one mapping per (stage, iteration, component, model), sorted."""
        with self._lock:
            merged: dict[tuple[str, int, str, str], LedgerRow] = {}
            for source in (self._settled, self._block.rows):
                for key, row in source.items():
                    merged.setdefault(key, LedgerRow()).add({name: getattr(row, name) for name in LedgerRow.__slots__})
        return [
            {"stage": key[0], "iteration": key[1], "component": key[2], "model": key[3]}
            | {name: getattr(row, name) for name in LedgerRow.__slots__}
            for key, row in sorted(merged.items())
        ]

    def _record(self, block: _Block, place: Place, calls: list[CallUsage], system_runs: float) -> None:
        models = sorted({call.model for call in calls}) or [""]
        for model in models:
            row = block.rows.setdefault((place.stage, place.iteration, place.component, model), LedgerRow())
            of_model = [call for call in calls if call.model == model]
            known = [call.usd for call in of_model if call.usd is not None]
            usd = sum(known) if len(known) == len(of_model) else None
            row.add(
                {
                    "calls": len(of_model),
                    "tokens_in": sum(call.tokens_in for call in of_model),
                    "tokens_out": sum(call.tokens_out for call in of_model),
                    "usd": usd,
                    "seconds": sum(call.latency_s for call in of_model),
                    "system_runs": system_runs if model == models[0] else 0.0,
                    "cache_hits": 0,
                }
            )
        block.spent = block.spent.plus(
            Spend(
                sum(call.usd or 0.0 for call in calls),
                sum(call.tokens_in + call.tokens_out for call in calls),
                system_runs,
                sum(call.usd is None for call in calls),
            )
        )

    def _held(self) -> Spend:
        spent = self.spent()
        each = self._held_runs / spent.system_runs if spent.system_runs else 0.0
        return Spend(spent.usd * each, round(spent.tokens * each), self._held_runs)

    def _require_room(self, asked: Spend) -> None:
        used = self.spent().plus(self._block.reserved).plus(self._held())
        for name, unit in (("usd", "USD"), ("tokens", "tokens"), ("system_runs", "system runs")):
            cap = getattr(self._caps, name)
            if cap is not None and getattr(used, name) + getattr(asked, name) > cap + 1e-9:
                raise BudgetExhausted(
                    f"budget.{name} = {cap:g} would be exceeded: {getattr(self.spent(), name):.6g} {unit} used,"
                    f" {getattr(self._held(), name):.6g} kept for the sealed test, and the next call may take {getattr(asked, name):.6g}.",
                    remedy="Raise the cap and run `optimas resume`.",
                )

    def _cover(self, block: _Block, before: Spend, asked: Spend) -> None:
        """Make sure the durable `block` covers what is spent, reserved and asked; `before`: what was settled ahead of it."""
        needed = block.spent.plus(block.reserved).plus(asked)
        names = [name for name in ("usd", "tokens", "system_runs") if getattr(self._caps, name) is not None]
        if all(getattr(needed, name) <= getattr(block.size, name) + 1e-9 for name in names):
            return
        elsewhere = before.plus(self._unsettled)
        wanted = {}
        for name in names:
            cap = float(getattr(self._caps, name))
            wanted[name] = min(getattr(needed, name) + self._share * cap, cap - getattr(elsewhere, name))
        size = Spend(wanted.get("usd", 0.0), int(wanted.get("tokens", 0)), wanted.get("system_runs", 0.0))
        record = {"block": block.name, "usd": size.usd, "tokens": size.tokens, "system_runs": size.system_runs}
        self._write(f"{block.name}.reserved", record)
        block.size = size

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._run.write_file(f"ledger/{name}.json", canonical_json(record).encode())

    def _load(self, run: RunWorkspace) -> None:
        """Sum every settled block; a reservation without its settlement counts in full."""
        reserved: dict[str, Mapping[str, Any]] = {}
        settled: set[str] = set()
        for name in run.list_files("ledger"):
            record: Mapping[str, Any] = _ledger_record(run, name)
            if name.endswith(".reserved.json"):
                reserved[record["block"]] = record
                continue
            settled.add(record["block"])
            self._seconds_before += record["seconds"]
            for row in record["rows"]:
                key = (row["stage"], row["iteration"], row["component"], row["model"])
                self._settled.setdefault(key, LedgerRow()).add(row)
                self._before = self._before.plus(
                    Spend(
                        row["usd"] or 0.0,
                        row["tokens_in"] + row["tokens_out"],
                        row["system_runs"],
                        row["calls"] if row["usd"] is None else 0,
                    )
                )
        for block, record in reserved.items():
            if block not in settled:
                self._unsettled = self._unsettled.plus(Spend(record["usd"], int(record["tokens"]), record["system_runs"]))


def _ledger_record(run: RunWorkspace, name: str) -> dict[str, Any]:
    data = run.read_file(name)
    wanted = ("usd", "tokens", "system_runs") if name.endswith(".reserved.json") else ("rows", "seconds")
    try:
        record: Any = json.loads(data or b"")
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or any(key not in record for key in ("block", *wanted)):
        raise ArtifactCorrupt(f"{run.uri}/{name} is not a ledger record.", remedy="Restore it from a copy: the caps depend on it.")
    return record
