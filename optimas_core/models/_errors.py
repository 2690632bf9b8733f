"""From what an SDK or an HTTP server said to our error tree; and how a secret is kept out of it.

    401, 403                                     AuthenticationFailed   permanent
    404, 400, 413, 422, other 4xx                CallRejected           permanent
    429 with "insufficient_quota"                CallRejected           permanent: no waiting fills an empty account
    429                                          RateLimited            temporary, with Retry-After
    408, deadline of the SDK                     CallTimeout            temporary
    409, 425, 5xx (529 too)                      ServerFault            temporary, with Retry-After
    refused, reset, cut body, body not as agreed ServerFault            temporary

The openai and anthropic SDKs name their exceptions alike, so classes are told by name and neither is imported here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from optimas_core._redaction import without_keys
from optimas_core.errors import (
    AuthenticationFailed,
    CallRejected,
    CallTimeout,
    OptimasError,
    RateLimited,
    ServerFault,
)
from optimas_core.models._wire import MalformedAnswer

_TEXT_LIMIT = 300
# A gateway waited in vain: the model behind it may have written its answer.
_GATEWAY_TIMEOUTS = (504, 524)
# httpx's names for a connection that never stood: nothing was sent over it.
_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text` on one line, shortened, without the given secrets, however they are written, and without what looks like a key."""
    text = " ".join(without_keys(text, secrets).split())
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"


def retry_after_s(value: str | None, *, wall_s: float) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as an HTTP date. None: absent or unreadable."""
    if value is None or not value.strip():
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (TypeError, ValueError):
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        seconds = date.timestamp() - wall_s
    if not math.isfinite(seconds):
        return None
    return max(0.0, seconds)


def error_from_status(status: int, *, where: str, said: str = "", code: str = "", retry_after: float | None = None) -> OptimasError:
    """The error for an HTTP status. `where` names model and host; `said` is the server's text, already redacted."""
    text = f"{where} answered {status}" + (f": {said}" if said else ".")
    match status:
        case 401 | 403:
            return AuthenticationFailed(text, remedy="Check the key in the environment and what it may use.")
        case 404:
            return CallRejected(text, remedy="Check the model's name and the base URL.")
        case 408:
            return CallTimeout(text)
        case 429 if code == "insufficient_quota":
            return CallRejected(text, remedy="The account has no credit left: add some, or use another key.")
        case 429:
            return RateLimited(text, retry_after_s=retry_after)
        case 409 | 425:
            return ServerFault(text, retry_after_s=retry_after)
        case _ if status >= 500:
            return ServerFault(text, retry_after_s=retry_after, maybe_billed=status in _GATEWAY_TIMEOUTS)
        case _:
            return CallRejected(text, remedy="The request itself is refused; sending it again cannot help.")


def error_from_exception(exc: Exception, *, where: str, wall_s: float, secrets: tuple[str, ...] = ()) -> OptimasError | None:
    """Our error for an exception of an SDK; None where it is neither the server's nor the network's (a defect)."""
    if isinstance(exc, OptimasError):
        return exc
    names = {kind.__name__ for kind in type(exc).__mro__}
    if "APIResponseValidationError" in names or isinstance(exc, json.JSONDecodeError | UnicodeDecodeError):
        return ServerFault(f"{where} answered with a body that is not the JSON agreed on.", maybe_billed=True)
    if isinstance(exc, MalformedAnswer):
        return ServerFault(f"{where}: {exc}", maybe_billed=True)
    if "APITimeoutError" in names:
        return CallTimeout(f"{where} did not answer in time.", maybe_billed=True)
    if "APIConnectionError" in names:
        cause = type(exc.__cause__).__name__ if exc.__cause__ is not None else type(exc).__name__
        return ServerFault(
            f"{where} could not be reached, or the connection broke ({cause}).",
            maybe_billed=cause not in _NEVER_SENT,
        )
    if "APIStatusError" not in names:
        return None
    status = int(getattr(exc, "status_code", 0))
    headers: Mapping[str, str] = getattr(getattr(exc, "response", None), "headers", {})
    said, code = _server_text(getattr(exc, "body", None))
    return error_from_status(
        status,
        where=where,
        said=redact(said, secrets),
        code=code,
        retry_after=retry_after_s(headers.get("retry-after"), wall_s=wall_s),
    )


def _server_text(body: Any) -> tuple[str, str]:
    """(message, code) out of an error body of either protocol, or the body itself where it has no such fields."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return str(inner.get("message") or ""), str(inner.get("code") or inner.get("type") or "")
        return str(inner), ""
    return ("" if body is None else str(body)), ""
