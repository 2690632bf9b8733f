"""A model of any server that speaks the OpenAI protocol: vLLM, TGI, llama.cpp, a gateway."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from optimas_core.models._clock import Clock
from optimas_core.models._endpoint import Endpoint
from optimas_core.models._limiter import EndpointLimiter
from optimas_core.models._openai_wire import OpenAIWire, SamplingParameter
from optimas_core.models._remote import RemoteModel, gather_in_order
from optimas_core.models._retry import RetryPolicy
from optimas_core.models._tokens import estimate_tokens
from optimas_core.models._types import ModelReply, ModelRequest, Price


class OpenAICompatible:
    """A model of a server with the OpenAI protocol at `base_url` ("http://host:port" or with its path, usually /v1).

    - A raw prompt (completion format) goes to /v1/completions, so that no chat template touches it.
    - A LoRA adapter is called by its name in place of the model's (vLLM): the request's, or else the client's
      `adapter`. A client with an adapter has it in its id, for its answers are not the base model's.
    - The address stands in no id: the same model at another address gives the same answers.
    - `price` None is "not reported": what a server of your own costs is known to you only.
    - Parameters that the server refuses can be named in `omit`. No key is sent unless `api_key_env` names one.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key_env: str | None = None,
        adapter: str | None = None,
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
        self._adapter = adapter
        self._remote = RemoteModel(
            id=f"compatible/{model}" + (f"+{adapter}" if adapter else ""),
            model=model,
            wire=OpenAIWire(
                model,
                token_limit="max_tokens",
                raw_completions=True,
                adapters=True,
                default_adapter=adapter,
                omit=tuple(omit),
            ),
            endpoint=Endpoint(_with_path(base_url), api_key_env),
            price=price,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_in_flight=max_in_flight,
            limiter=limiter,
            policy=RetryPolicy(max_attempts, backoff_base_s, backoff_cap_s),
            clock=clock,
        )

    def __repr__(self) -> str:
        adapter = f", adapter={self._adapter!r}" if self._adapter else ""
        return f"OpenAICompatible({self._remote.model!r} at {self._remote.endpoint.host}{adapter})"

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


def _with_path(base_url: str) -> str:
    """The address with /v1 where it names no path."""
    bare = base_url.rstrip("/")
    return bare if urlsplit(bare).path else f"{bare}/v1"
