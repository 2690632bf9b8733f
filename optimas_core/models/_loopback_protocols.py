"""The JSON bodies of the two protocols, as a loopback server reads and writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from optimas_core.models._tokens import estimate_request_tokens, estimate_tokens
from optimas_core.models._types import FinishReason, Message, ModelRequest, Sampling

Route = Literal["chat", "completion", "messages"]
ROUTES: Mapping[str, Route] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/messages": "messages",
}


def parse_request(route: Route, body: Mapping[str, Any]) -> ModelRequest:
    """The request in our own terms.

    Raises:
        KeyError, TypeError, ValueError: the body is not a request of this protocol.
    """
    stop = body.get("stop_sequences" if route == "messages" else "stop") or ()
    sampling = Sampling(
        temperature=float(body.get("temperature", 1.0)),
        top_p=float(body.get("top_p", 1.0)),
        max_tokens=int(body.get("max_tokens") or body.get("max_completion_tokens") or 256),
        stop=(stop,) if isinstance(stop, str) else tuple(str(text) for text in stop),
        seed=body.get("seed"),
    )
    if body.get("stream"):
        raise ValueError("streaming is not scripted")
    if route == "completion":
        return ModelRequest(prompt=str(body["prompt"]), sampling=sampling)
    messages = [Message(turn["role"], str(turn["content"])) for turn in body["messages"]]
    if route == "messages" and body.get("system"):
        messages.insert(0, Message("system", str(body["system"])))
    return ModelRequest(messages=tuple(messages), sampling=sampling)


def answer_body(route: Route, model: str, request: ModelRequest, text: str, finish: FinishReason, *, usage: bool) -> dict[str, Any]:
    """A complete answer; without `usage` the server counts no tokens."""
    tokens_in, tokens_out = estimate_request_tokens(request), estimate_tokens(text)
    if route == "messages":
        reason = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"}.get(finish, "pause_turn")
        body: dict[str, Any] = {
            "id": "msg_loopback",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}] if text else [],
            "stop_reason": reason,
            "stop_sequence": None,
        }
        return body | ({"usage": {"input_tokens": tokens_in, "output_tokens": tokens_out}} if usage else {})
    reason = {"stop": "stop", "length": "length", "refusal": "content_filter"}.get(finish, "other")
    if route == "chat":
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text, "refusal": None}}
    else:
        choice = {"text": text}
    body = {
        "id": "cmpl-loopback",
        "object": "chat.completion" if route == "chat" else "text_completion",
        "created": 0,
        "model": model,
        "choices": [choice | {"index": 0, "finish_reason": reason}],
    }
    counted = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    return body | ({"usage": counted} if usage else {})


def error_body(route: Route | None, status: int, message: str, code: str = "") -> dict[str, Any]:
    """An error in the protocol's form."""
    kind = code or {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(status, "error")
    error = {"type": kind, "message": message}
    if route == "messages":
        return {"type": "error", "error": error}
    return {"error": error | {"code": code or None, "param": None}}
