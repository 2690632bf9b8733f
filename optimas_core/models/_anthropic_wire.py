"""The Anthropic protocol, /v1/messages, through the anthropic SDK."""

from __future__ import annotations

from typing import Any

from optimas_core.errors import CallRejected
from optimas_core.models._connections import http_options
from optimas_core.models._types import FinishReason, Message, ModelRequest
from optimas_core.models._wire import MalformedAnswer, RawReply, cut_at, token_count

# API versions that still take temperature and top_p; later ones answer 400 to them, even at their defaults.
VERSIONS_WITH_SAMPLING = ("2023-06-01",)


class AnthropicWire:
    """`api_version` None: the version that the installed SDK sends."""

    def __init__(self, model: str, *, api_version: str | None) -> None:
        self._model = model
        self._api_version = api_version

    def open(self, base_url: str, api_key: str) -> Any:
        from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

        headers = {"anthropic-version": self._api_version} if self._api_version else None
        return AsyncAnthropic(
            api_key=api_key, base_url=base_url, max_retries=0, default_headers=headers, **http_options(DefaultAsyncHttpxClient, base_url)
        )

    async def send(self, sdk: Any, request: ModelRequest, timeout_s: float) -> RawReply:
        if request.adapter is not None:
            raise CallRejected(
                f"The request names the adapter {request.adapter!r}, but {self._model} is a hosted model without adapters.",
                remedy="Use OpenAICompatible with a server that has loaded the adapter.",
            )
        options: dict[str, Any] = {}
        system = "\n\n".join(message.content for message in request.messages if message.role == "system")
        if system:
            options["system"] = system
        # The API refuses stop sequences that are only white space (a line end, for one): those are cut off here.
        stop = [text for text in request.sampling.stop if text.strip()]
        if stop:
            options["stop_sequences"] = stop
        if self._api_version in VERSIONS_WITH_SAMPLING:
            # In the body by hand: SDK 2.x has no such arguments. Only one of the two may be given to newer models.
            options["extra_body"] = {"temperature": request.sampling.temperature}
            if request.sampling.top_p != 1.0:
                options["extra_body"] = {"top_p": request.sampling.top_p}
        body = await sdk.messages.create(
            model=self._model,
            max_tokens=request.sampling.max_tokens,
            messages=_messages(request),
            timeout=timeout_s,
            **options,
        )
        return cut_at(_reply(body), tuple(text for text in request.sampling.stop if not text.strip()))

    async def probe(self, sdk: Any, timeout_s: float) -> None:
        """GET /v1/models/<model>: costs nothing, and 404 means that the model is not there."""
        await sdk.models.retrieve(self._model, timeout=timeout_s)


def _messages(request: ModelRequest) -> list[dict[str, str]]:
    if request.prompt is not None:
        return [Message("user", request.prompt).to_json()]
    turns = [message.to_json() for message in request.messages if message.role != "system"]
    if not turns:
        raise CallRejected("The request has only system messages; this API wants a user message.", remedy="Add a user message.")
    return turns


def _reply(body: Any) -> RawReply:
    # The SDK does not validate: a proxy's HTML page arrives as str, and any JSON object as an empty message.
    blocks = getattr(body, "content", None)
    if not isinstance(blocks, list):
        raise MalformedAnswer("The answer is not a message: it has no content.")
    texts = [getattr(block, "text", None) for block in blocks if getattr(block, "type", None) == "text"]
    usage = getattr(body, "usage", None)
    tokens_in = token_count(getattr(usage, "input_tokens", None))
    if tokens_in is not None:
        # input_tokens leaves out what a prompt cache took or gave; it is input all the same.
        tokens_in += token_count(getattr(usage, "cache_creation_input_tokens", None)) or 0
        tokens_in += token_count(getattr(usage, "cache_read_input_tokens", None)) or 0
    return RawReply(
        text="".join(text for text in texts if isinstance(text, str)),
        finish_reason=_finish_reason(getattr(body, "stop_reason", None)),
        tokens_in=tokens_in,
        tokens_out=token_count(getattr(usage, "output_tokens", None)),
    )


def _finish_reason(reason: object) -> FinishReason:
    match reason:
        case "end_turn" | "stop_sequence":
            return "stop"
        case "max_tokens" | "model_context_window_exceeded":
            return "length"
        case "refusal":
            return "refusal"
        case _:
            return "other"
