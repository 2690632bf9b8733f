"""The OpenAI protocol through the openai SDK: chat completions, and raw completions where the server has them.

Requests go through the SDK's `post`, and answers are read from the JSON itself: its typed methods check each request against its
types and build an object for each answer, which is a third of a call's CPU and tells us nothing that we do not look at anyway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from optimas_core.errors import CallRejected
from optimas_core.models._connections import http_options
from optimas_core.models._types import FinishReason, ModelRequest
from optimas_core.models._wire import MalformedAnswer, RawReply, cut_at, token_count

# What the SDK tells of this machine with every call: no server needs it, and it is half of a request's headers.
# Spelled as the SDK spells them: one of them it sets again after ours, and only the same spelling takes its place.
_OF_THE_CLIENT = tuple(f"X-Stainless-{what}" for what in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async"))
_OF_A_CALL = ("x-stainless-retry-count", "x-stainless-read-timeout")

SamplingParameter = Literal["temperature", "top_p", "max_tokens", "stop", "seed"]


class OpenAIWire:
    """`token_limit` is the name this server gives to max_tokens; `omit` are parameters the model refuses.

    `raw_completions` False: the server has no /v1/completions, and a raw prompt goes as one user message.
    """

    def __init__(
        self,
        model: str,
        *,
        token_limit: Literal["max_tokens", "max_completion_tokens"],
        raw_completions: bool,
        adapters: bool,
        default_adapter: str | None = None,
        omit: tuple[SamplingParameter, ...] = (),
    ) -> None:
        self._model = model
        self._token_limit = token_limit
        self._raw_completions = raw_completions
        self._adapters = adapters
        self._default_adapter = default_adapter
        self._omit = omit

    def open(self, base_url: str, api_key: str) -> Any:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Omit

        untold: Mapping[str, Any] = {name: Omit() for name in _OF_THE_CLIENT}  # declared as texts, taken as Omit since openai 1.0
        sdk = AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            default_headers=untold,
            **http_options(DefaultAsyncHttpxClient, base_url),
        )
        if self._adapters:
            # The SDK takes these from OPENAI_ORG_ID and OPENAI_PROJECT_ID; they are no business of another server.
            sdk.organization = sdk.project = None
        return sdk

    async def send(self, sdk: Any, request: ModelRequest, timeout_s: float) -> RawReply:
        body = self._options(request) | {"model": self._served_name(request)}
        if request.prompt is not None and self._raw_completions:
            return self._cut(request, _completion_reply(await _posted(sdk, "/completions", body | {"prompt": request.prompt}, timeout_s)))
        if request.prompt is not None:
            messages = [{"role": "user", "content": request.prompt}]
        else:
            messages = [message.to_json() for message in request.messages]
        return self._cut(request, _chat_reply(await _posted(sdk, "/chat/completions", body | {"messages": messages}, timeout_s)))

    async def probe(self, sdk: Any, timeout_s: float) -> None:
        """Look for the model (and the client's adapter) in /v1/models; ask for one token where there is no list."""
        import openai

        try:
            listed = await sdk.models.list(timeout=timeout_s)
        except openai.APIStatusError as exc:
            if exc.status_code not in (404, 405, 501):
                raise
            messages = [{"role": "user", "content": "Hi"}]
            await sdk.chat.completions.create(
                model=self._default_adapter or self._model,
                messages=messages,
                timeout=timeout_s,
                **{self._token_limit: 1},
            )
            return
        known = sorted(str(entry.id) for entry in getattr(listed, "data", None) or [])
        for wanted in filter(None, (self._model, self._default_adapter)):
            if wanted not in known:
                raise CallRejected(
                    f"The server does not know the model or adapter {wanted!r}.",
                    remedy=f"It has: {', '.join(known[:8]) or 'none'}{' …' if len(known) > 8 else ''}.",
                )

    def _cut(self, request: ModelRequest, reply: RawReply) -> RawReply:
        return cut_at(reply, request.sampling.stop) if "stop" in self._omit else reply

    def _served_name(self, request: ModelRequest) -> str:
        if request.adapter is not None and not self._adapters:
            raise CallRejected(
                f"The request names the adapter {request.adapter!r}, but {self._model} is a hosted model without adapters.",
                remedy="Use OpenAICompatible with a server that has loaded the adapter.",
            )
        return request.adapter or self._default_adapter or self._model

    def _options(self, request: ModelRequest) -> dict[str, Any]:
        sampling = request.sampling
        options: dict[SamplingParameter, Any] = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
        if sampling.top_p != 1.0:
            options["top_p"] = sampling.top_p
        if sampling.stop:
            options["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            options["seed"] = sampling.seed
        sent: dict[str, Any] = {name: value for name, value in options.items() if name not in self._omit}
        chat = request.prompt is None or not self._raw_completions
        if chat and "max_tokens" in sent:
            sent[self._token_limit] = sent.pop("max_tokens")
        return sent


async def _posted(sdk: Any, path: str, body: Mapping[str, Any], timeout_s: float) -> Any:
    """The answer's JSON, unchecked.

    Raises:
        MalformedAnswer: it is none that can be read.
    """
    from openai import Omit

    options = {"timeout": timeout_s, "headers": {name: Omit() for name in _OF_A_CALL}}
    answer = await sdk.post(path, cast_to=bytes, body=body, options=options)
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):  # not JSON, nested without end, a number of a million digits
        raise MalformedAnswer("The answer is not the JSON agreed on.") from None


def _chat_reply(body: Any) -> RawReply:
    choice = _only_choice(body)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise MalformedAnswer("The answer has a choice without a message.")
    refusal = message.get("refusal")
    content = message.get("content")
    finish = "refusal" if refusal else _finish_reason(choice.get("finish_reason"))
    return RawReply(_text(refusal if refusal and not content else content), finish, *_usage(body))


def _completion_reply(body: Any) -> RawReply:
    choice = _only_choice(body)
    return RawReply(_text(choice.get("text")), _finish_reason(choice.get("finish_reason")), *_usage(body))


def _only_choice(body: Any) -> dict[str, Any]:
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise MalformedAnswer("The answer is not a completion: it has no choices.")
    return choices[0]


def _text(content: object) -> str:
    if content is None:
        return ""
    if not isinstance(content, str):
        raise MalformedAnswer("The answer's content is not a text.")
    return content


def _usage(body: Mapping[str, Any]) -> tuple[int | None, int | None]:
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None, None
    return token_count(usage.get("prompt_tokens")), token_count(usage.get("completion_tokens"))


def _finish_reason(reason: object) -> FinishReason:
    match reason:
        case "stop":
            return "stop"
        case "length":
            return "length"
        case "content_filter":
            return "refusal"
        case _:
            return "other"
