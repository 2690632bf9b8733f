"""Hard caps of a run: reserved before a call, settled after it. No schedule of calls, retries, processes or kills exceeds them.

A process takes its share of a cap in blocks: an allowance, written to the shared ledger before anything of it is spent. When it
settles, rows of what was really spent replace it. An allowance that a killed process never settled counts in full: money that
may have been spent is never spent twice.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from optimas_core.artifacts import RunWorkspace
from optimas_core.errors import BudgetExhausted, StoreUnavailable
from optimas_core.rollouts._ledger import Account, Allowance, Entry, Ledger, LedgerRow, Place, RowKey, Spend, as_records, merged
from optimas_core.spec import BudgetSettings
from optimas_core.system import LOST, CallUsage, WorstCase

_FLUSH_S = 10.0
_AHEAD_S = 30.0
_REFRESH_S = 0.2  # between two looks at what other processes have settled, while a cap refuses calls
_ROUNDING = 1e-9


class Budget:
    """Caps and ledger of one run, for one process. Thread-safe.

    Args:
        caps: the run's caps; None is no cap.
        run: where the ledger lives, shared by all processes of the run; None keeps it in memory (a single call outside a run).
        block_share: part of each cap taken at once.

    Raises (from `reserve`):
        BudgetExhausted: names the cap, what is spent and what the call may cost.
    """

    def __init__(self, caps: BudgetSettings, run: RunWorkspace | None = None, *, block_share: float = 0.02) -> None:
        self._caps = caps
        self._capped = [name for name in ("usd", "tokens", "system_runs") if getattr(caps, name) is not None]
        self._share = block_share
        self._lock = threading.RLock()
        self._ledger = Ledger(run.ledger if run is not None else None)
        self._held_runs = 0.0
        # Since the last settlement: what was used, and what calls in flight may use.
        self._rows: dict[RowKey, LedgerRow] = {}
        self._pending = Spend()
        self._reserved = Spend()
        self._in_flight = 0
        self._began_s = time.monotonic()
        self._refreshed_s = -_REFRESH_S

    @property
    def caps(self) -> BudgetSettings:
        return self._caps

    def hold_back(self, system_runs: float) -> None:
        """Keep what so many system runs cost, at the average so far, out of reach of `reserve` until it is called with 0."""
        with self._lock:
            self._held_runs = system_runs

    def spent(self) -> Spend:
        """Everything used so far by every process of the run, as far as their settlements are known here; what another one may
        still spend, or may have spent when it was killed, is counted in full."""
        with self._lock:
            return self._spent(self._ledger.account)

    def hours(self) -> float:
        """Wall time of all the run's processes so far, added up."""
        with self._lock:
            account = self._ledger.account
            return (account.seconds + self._ledger.others().seconds + time.monotonic() - self._began_s) / 3600

    def reserve(self, worst: WorstCase, system_runs: float, *, beside: Spend | None = None) -> Spend:
        """Set aside what a call may cost at most. Returns the reservation for `settle`; with `beside`, an earlier one enlarged.

        Raises:
            BudgetExhausted: a cap would be exceeded, or USD is capped and the model has no price.
            StoreUnavailable: the ledger cannot be written, so nothing may be spent.
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
            try:
                self._require_room(self._ledger.account, asked)
            except BudgetExhausted:
                if not self._others_settled():
                    raise
                self._require_room(self._ledger.account, asked)
            if not self._covers(self._pending.plus(self._reserved).plus(asked)):
                self._ledger.append(lambda account: self._extension(account, asked))
            self._reserved = self._reserved.plus(asked)
            if beside is not None:
                return beside.plus(asked)
            self._in_flight += 1
            return asked

    def fits_once_settled(self, worst: WorstCase, system_runs: float) -> bool:
        """Whether a refused reservation may still be granted: only what calls in flight have reserved stands in its way."""
        with self._lock:
            if (worst.usd is None and self._caps.usd is not None) or self._in_flight == 0:
                return False
            if self._caps.hours is not None and self.hours() >= self._caps.hours:
                return False
            after = self.spent().plus(self._held(self._ledger.account)).plus(Spend(worst.usd or 0.0, worst.tokens, system_runs))
            return all(getattr(after, name) <= getattr(self._caps, name) + _ROUNDING for name in self._capped)

    def settle(self, reservation: Spend, place: Place, calls: list[CallUsage], *, system_runs: float) -> None:
        """Replace a reservation by what was really used (also after a failed call: nothing, unless it was billed)."""
        with self._lock:
            self._in_flight -= 1
            self._reserved = self._reserved.minus(reservation) if self._in_flight else Spend()  # no rounding stays behind
            self._record(place, calls, system_runs)
            if time.monotonic() - self._began_s > _FLUSH_S:
                with contextlib.suppress(StoreUnavailable):  # the allowance covers it until a flush succeeds
                    self.flush()

    def record_cached(self, place: Place) -> None:
        """Count an execution that the cache served."""
        with self._lock:
            self._rows.setdefault(place.row(""), LedgerRow()).cache_hits += 1

    def record_compute(self, place: Place, seconds: float, *, gpus: int = 0) -> None:
        """Count seconds of training or scoring, which no model call shows; each of the `gpus` was busy for all of them."""
        with self._lock:
            row = self._rows.setdefault(place.row("lrf"), LedgerRow())
            row.add(LedgerRow(seconds=seconds, gpu_seconds=seconds * gpus))

    def flush(self) -> None:
        """Settle: rows of what was used replace the allowance in the ledger, but for the calls in flight. Call at the end of a
        stage; cheap when idle.

        Raises:
            StoreUnavailable: no row is lost; they are settled the next time.
        """
        with self._lock:
            if not self._rows:
                return
            now_s = time.monotonic()
            seconds = round(now_s - self._began_s, 3)
            self._ledger.append(lambda account: self._settlement(account, seconds))
            self._rows, self._pending, self._began_s = {}, Spend(), now_s

    def rows(self) -> list[dict[str, Any]]:
        """The ledger so far: one mapping per (stage, iteration, component, model), sorted. `usd` is None where a call of unknown
        price is among them; `usd_known` sums the others.

        Raises:
            ArtifactCorrupt: a record of the ledger is damaged.
        """
        with self._lock:
            found = as_records(merged([self._ledger.rows(), iter(self._rows.items())]))
        return [{**row, "usd": None if row["unpriced_calls"] else row["usd"], "usd_known": row["usd"]} for row in found]

    def _spent(self, account: Account) -> Spend:
        return account.settled.plus(self._ledger.others(account).amount).plus(self._pending)

    def _record(self, place: Place, calls: list[CallUsage], system_runs: float) -> None:
        models = sorted({call.model for call in calls}) or [""]
        for model in models:
            of_model = [call for call in calls if call.model == model]
            row = LedgerRow(
                calls=len(of_model),
                tokens_in=sum(call.tokens_in for call in of_model),
                tokens_out=sum(call.tokens_out for call in of_model),
                usd=sum(call.usd or 0.0 for call in of_model),
                unpriced_calls=sum(call.usd is None for call in of_model),
                seconds=sum(call.latency_s for call in of_model),
                system_runs=system_runs if model == models[0] else 0.0,
                lost_calls=sum(call.finish_reason == LOST for call in of_model),
            )
            self._rows.setdefault(place.row(model), LedgerRow()).add(row)
            self._pending = self._pending.plus(Spend(row.usd, row.tokens_in + row.tokens_out, row.system_runs, row.unpriced_calls))

    def _held(self, account: Account) -> Spend:
        spent = self._spent(account)
        each = self._held_runs / spent.system_runs if spent.system_runs else 0.0
        return Spend(spent.usd * each, round(spent.tokens * each), self._held_runs)

    def _require_room(self, account: Account, asked: Spend) -> None:
        spent, held = self._spent(account), self._held(account)
        used = spent.plus(self._reserved).plus(held).plus(asked)
        for name in self._capped:
            cap = getattr(self._caps, name)
            if getattr(used, name) > cap + _ROUNDING:
                unit = {"usd": "USD", "system_runs": "system runs"}.get(name, name)
                raise BudgetExhausted(
                    f"budget.{name} = {cap:g} would be exceeded: {getattr(spent, name):.6g} {unit} used,"
                    f" {getattr(held, name):.6g} kept for the sealed test, and the next call may take {getattr(asked, name):.6g}.",
                    remedy="Raise the cap and run `optimas resume`.",
                )

    def _others_settled(self) -> bool:
        """Whether the ledger tells more of other processes than was known here."""
        now_s = time.monotonic()
        if self._ledger.others() == Allowance() or now_s - self._refreshed_s < _REFRESH_S:
            return False
        self._refreshed_s = now_s
        return self._ledger.refresh()

    def _covers(self, needed: Spend) -> bool:
        ours = self._ledger.allowance
        in_time = self._caps.hours is None or time.monotonic() - self._began_s <= ours.seconds
        return in_time and all(getattr(needed, name) <= getattr(ours.amount, name) + _ROUNDING for name in self._capped)

    def _extension(self, account: Account, asked: Spend) -> Entry:
        """A larger allowance, with nothing settled."""
        self._require_room(account, asked)
        elapsed_s = time.monotonic() - self._began_s
        return Entry(allowance=self._allowance(account, Spend(), self._pending.plus(self._reserved).plus(asked), elapsed_s))

    def _settlement(self, account: Account, seconds: float) -> Entry:
        """All that was used, and an allowance for the calls in flight; none without any."""
        allowance = self._allowance(account, self._pending, self._reserved, 0.0) if self._in_flight else None
        return Entry(self._rows, self._pending, seconds, allowance)

    def _allowance(self, account: Account, settling: Spend, needed: Spend, elapsed_s: float) -> Allowance:
        """`needed` and some of each cap ahead, as far as the cap reaches beside what is settled and what others may spend."""
        elsewhere = account.settled.plus(settling).plus(self._ledger.others(account).amount)
        sizes = {}
        for name in self._capped:
            least, left = getattr(needed, name), getattr(self._caps, name) - getattr(elsewhere, name)
            sizes[name] = max(least, min(least + self._share * getattr(self._caps, name), left))
        amount = Spend(sizes.get("usd", 0.0), int(sizes.get("tokens", 0)), sizes.get("system_runs", 0.0))
        return Allowance(amount, elapsed_s + _AHEAD_S)
