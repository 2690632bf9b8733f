"""A model of the Anthropic API."""

from __future__ import annotations

from collections.abc import Sequence

from optimas_core.models._anthropic_wire import AnthropicWire
from optimas_core.models._clock import Clock
from optimas_core.models._endpoint import Endpoint
from optimas_core.models._limiter import EndpointLimiter
from optimas_core.models._remote import RemoteModel, gather_in_order
from optimas_core.models._retry import RetryPolicy
from optimas_core.models._tokens import estimate_tokens
from optimas_core.models._types import ModelReply, ModelRequest, Price
from optimas_core.models.prices import price_of

ANTHROPIC_BASE_URL = "https://api.anthropic.com"


class Anthropic:
    """A model of the Anthropic API (/v1/messages).

    - System messages, wherever they stand, become the request's system text. A raw prompt (completion format) goes as
      one user message, word for word.
    - API version 2026-10-21, which the SDK sends, answers 400 to temperature and top_p, so they are not sent: the model
      samples as it is set up to, and calls differ even at temperature 0. `api_version="2023-06-01"` sends them, to
      models that still take them (temperature 0 to 1); the version then stands in the id, for the answers differ. There
      is no seed in either version.
    - The key is read from the variable `api_key_env` at the call; ANTHROPIC_BASE_URL and the like are not read.
    - `usd` is the price of the attempt that answered. One cut off on the way may have been billed too: a run counts it at its most.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key_env: str = "ANTHROPIC_API_KEY",
        base_url: str | None = None,
        api_version: str | None = None,
        price: Price | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_in_flight: int = 64,
        max_attempts: int = 6,
        backoff_base_s: float = 0.5,
        backoff_cap_s: float = 30.0,
        limiter: EndpointLimiter | None = None,
        clock: Clock | None = None,
    ) -> None:
        id = f"anthropic/{model}" + (f"@{api_version}" if api_version else "")
        # The SDK adds /v1 itself; an address written with it is meant the same.
        root = (base_url or ANTHROPIC_BASE_URL).rstrip("/").removesuffix("/v1")
        self._remote = RemoteModel(
            id=id,
            model=model,
            wire=AnthropicWire(model, api_version=api_version),
            endpoint=Endpoint(root, api_key_env),
            price=price or price_of(id),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_in_flight=max_in_flight,
            limiter=limiter,
            policy=RetryPolicy(max_attempts, backoff_base_s, backoff_cap_s),
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"Anthropic({self._remote.model!r})"

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
