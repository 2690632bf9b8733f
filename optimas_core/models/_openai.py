"""A model of the OpenAI API."""

from __future__ import annotations

from collections.abc import Sequence

from optimas_core.models._clock import Clock
from optimas_core.models._endpoint import Endpoint
from optimas_core.models._limiter import EndpointLimiter
from optimas_core.models._openai_wire import OpenAIWire, SamplingParameter
from optimas_core.models._remote import RemoteModel, gather_in_order
from optimas_core.models._retry import RetryPolicy
from optimas_core.models._tokens import estimate_tokens
from optimas_core.models._types import ModelReply, ModelRequest, Price
from optimas_core.models.prices import price_of

OPENAI_BASE_URL = "https://api.openai.com/v1"


class OpenAI:
    """A chat model of the OpenAI API, or of a proxy in front of it (`base_url`).

    - The API is chat only: a raw prompt (completion format) goes as one user message, word for word. For a server of
      your own with /v1/completions use `OpenAICompatible`.
    - Reasoning models refuse some sampling parameters (temperature other than 1, stop): name them in `omit`, and they
      are not sent. A stop sequence that is not sent is applied to the answer here.
    - The key is read from the variable `api_key_env` at the call; OPENAI_BASE_URL and the like are not read.
    - `usd` is the price of the attempt that answered. One cut off on the way may have been billed too: a run counts it at its most.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        base_url: str | None = None,
        price: Price | None = None,
        omit: Sequence[SamplingParameter] = (),
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_in_flight: int = 64,
        max_attempts: int = 6,
        backoff_base_s: float = 0.5,
        backoff_cap_s: float = 30.0,
        limiter: EndpointLimiter | None = None,
        clock: Clock | None = None,
    ) -> None:
        id = f"openai/{model}"
        self._remote = RemoteModel(
            id=id,
            model=model,
            wire=OpenAIWire(model, token_limit="max_completion_tokens", raw_completions=False, adapters=False, omit=tuple(omit)),
            endpoint=Endpoint(base_url or OPENAI_BASE_URL, api_key_env),
            price=price or price_of(id),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_in_flight=max_in_flight,
            limiter=limiter,
            policy=RetryPolicy(max_attempts, backoff_base_s, backoff_cap_s),
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"OpenAI({self._remote.model!r})"

    @property
    def id(self) -> str:
        return self._remote.id

    @property
    def price(self) -> Price | None:
        return self._remote.price

    @price.setter
    def price(self, price: Price | None) -> None:
        self._remote.price = price

    async def complete(self, request: ModelRequest) -> ModelReply:
        return await self._remote.complete(request)

    async def complete_many(self, requests: Sequence[ModelRequest]) -> list[ModelReply | Exception]:
        return await gather_in_order(self.complete, requests)

    async def check(self) -> None:
        await self._remote.check()

    def count_tokens(self, text: str) -> int:
        """An upper estimate: UTF-8 bytes / 3."""
        return estimate_tokens(text)

    async def aclose(self) -> None:
        """Close this event loop's connections now; the end of `asyncio.run` does it as well."""
        await self._remote.close()
