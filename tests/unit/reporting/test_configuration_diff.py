"""Differences of texts and configurations: nothing is lost, nothing is invented, and a huge text is no trap."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.reporting import changes_as_text, diff_configurations
from optimas_core.reporting._diff_output import change_as_html
from optimas_core.reporting._text_diff import Segment, diff_words

WORDS = st.text(st.sampled_from("ab \n\t\u00e9"), max_size=40)
DEMONSTRATIONS = [{"inputs": {"q": "one"}, "output": "1"}, {"inputs": {"q": "two"}, "output": "2"}]


@given(WORDS, WORDS)
def test_segments_give_both_texts_back(before: str, after: str) -> None:
    segments = diff_words(before, after)
    assert "".join(part.text for part in segments if part.kind != "added") == before
    assert "".join(part.text for part in segments if part.kind != "removed") == after


@given(WORDS)
def test_equal_texts_have_no_difference(text: str) -> None:
    assert {part.kind for part in diff_words(text, text)} <= {"same"}


def test_only_the_changed_words_are_marked() -> None:
    assert diff_words("Give the answer now.", "Give a short answer now.") == (
        Segment("same", "Give "), Segment("removed", "the "), Segment("added", "a short "), Segment("same", "answer now."),
    )  # fmt: skip


@pytest.mark.parametrize("filling", ["x ", "line\n"])
def test_a_megabyte_is_compared_in_a_moment(filling: str) -> None:
    before = filling * (1_000_000 // len(filling))
    after = "".join(reversed(before))
    started = time.monotonic()
    segments = diff_words(before, after)
    assert time.monotonic() - started < 5
    assert "".join(part.text for part in segments if part.kind != "removed") == after


def prompt(**parts: Any) -> dict[str, Any]:
    return {"answerer": {"prompt": {"instruction": "Answer.", "format": "chat", "demonstrations": [], **parts}}}


def test_knobs_parts_and_demonstrations_are_named() -> None:
    before = {**prompt(), "retriever": {"k": 1, "old": True}, "gone": {"x": 1}}
    after = {**prompt(format="completion", demonstrations=DEMONSTRATIONS[:1]), "retriever": {"k": 5}}
    changes = diff_configurations(before, after)
    paths = ["answerer.prompt, format", "answerer.prompt, demonstration 1 (new)", "gone.x", "retriever.k", "retriever.old"]
    assert [change.path for change in changes] == paths
    text = changes_as_text(changes)
    assert "[-1-] {+5+}" in text
    assert "{+q: one\n    -> 1+}" in text
    assert "\x1b[" not in text and "\x1b[31m" in changes_as_text(changes, colour=True)


def test_equal_configurations_do_not_differ() -> None:
    assert diff_configurations(prompt(), prompt()) == []
    assert changes_as_text([]) == "No difference."


def test_a_new_order_of_demonstrations_is_told_as_such() -> None:
    (change,) = diff_configurations(prompt(demonstrations=DEMONSTRATIONS), prompt(demonstrations=DEMONSTRATIONS[::-1]))
    assert change.part == "order of the demonstrations"
    assert changes_as_text([change]).endswith("[-1 2-] {+2 1+}")


def test_order_of_keys_and_removed_null_knobs() -> None:
    assert diff_configurations({"a": {"v": {"x": 1, "y": 2}}}, {"a": {"v": {"y": 2, "x": 1}}}) == []
    (change,) = diff_configurations({"a": {"v": None}}, {"a": {}})
    assert change.segments == (Segment("removed", "null"),)


def test_a_terminal_is_not_commanded_by_a_prompt() -> None:
    text = changes_as_text(diff_configurations(prompt(), prompt(instruction="\x1b[2J\x07 wiped")))
    assert "\x1b" not in text and "[U+001B]" in text


def test_html_of_a_difference_is_escaped() -> None:
    changes = diff_configurations(prompt(), prompt(instruction="</ins><script>alert(1)</script> Answer."))
    html = str(change_as_html(changes[0]))
    assert "<script" not in html and "&lt;script&gt;" in html
    assert html.count("<ins>") == html.count("</ins>") >= 1
