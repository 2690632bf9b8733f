"""Everything around a remote call that is the same for all protocols: key, limiter, retries, errors, tokens, USD."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from optimas_core.errors import (
    AuthenticationFailed,
    CallRejected,
    EnvironmentNotReady,
    OptimasError,
    RateLimited,
    ServerFault,
)
from optimas_core.models._clock import Clock, SystemClock
from optimas_core.models._endpoint import Endpoint
from optimas_core.models._errors import error_from_exception
from optimas_core.models._limiter import ENDPOINTS, EndpointLimiter
from optimas_core.models._loops import PerLoop
from optimas_core.models._retry import RetryPolicy, call_with_retries
from optimas_core.models._tokens import estimate_request_tokens, estimate_tokens
from optimas_core.models._types import ModelReply, ModelRequest, Price
from optimas_core.models._wire import RawReply, Wire

T = TypeVar("T")

CHECK_DEADLINE_S = 20.0
CHECK_ATTEMPTS = 3


class RemoteModel:
    """One model at one endpoint. The public clients hold one of these and add what is theirs."""

    def __init__(
        self,
        *,
        id: str,
        model: str,
        wire: Wire,
        endpoint: Endpoint,
        price: Price | None,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        max_in_flight: int,
        limiter: EndpointLimiter | None,
        policy: RetryPolicy,
        clock: Clock | None,
    ) -> None:
        self.id = id
        self.model = model
        self.price = price
        self.endpoint = endpoint
        self.policy = policy
        self.clock: Clock = clock or SystemClock()
        self.limiter = limiter or ENDPOINTS.limiter(
            endpoint.base_url,
            endpoint.api_key_env,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_in_flight=max_in_flight,
            clock=self.clock,
        )
        self._wire = wire
        self._where = f"{id} at {endpoint.host}"
        # Its own generator: the moments of retries must neither disturb nor follow the run's randomness.
        self._rng = random.Random()
        self._sdks: PerLoop[Any] = PerLoop(lambda: wire.open(endpoint.base_url, endpoint.key()), _close_sdk)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """One request; see ModelClient.complete."""
        estimate_in = estimate_request_tokens(request)
        tries = 0

        async def attempt(number: int, timeout_s: float) -> tuple[RawReply, float]:
            nonlocal tries
            tries = number + 1
            started_s = self.clock.now()
            sdk = await self._sdks.get()
            raw = await self._translated(lambda: self._wire.send(sdk, request, timeout_s))
            return raw, self.clock.now() - started_s

        raw, latency_s = await call_with_retries(
            attempt,
            where=self._where,
            deadline_s=request.deadline_s,
            policy=self.policy,
            limiter=self.limiter,
            reserve_tokens=estimate_in + request.sampling.max_tokens,
            tokens_of=lambda answer: _sum(answer[0], estimate_in),
            clock=self.clock,
            rng=self._rng,
            meter=request.meter,
        )
        tokens_in = estimate_in if raw.tokens_in is None else raw.tokens_in
        tokens_out = estimate_tokens(raw.text) if raw.tokens_out is None else raw.tokens_out
        return ModelReply(
            text=raw.text,
            model=self.model,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            finish_reason=raw.finish_reason,
            latency_s=latency_s,
            usd=None if self.price is None else self.price.usd(tokens_in, tokens_out),
            attempts=tries,
        )

    async def check(self) -> None:
        """See ModelClient.check. A model list costs nothing; a server without one is asked for a single token."""

        async def attempt(_: int, timeout_s: float) -> None:
            sdk = await self._sdks.get()
            await self._translated(lambda: self._wire.probe(sdk, timeout_s))

        try:
            await call_with_retries(
                attempt,
                where=self._where,
                deadline_s=CHECK_DEADLINE_S,
                policy=RetryPolicy(
                    max_attempts=min(CHECK_ATTEMPTS, self.policy.max_attempts),
                    base_s=self.policy.base_s,
                    cap_s=self.policy.cap_s,
                ),
                limiter=self.limiter,
                reserve_tokens=1,
                tokens_of=lambda _: 1,
                clock=self.clock,
                rng=self._rng,
            )
        except EnvironmentNotReady:
            raise
        except OptimasError as fault:
            raise EnvironmentNotReady(fault.message, remedy=self._remedy(fault)) from fault

    async def close(self) -> None:
        """Close the connections of the running event loop. `asyncio.run` does it too when it ends."""
        await self._sdks.close()

    async def _translated(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except Exception as exc:
            error = error_from_exception(exc, where=self._where, wall_s=self.clock.wall(), secrets=self.endpoint.secrets())
            if error is None:
                raise
        # Outside the handler on purpose: the SDK's exception holds the request with its key, and would travel along as
        # the context of ours into every traceback that prints local values.
        raise error

    def _remedy(self, fault: OptimasError) -> str:
        match fault:
            case AuthenticationFailed():
                return f"Check the key in {self.endpoint.api_key_env or 'api_key_env (none is set)'}."
            case CallRejected():
                return fault.remedy or f"Check the model's name, {self.model!r}."
            case RateLimited():
                return "Wait, or lower requests_per_minute and max_in_flight."
            case ServerFault():
                return f"Check that a server listens at {self.endpoint.host} and can be reached from here."
            case _:
                return f"Check the server at {self.endpoint.host}."


async def gather_in_order(
    complete: Callable[[ModelRequest], Awaitable[ModelReply]], requests: Sequence[ModelRequest]
) -> list[ModelReply | Exception]:
    """Answer all at once (the limiter bounds them); result i belongs to request i, a failure stands in its place."""

    async def one(request: ModelRequest) -> ModelReply | Exception:
        try:
            return await complete(request)
        except Exception as exc:
            return exc

    return list(await asyncio.gather(*(one(request) for request in requests)))


def _sum(raw: RawReply, estimate_in: int) -> int:
    tokens_in = estimate_in if raw.tokens_in is None else raw.tokens_in
    return tokens_in + (estimate_tokens(raw.text) if raw.tokens_out is None else raw.tokens_out)


async def _close_sdk(sdk: Any) -> None:
    await sdk.close()
