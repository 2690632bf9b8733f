"""A model that plays a script of replies and faults, in memory: for tests, demos and dry runs.

    model = Scripted(lambda request, attempt: RateLimit(2.0) if attempt == 0 else "Paris")

It goes through the same retries, deadline and limiter as the real clients; with a `VirtualClock` no time passes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from optimas_core.errors import CallTimeout, ServerFault
from optimas_core.models._clock import Clock, SystemClock, VirtualClock
from optimas_core.models._errors import error_from_status
from optimas_core.models._faults import (
    CutStream,
    Disconnect,
    Fault,
    Junk,
    RateLimit,
    Refusal,
    Rejected,
    Script,
    ScriptPlayer,
    ServerError,
    Stall,
    Step,
    Truncated,
)
from optimas_core.models._limiter import EndpointLimiter
from optimas_core.models._remote import gather_in_order
from optimas_core.models._retry import RetryPolicy, call_with_retries
from optimas_core.models._tokens import estimate_request_tokens, estimate_tokens
from optimas_core.models._types import FinishReason, ModelReply, ModelRequest, Price

__all__ = [
    "CutStream",
    "Disconnect",
    "Fault",
    "Junk",
    "RateLimit",
    "Refusal",
    "Rejected",
    "Script",
    "Scripted",
    "ServerError",
    "Stall",
    "Step",
    "Truncated",
    "VirtualClock",
]

FREE = Price(0.0, 0.0)


class Scripted:
    """A ModelClient that answers by `script`.

    A function `(request, attempt from 0) -> step` gives the same answers in any order and concurrency; a sequence is
    played once in the order of the tries. A step is a text, a ModelReply or a fault. Tokens are `count_tokens`.
    `calls` counts the tries, `billed` those for which a vendor would charge. `price` None is an unknown price.
    """

    def __init__(
        self,
        script: Script,
        *,
        id: str = "scripted/model",
        price: Price | None = FREE,
        latency_s: float = 0.0,
        max_in_flight: int = 1024,
        max_attempts: int = 6,
        backoff_base_s: float = 0.5,
        backoff_cap_s: float = 30.0,
        limiter: EndpointLimiter | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._player = ScriptPlayer(script)
        self._id = id
        self._price = price
        self._latency_s = latency_s
        self._policy = RetryPolicy(max_attempts, backoff_base_s, backoff_cap_s)
        self._clock: Clock = clock or SystemClock()
        self._limiter = limiter or EndpointLimiter(max_in_flight=max_in_flight, clock=self._clock)
        # A fixed seed: a test with a virtual clock waits the same every time.
        self._rng = random.Random(0)

    def __repr__(self) -> str:
        return f"Scripted({self._id!r}, {self.calls} calls)"

    @property
    def id(self) -> str:
        return self._id

    @property
    def price(self) -> Price | None:
        return self._price

    @price.setter
    def price(self, price: Price | None) -> None:
        self._price = price

    @property
    def calls(self) -> int:
        return self._player.calls

    @property
    def billed(self) -> int:
        return self._player.billed

    async def complete(self, request: ModelRequest) -> ModelReply:
        return await call_with_retries(
            lambda number, timeout_s: self._attempt(request, number, timeout_s),
            where=self._id,
            deadline_s=request.deadline_s,
            policy=self._policy,
            limiter=self._limiter,
            reserve_tokens=estimate_request_tokens(request) + request.sampling.max_tokens,
            tokens_of=lambda reply: reply.tokens_in + reply.tokens_out,
            clock=self._clock,
            rng=self._rng,
            meter=request.meter,
        )

    async def complete_many(self, requests: Sequence[ModelRequest]) -> list[ModelReply | Exception]:
        return await gather_in_order(self.complete, requests)

    async def check(self) -> None:
        """Always ready; plays no step."""

    def count_tokens(self, text: str) -> int:
        """An upper estimate: UTF-8 bytes / 3."""
        return estimate_tokens(text)

    async def _attempt(self, request: ModelRequest, number: int, timeout_s: float) -> ModelReply:
        step = self._player.step(request, number)
        wait_s = self._latency_s + (step.seconds if isinstance(step, Stall) else 0.0)
        if wait_s > 0:
            await self._clock.sleep(min(wait_s, timeout_s))
        if wait_s >= timeout_s:
            raise CallTimeout(f"{self._id} did not answer within {timeout_s:.3g} s.", maybe_billed=True)
        match step:
            case ModelReply():
                return replace(step, attempts=number + 1)
            case str():
                return self._reply(request, step, "stop", wait_s, number)
            case Stall():
                return self._reply(request, step.text, "stop", wait_s, number)
            case Refusal():
                return self._reply(request, step.text, "refusal", wait_s, number)
            case Truncated():
                return self._reply(request, step.text, "length", wait_s, number)
            case RateLimit():
                raise error_from_status(429, where=self._id, retry_after=step.retry_after_s)
            case ServerError():
                raise error_from_status(step.status, where=self._id, retry_after=step.retry_after_s)
            case Rejected():
                raise error_from_status(step.status, where=self._id, said=step.message, code=step.code)
            case CutStream():
                raise ServerFault(f"{self._id}: the connection broke in the middle of the answer.", maybe_billed=True)
            case Junk():
                raise ServerFault(f"{self._id} answered with a body that is not the JSON agreed on.", maybe_billed=True)
            case Disconnect():
                raise ServerFault(f"{self._id}: the connection was reset.", maybe_billed=True)
            case _:
                raise TypeError(f"a script gave a {type(step).__name__}; it gives a text, a ModelReply or a fault")

    def _reply(self, request: ModelRequest, text: str, finish: FinishReason, latency_s: float, number: int) -> ModelReply:
        tokens_in, tokens_out = estimate_request_tokens(request), estimate_tokens(text)
        return ModelReply(
            text=text,
            model=self._id,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            finish_reason=finish,
            latency_s=latency_s,
            usd=None if self._price is None else self._price.usd(tokens_in, tokens_out),
            attempts=number + 1,
        )
