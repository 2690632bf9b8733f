"""Text that UTF-8 cannot carry, on its way into a request, a table and an id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.errors import DataError
from optimas_core.models import Message, ModelRequest
from optimas_core.models._errors import error_from_status
from optimas_core.models._types import well_formed
from optimas_core.system import read_examples


@given(st.text(st.characters(exclude_categories=[]), max_size=30))
def test_a_request_can_always_be_sent_and_changes_only_what_cannot(text: str) -> None:
    sent = Message("user", text).content
    assert sent.encode().decode() == sent == ModelRequest(prompt=text).prompt == well_formed(sent)
    try:
        text.encode()
    except UnicodeEncodeError:
        assert "\ufffd" in sent or len(sent) < len(text)
    else:
        assert sent == text


def test_halves_of_a_pair_that_stand_together_are_one_character() -> None:
    assert well_formed("a\ud83d\ude00b \ud83d c\udfff") == "a\U0001f600b \ufffd c\ufffd"


@pytest.mark.parametrize(
    ("status", "maybe"), [(500, False), (502, False), (503, False), (504, True), (524, True), (529, False), (429, False)]
)
def test_only_a_gateway_that_waited_may_have_been_billed(status: int, maybe: bool) -> None:
    assert error_from_status(status, where="m").maybe_billed is maybe  # type: ignore[attr-defined]


def test_an_id_that_no_table_can_hold_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "\ud800 is fine here"}, {"id": "b\ud800", "question": "x"}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"the id 'b\\ud800'"):
        read_examples("data.jsonl", base=tmp_path)
    (tmp_path / "data.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert read_examples("data.jsonl", base=tmp_path)[0].id == "a"
