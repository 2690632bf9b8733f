"""Trying a call again: only `TemporaryError`s, with full jitter, Retry-After and a deadline.

Source of the back-off: full jitter, wait ~ uniform(0, min(cap, base * 2^(n-1))) before try n + 1.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from optimas_core.errors import CallTimeout, RateLimited, ServerFault, TemporaryError
from optimas_core.models._clock import Clock
from optimas_core.models._limiter import EndpointLimiter
from optimas_core.models._types import AttemptMeter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long. `max_attempts` counts the first try."""

    max_attempts: int = 6
    base_s: float = 0.5
    cap_s: float = 30.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.base_s < 0 or self.cap_s < 0:
            raise ValueError(f"{self} is impossible: at least one attempt, and no negative wait")

    def wait_s(self, attempt: int, fault: BaseException | None, rng: random.Random) -> float:
        """Seconds to wait after the failed try number `attempt` (from 1).

        Retry-After is a lower bound; the jitter on top keeps the callers from coming back in one moment.
        """
        ceiling_s = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 60))
        asked_s = retry_after_of(fault)
        if asked_s is not None:
            return asked_s + rng.uniform(0.0, self.base_s)
        return rng.uniform(0.0, ceiling_s)


def retry_after_of(fault: BaseException | None) -> float | None:
    return fault.retry_after_s if isinstance(fault, RateLimited | ServerFault) else None


async def call_with_retries(
    attempt: Callable[[int, float], Awaitable[T]],
    *,
    where: str,
    deadline_s: float,
    policy: RetryPolicy,
    limiter: EndpointLimiter,
    reserve_tokens: int,
    tokens_of: Callable[[T], int],
    clock: Clock,
    rng: random.Random,
    meter: AttemptMeter | None = None,
) -> T:
    """Run `attempt(number from 0, seconds it may take)` until it answers.

    The deadline covers attempts, back-off and the server's Retry-After. Standing in our own limiter's queue is not the
    call: it does not count, or a long batch would time out before it was sent. `meter` hears of every try whose answer was
    lost, and is asked before the next one.

    Raises:
        CallTimeout: the deadline passed, or the next wait would pass it; the last fault is its cause.
        TemporaryError: the last of `max_attempts` faults.
        Exception: anything else, at once and unchanged (what `meter` raises too).
    """
    tries = lost = 0
    async with limiter.slot():
        ends_s = clock.now() + deadline_s

        async def one_try() -> T:
            nonlocal tries, lost, ends_s
            if meter is not None and lost:
                paused_s = clock.now()
                await meter.again()
                ends_s += clock.now() - paused_s  # as in our own limiter's queue
                lost = 0
            admission = await limiter.admit(reserve_tokens)
            ends_s += admission.waited_s
            left_s = ends_s - clock.now()
            tries += 1
            try:
                async with asyncio.timeout(left_s):
                    answer = await attempt(tries - 1, left_s)
            except TimeoutError:
                lost = _count_lost(meter)
                raise CallTimeout(f"{where} did not answer within {left_s:.3g} s.", maybe_billed=True) from None
            except TemporaryError as fault:
                if fault.maybe_billed:
                    lost = _count_lost(meter)
                asked_s = retry_after_of(fault)
                if asked_s is not None:
                    limiter.pause(asked_s)
                raise
            limiter.settle(admission, tokens_of(answer))
            return answer

        # A plain loop: an object for each call that its own closures refer to would be garbage only the collector can find,
        # and with hundreds of calls in flight the collector's pauses were a tenth of the wall time (benchmarks/rollout_engine.py).
        while True:
            try:
                return await one_try()
            except TemporaryError as fault:
                wait_s = policy.wait_s(tries, fault, rng)
                if tries >= policy.max_attempts and clock.now() < ends_s:
                    fault.add_note(f"gave up after {tries} attempts")
                    raise
                if tries >= policy.max_attempts or clock.now() + wait_s >= ends_s:
                    raise CallTimeout(
                        f"{where}: the deadline of {deadline_s:g} s allows no further attempt after {tries}. Last: {fault.message}",
                        remedy="Raise the deadline, or ask for less at once.",
                    ) from fault
            await clock.sleep(wait_s)


def _count_lost(meter: AttemptMeter | None) -> int:
    if meter is not None:
        meter.lost()
    return 1
