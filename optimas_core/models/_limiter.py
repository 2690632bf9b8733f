"""One limiter for each endpoint: requests and tokens in any minute, calls in flight, and a pause shared by all callers.

State is plain numbers under a lock, so one limiter serves any number of event loops and threads. Two clients share a
limiter when they are given the same object, or, by default, when they talk to one endpoint (base URL and name of the
key's variable) in one process: `ENDPOINTS` below is the only place where that sharing lives. Other processes and pods
have their own; divide the limits between them.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from optimas_core.models._clock import Clock, SystemClock

WINDOW_S = 60.0
# A longer Retry-After is honoured in pieces: the next caller meets the refusal again, and a wrong header cannot
# stop a run for a day.
LONGEST_PAUSE_S = 300.0


@dataclass(slots=True, eq=False)
class Admission:
    """One admitted attempt: when it may start, what it reserved, how long it stood in our own queue."""

    start_s: float
    tokens: int
    waited_s: float = 0.0
    in_window: bool = True


@dataclass(slots=True, eq=False)
class _Waiter:
    loop: asyncio.AbstractEventLoop
    turn: asyncio.Future[None]


class EndpointLimiter:
    """Bounds what one endpoint is asked for.

    In any window of 60 s at most `requests_per_minute` attempts start, and their tokens (reserved before, corrected
    after) sum to at most `tokens_per_minute`; one attempt larger than that goes alone. None: no bound.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_in_flight: int = 64,
        clock: Clock | None = None,
    ) -> None:
        for name, value in (
            ("requests_per_minute", requests_per_minute),
            ("tokens_per_minute", tokens_per_minute),
            ("max_in_flight", max_in_flight),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.max_in_flight = max_in_flight
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._window: deque[Admission] = deque()
        self._window_tokens = 0
        self._last_start_s = float("-inf")
        self._paused_until_s = float("-inf")
        self._in_flight = 0
        self._waiters: deque[_Waiter] = deque()

    def tighten(self, *, requests_per_minute: int | None, tokens_per_minute: int | None, max_in_flight: int) -> None:
        """Take the stricter of each bound: two clients of one endpoint may have asked for different ones."""
        with self._lock:
            self.requests_per_minute = _stricter(self.requests_per_minute, requests_per_minute)
            self.tokens_per_minute = _stricter(self.tokens_per_minute, tokens_per_minute)
            self.max_in_flight = min(self.max_in_flight, max_in_flight)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the `max_in_flight` places, first come first served."""
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    async def admit(self, tokens: int) -> Admission:
        """Wait until an attempt of about `tokens` (prompt and answer) may start; take its place in the window."""
        asked_s = self._clock.now()
        admission = self._reserve(tokens, asked_s)
        try:
            while (wait_s := admission.start_s - self._clock.now()) > 0:
                await self._clock.sleep(wait_s)
                # A pause began while we waited: plan anew, behind it and behind what is planned already. That can
                # leave a place unused for a moment; it never uses one twice.
                if self._paused_until_s > self._clock.now():
                    self._withdraw(admission)
                    admission = self._reserve(tokens, self._clock.now())
        except asyncio.CancelledError:
            self._withdraw(admission)
            raise
        admission.waited_s = self._clock.now() - asked_s
        return admission

    def settle(self, admission: Admission, tokens: int) -> None:
        """Replace the reserved tokens with those the attempt really took."""
        with self._lock:
            if admission.in_window:
                self._window_tokens += tokens - admission.tokens
            admission.tokens = tokens

    def pause(self, seconds: float) -> None:
        """Let nobody start before `seconds` from now: the server has said when it will listen again."""
        with self._lock:
            until_s = self._clock.now() + min(seconds, LONGEST_PAUSE_S)
            self._paused_until_s = max(self._paused_until_s, until_s)

    def _reserve(self, tokens: int, now_s: float) -> Admission:
        """Starts never go backwards, so an entry that has left the window is never needed again."""
        with self._lock:
            start_s = max(now_s, self._paused_until_s, self._last_start_s)
            self._forget(start_s)
            while self._window and self._is_full(tokens):
                start_s = max(start_s, self._window[0].start_s + WINDOW_S)
                self._forget(start_s)
            admission = Admission(start_s, tokens)
            self._window.append(admission)
            self._window_tokens += tokens
            self._last_start_s = start_s
            return admission

    def _is_full(self, tokens: int) -> bool:
        requests_full = self.requests_per_minute is not None and len(self._window) >= self.requests_per_minute
        tokens_full = self.tokens_per_minute is not None and self._window_tokens + tokens > self.tokens_per_minute
        return requests_full or tokens_full

    def _forget(self, now_s: float) -> None:
        while self._window and self._window[0].start_s + WINDOW_S <= now_s:
            gone = self._window.popleft()
            gone.in_window = False
            self._window_tokens -= gone.tokens

    def _withdraw(self, admission: Admission) -> None:
        """An attempt that did not start gives its place in the window back."""
        with self._lock:
            if admission.in_window:
                self._window.remove(admission)
                admission.in_window = False
                self._window_tokens -= admission.tokens

    async def _enter(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._in_flight < self.max_in_flight and not self._waiters:
                self._in_flight += 1
                return
            waiter = _Waiter(loop, loop.create_future())
            self._waiters.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            with self._lock:
                was_waiting = waiter in self._waiters
                if was_waiting:
                    self._waiters.remove(waiter)
            if not was_waiting:  # the place was handed to us in the same moment: pass it on
                self._leave()
            raise

    def _leave(self) -> None:
        with self._lock:
            self._in_flight -= 1
            while self._waiters and self._in_flight < self.max_in_flight:
                waiter = self._waiters.popleft()
                try:
                    waiter.loop.call_soon_threadsafe(_give_turn, waiter.turn)
                except RuntimeError:  # that event loop has ended; nobody waits there any more
                    continue
                self._in_flight += 1


class EndpointRegistry:
    """Limiters by endpoint, alive as long as a client of the endpoint is."""

    def __init__(self) -> None:
        self._limiters: weakref.WeakValueDictionary[tuple[str, str], EndpointLimiter] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def limiter(
        self,
        base_url: str,
        api_key_env: str | None,
        *,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        max_in_flight: int,
        clock: Clock,
    ) -> EndpointLimiter:
        """The endpoint's limiter, made at first use; a later client can only make its bounds stricter."""
        key = (base_url, api_key_env or "")
        with self._lock:
            found = self._limiters.get(key)
            if found is None:
                found = self._limiters[key] = EndpointLimiter(
                    requests_per_minute=requests_per_minute,
                    tokens_per_minute=tokens_per_minute,
                    max_in_flight=max_in_flight,
                    clock=clock,
                )
            else:
                found.tighten(
                    requests_per_minute=requests_per_minute,
                    tokens_per_minute=tokens_per_minute,
                    max_in_flight=max_in_flight,
                )
            return found


# The one shared object of this package: an account's limits are a fact of the process, not of a client object.
ENDPOINTS = EndpointRegistry()


def _stricter(one: int | None, other: int | None) -> int | None:
    given = [value for value in (one, other) if value is not None]
    return min(given) if given else None


def _give_turn(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
