"""How many tokens a text has where the model's tokenizer is not at hand."""

from __future__ import annotations

from optimas_core.models._types import ModelRequest

_BYTES_PER_TOKEN = 3
# Role marks and separators that a chat template adds around each message.
_TOKENS_PER_MESSAGE = 4


def estimate_tokens(text: str) -> int:
    """An upper estimate: UTF-8 bytes / 3, rounded up.

    English prose has about 4 characters a token, code about 3; bytes instead of characters, because Chinese, Japanese
    or emoji take a token or more for each character. Unusual text (digits, rare scripts) can still exceed it.
    """
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)


def estimate_request_tokens(request: ModelRequest) -> int:
    """An upper estimate of what the server will count as the request's input."""
    if request.prompt is not None:
        return estimate_tokens(request.prompt)
    return sum(estimate_tokens(message.content) + _TOKENS_PER_MESSAGE for message in request.messages)
