"""One holder per run, without trusting that two machines' clocks agree.

The lease is one file, changed only by compare-and-swap. Its holder raises `counter` every third of `ttl_s`. Whoever
wants it watches, on its OWN clock, whether (holder, epoch, counter) stands still for `ttl_s`, and only then takes it,
with the next `epoch`. States carry the epoch, so what a slow former holder still tries to append is refused.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from optimas_core.artifacts._process import ProcessIdentity, this_process
from optimas_core.artifacts._store import Blob, Conflict
from optimas_core.artifacts._workspace import RunWorkspace
from optimas_core.canonical import parse_json
from optimas_core.errors import ArtifactCorrupt, LeaseLost, OptimasError, PermanentError

_MAX_BYTES = 1 << 16
# A lease of a longer time is none: whoever wants the run would wait that long for a dead holder.
_MAX_TTL_S = 24 * 3600.0


class LeaseHeld(PermanentError):
    """Another live process holds the run."""

    code = "lease_held"
    exit_code = 4


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What lease.json holds. `ttl_s` is the holder's; `released` is a clean end."""

    holder: str
    epoch: int
    counter: int
    ttl_s: float
    process: ProcessIdentity
    released: bool = False

    def to_bytes(self) -> bytes:
        return (json.dumps(asdict(self), sort_keys=True) + "\n").encode()


