"""Which answers of a server are worth trying again, and what of them may be shown."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from optimas_core.errors import (
    AuthenticationFailed,
    CallRejected,
    CallTimeout,
    OptimasError,
    RateLimited,
    ServerFault,
    TemporaryError,
)
from optimas_core.models._errors import error_from_exception, error_from_status, redact, retry_after_s


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, CallRejected),
        (401, AuthenticationFailed),
        (403, AuthenticationFailed),
        (404, CallRejected),
        (408, CallTimeout),
        (409, ServerFault),
        (413, CallRejected),
        (422, CallRejected),
        (429, RateLimited),
        (500, ServerFault),
        (502, ServerFault),
        (503, ServerFault),
        (529, ServerFault),
    ],
)
def test_status_to_class(status: int, kind: type[OptimasError]) -> None:
    error = error_from_status(status, where="openai/m at host:443", said="because")
    assert type(error) is kind
    assert "openai/m at host:443" in error.message and str(status) in error.message and "because" in error.message


def test_an_empty_account_is_not_waited_for() -> None:
    error = error_from_status(429, where="m", code="insufficient_quota")
    assert isinstance(error, CallRejected) and not isinstance(error, TemporaryError)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_retry_after_travels_with_the_error(status: int) -> None:
    error = error_from_status(status, where="m", retry_after=7.0)
    assert isinstance(error, RateLimited | ServerFault) and error.retry_after_s == 7.0


NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("12", 12.0),
        ("0.25", 0.25),
        ("-3", 0.0),
        (format_datetime(NOW.replace(minute=1), usegmt=True), 60.0),
        (format_datetime(NOW.replace(hour=9), usegmt=True), 0.0),
        ("Sat, 21 Nov 2026 10:00:30 -0000", 30.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, wall_s=NOW.timestamp()) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-live-1234567890abcdef.",
        "header was 'Authorization: Bearer abc.def-123'",
        "x-api-key: topsecretvalue rejected",
        "key my-own-secret is unknown",
    ],
)
def test_nothing_that_looks_like_a_key_is_shown(text: str) -> None:
    shown = redact(text, ("my-own-secret",))
    assert "[key]" in shown
    for secret in ("1234567890", "abc.def", "topsecretvalue", "my-own-secret"):
        assert secret not in shown


def test_a_page_of_html_is_shortened_to_one_line() -> None:
    shown = redact("<html>\n" + "x" * 5000)
    assert len(shown) <= 300 and "\n" not in shown


def test_a_defect_of_our_own_is_not_dressed_up_as_a_server_fault() -> None:
    assert error_from_exception(TypeError("no such argument"), where="m", wall_s=0.0) is None
