"""Only what every reader of cron understands alike is a schedule."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.deploy import read_cron
from optimas_core.errors import SpecError

SATURDAY = datetime(2026, 8, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "plain", "first"),
    [
        ("0 0 2 * * 0", "0 0 2 * * 0", "2026-08-02 02:00:00"),
        ("0 0 2 * * sun", "0 0 2 * * 0", "2026-08-02 02:00:00"),
        ("0 0 2 ? * SUN", "0 0 2 * * 0", "2026-08-02 02:00:00"),
        ("30 */15 * * * *", "30 */15 * * * *", "2026-08-01 00:00:30"),
        ("0 0 9-17/2 * * MON-FRI", "0 0 9-17/2 * * 1-5", "2026-08-03 09:00:00"),
        ("0 5 4 1,15 JAN,JUL *", "0 5 4 1,15 1,7 *", "2027-01-01 04:05:00"),
        ("0 0 0 29 2 *", "0 0 0 29 2 *", "2028-02-29 00:00:00"),
        ("00 00 02 */1 * *", "0 0 2 * * *", "2026-08-01 02:00:00"),
    ],
)
def test_an_expression_its_plain_form_and_its_next_time(text: str, plain: str, first: str) -> None:
    cron = read_cron(text)
    assert cron.text == plain and read_cron(plain) == cron and cron.words
    times = cron.next_times(3, after=SATURDAY)
    assert str(times[0]).removesuffix("+00:00") == first and list(times) == sorted(set(times)) and len(times) == 3


def test_in_words() -> None:
    assert read_cron("0 0 2 * * 0").words == "At 02:00 on Sunday"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 2 * * 0", 'has five fields.*seconds.*Write "0 0 2 \\* \\* 0"'),
        ("", "has 0 fields"),
        ("@daily", "has 1 fields"),
        ("0 0 2 * * 0 2027", "has 7 fields"),
        ("* 0 2 * * 0", "more than one second"),
        ("*/10 0 2 * * 0", "more than one second"),
        ("0 0 2 1 * 0", "differ on whether both or either"),
        ("0 0 2 * * 7", "'7' in '7' is no day of week: it goes from 0 to 6"),
        ("0 60 2 * * *", "no minute"),
        ("0 0 24 * * *", "no hour"),
        ("0 0 0 0 * *", "no day of month"),
        ("0 0 0 * 13 *", "no month"),
        ("0 0 0 * SUN *", "no month"),
        ("0 0 0 31 2 *", "never comes"),
        ("0 0 0 30 FEB *", "never comes"),
        ("0 0 22-2 * * *", "runs backwards"),
        ("0 5/15 * * * *", "is no minute of a cron expression"),
        ("0 *-5 * * * *", "is no minute of a cron expression"),
        ("0 0 2 L * *", "is no day of month of a cron expression"),
        ("0 0 2 * * 1#2", "is no day of week of a cron expression"),
        ("0 */0 * * * *", "the step of"),
        ("0 */99 * * * *", "the step of"),
        ("0 0 2 * * 0;ls", "is no day of week"),
    ],
)
def test_what_is_refused_and_why(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        read_cron(text)
    assert caught.value.remedy


@given(st.text(alphabet="0123456789*/,-? SUNMOLW#@", max_size=30))
def test_any_text_is_a_schedule_or_a_spec_error(text: str) -> None:
    try:
        cron = read_cron(text)
    except SpecError:
        return
    assert len(cron.text.split()) == 6 and cron.next_times(1)[0].second == int(cron.text.split()[0])
