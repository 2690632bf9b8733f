"""Time as a value: what waits (retries, limiters, scripted stalls) is given a clock, so tests take no time.

`SystemClock` is the real one. `VirtualClock` moves only when everybody waits: a sleeping task is woken in the order of
its wake-up time and the clock jumps there, so an hour of back-off passes in a millisecond, always in the same order.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

# The other tasks get this many turns of the event loop before the virtual clock concludes that all of them wait.
_QUIET_TURNS = 25


class Clock(Protocol):
    """Two readings and a wait."""

    def now(self) -> float:
        """Seconds, monotonic, from an arbitrary start."""

    def wall(self) -> float:
        """Seconds since 1970, for dates that a server sends."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """Time that passes only in sleeps, at once and in order. For tests and demos without real input or output.

    It may serve several event loops one after another, never two at the same time.
    """

    def __init__(self, *, wall: float = 1_700_000_000.0) -> None:
        self._now_s = 0.0
        self._wall_s = wall
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._driver: asyncio.Task[None] | None = None

    def now(self) -> float:
        return self._now_s

    def wall(self) -> float:
        return self._wall_s + self._now_s

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._sleepers, (self._now_s + max(0.0, seconds), next(self._order), woken))
        if self._driver is None or self._driver.done() or self._driver.get_loop() is not loop:
            self._driver = loop.create_task(self._drive(loop))
        await woken

    async def _drive(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._sleepers:
            for _ in range(_QUIET_TURNS):
                await asyncio.sleep(0)
            wake_s, _, woken = heapq.heappop(self._sleepers)
            # A cancelled sleeper, or one left behind by an event loop that has ended, does not move the clock.
            if woken.get_loop() is loop and not woken.done():
                self._now_s = max(self._now_s, wake_s)
                woken.set_result(None)