class Lease:
    """The right to append to a run. `clock` and `sleep` are in seconds; what `sleep` raises ends the wait for the lease.

    Used from the controller's thread; `keep` renews from a thread of its own.
    """

    def __init__(
        self,
        run: RunWorkspace,
        holder_id: str | None = None,
        *,
        ttl_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        process: ProcessIdentity | None = None,
    ) -> None:
        if ttl_s <= 0:
            raise ValueError(f"ttl_s must be positive, not {ttl_s}")
        self._run = run
        self._process = process or this_process()
        # Random, so that two attempts of one pod are two holders.
        self._holder = f"{holder_id or self._process.host}-{secrets.token_hex(6)}"
        self._ttl_s = ttl_s
        self._clock = clock
        self._sleep = sleep
        self._record: LeaseRecord | None = None
        self._etag = ""
        self._renewed_at = 0.0
        self._lock = threading.Lock()

    @property
    def epoch(self) -> int:
        """The fencing token for `append_state`. Raises: LeaseLost: not held."""
        return self._held().epoch

    @property
    def holder_id(self) -> str:
        return self._holder

    def acquire(self, *, wait_s: float = 0.0) -> int:
        """Take the run and return the epoch. A dead holder's lease is taken after its ttl (at once on its own host).

        A holder that shows a sign of life is waited for until `wait_s` has passed.

        Raises:
            LeaseHeld: another process is alive and holds it.
        """
        until = self._clock() + wait_s
        watched: tuple[str, int, int] | None = None
        since = 0.0
        while True:
            sent_at = self._clock()
            blob = self._run.store.get(self._key, max_bytes=_MAX_BYTES)
            current = _parse(blob)
            if current is None or current.released or current.process.is_dead_here():
                if self._take(blob, current, sent_at):
                    return self.epoch
                continue
            seen = (current.holder, current.epoch, current.counter)
            ttl_s = max(self._ttl_s, current.ttl_s)
            now = self._clock()
            if watched is None:
                watched, since = seen, now
            elif seen != watched:
                if now >= until:
                    raise LeaseHeld(
                        f"run {self._run.run_id} is held by {current.holder} (process {current.process.pid} "
                        f"on {current.process.host}), which is alive.",
                        remedy="Watch it with `optimas watch`, or stop that process first.",
                    )
                watched, since = seen, now
            elif now - since >= ttl_s:
                if self._take(blob, current, sent_at):
                    return self.epoch
                continue
            self._sleep(min(ttl_s / 6, 2.0))

    def renew(self) -> None:
        """Show life. Call at least every third of `ttl_s`, or let `keep` do it.

        Raises:
            LeaseLost: someone took the lease.
            StoreUnavailable: not renewed; still ours until someone has watched it stand still for `ttl_s`.
        """
        with self._lock:
            record = self._held()
            sent_at = self._clock()
            following = replace(record, counter=record.counter + 1)
            try:
                self._etag = self._run.store.put(self._key, following.to_bytes(), if_match=self._etag)
            except Conflict as error:
                # An earlier renewal whose answer was lost may have been written: then the record there is ours.
                blob = self._run.store.get(self._key)
                there = _parse(blob)
                if blob is None or there is None or (there.holder, there.epoch) != (record.holder, record.epoch):
                    self._record = None
                    raise self._lost() from error
                following, self._etag = there, blob.etag
            self._record, self._renewed_at = following, sent_at

    def check(self) -> None:
        """Cheap, for before every append and every paid batch: asks the store only after `ttl_s` without a renewal.

        Raises:
            LeaseLost: as `renew`.
        """
        with self._lock:
            self._held()
            stale = self._clock() - self._renewed_at >= self._ttl_s
        if stale:  # this process hung, or could not reach the store: someone may have taken over
            self.renew()

    def release(self) -> None:
        """Give the run back, so that the next holder need not wait. Nothing happens when it is lost already."""
        with self._lock:
            if self._record is None:
                return
            with contextlib.suppress(OptimasError):  # what stopped the run matters more; a dead holder's lease is taken too
                self._run.store.put(self._key, replace(self._record, released=True).to_bytes(), if_match=self._etag)
            self._record = None

    @contextlib.contextmanager
    def keep(self) -> Iterator[Lease]:
        """Renew in the background while the block runs, and release at its end. A loss shows at the next `check`."""
        done = threading.Event()

        def renewing() -> None:
            while not done.wait(self._ttl_s / 3):
                with contextlib.suppress(OptimasError):  # tried again at the next turn; the next `check` or write says what is wrong
                    self.renew()
                if self._record is None:
                    return

        thread = threading.Thread(target=renewing, name=f"lease-{self._run.run_id}", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join(timeout=self._ttl_s)
            self.release()

    @property
    def _key(self) -> str:
        return f"{self._run.prefix}/lease.json"

    def _held(self) -> LeaseRecord:
        if self._record is None:
            raise self._lost()
        return self._record

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"run {self._run.run_id} is no longer held by this process ({self._holder}).",
            remedy="Another process continues it: watch that one with `optimas watch`.",
        )

    def _take(self, blob: Blob | None, current: LeaseRecord | None, sent_at: float) -> bool:
        record = LeaseRecord(self._holder, (current.epoch if current else 0) + 1, 0, self._ttl_s, self._process)
        try:
            if blob is None:
                self._etag = self._run.store.put(self._key, record.to_bytes(), if_absent=True)
            else:
                self._etag = self._run.store.put(self._key, record.to_bytes(), if_match=blob.etag)
        except Conflict:
            return False  # someone else was faster: look again
        self._record, self._renewed_at = record, sent_at
        return True


def _parse(blob: Blob | None) -> LeaseRecord | None:
    """The record. Raises: ArtifactCorrupt: the file holds something else."""
    if blob is None:
        return None
    try:
        body = parse_json(blob.data, max_bytes=_MAX_BYTES)
        body["process"] = ProcessIdentity(**body["process"])
        record = LeaseRecord(**body)
        process = record.process
        texts = (record.holder, process.host, process.machine, process.started)
        counts = (record.epoch, record.counter, process.pid)
        if not all(isinstance(text, str) for text in texts) or not all(type(count) is int and 0 <= count < 2**53 for count in counts):
            raise ValueError("wrong types")
        if not 0 < record.ttl_s <= _MAX_TTL_S:
            raise ValueError("an impossible ttl_s")
        return record
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactCorrupt(
            f"lease.json is damaged ({type(error).__name__}).",
            remedy="Make sure that no process runs this run, then delete its lease.json.",
        ) from error
