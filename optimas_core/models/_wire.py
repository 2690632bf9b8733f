"""What a vendor's protocol has to do for us; one small implementation for each protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from optimas_core.models._types import FinishReason, ModelRequest


class MalformedAnswer(Exception):
    """The body is not what the protocol promises; becomes a ServerFault that names the model and the host."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """One answer as the server gave it. Token counts are None where the server sent none."""

    text: str
    finish_reason: FinishReason
    tokens_in: int | None
    tokens_out: int | None


class Wire(Protocol):
    """One protocol bound to one model. `sdk` is the SDK's async client, which belongs to one event loop."""

    def open(self, base_url: str, api_key: str) -> Any:
        """A new SDK client that does not retry: retries are ours."""

    async def send(self, sdk: Any, request: ModelRequest, timeout_s: float) -> RawReply:
        """One attempt.

        Raises:
            MalformedAnswer: the body is not what the protocol promises.
            CallRejected: the request cannot be put in this protocol.
            Exception: whatever the SDK raises; the caller translates it.
        """

    async def probe(self, sdk: Any, timeout_s: float) -> None:
        """Ask for the model without generating more than one token; raises as `send` does."""


def token_count(value: object) -> int | None:
    """A count as the server reported it; None where it is absent or no count."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def cut_at(reply: RawReply, stops: tuple[str, ...]) -> RawReply:
    """`reply` up to the first of `stops`, for stop sequences that the server was not or could not be told of."""
    ends = [end for end in (reply.text.find(stop) for stop in stops if stop) if end >= 0]
    return replace(reply, text=reply.text[: min(ends)], finish_reason="stop") if ends else reply
