"""A list of changes as plain text, for a terminal or Markdown, and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from optimas_core.reporting._shown_text import shown, visible
from optimas_core.reporting._text_diff import Change, Segment

if TYPE_CHECKING:
    from markupsafe import Markup

CONTEXT_CHARACTERS = 240
_PLAIN = {"same": "{}", "removed": "[-{}-]", "added": "{{+{}+}}"}
_COLOUR = {"same": "{}", "removed": "\x1b[31m[-{}-]\x1b[0m", "added": "\x1b[32m{{+{}+}}\x1b[0m"}
_TAGS = {"removed": "del", "added": "ins"}


def changes_as_text(changes: Sequence[Change], *, colour: bool = False) -> str:
    """One block a change: `component.knob, part`, then the text with [-removed-] and {+added+} words."""
    if not changes:
        return "No difference."
    return "\n\n".join(f"{visible(change.path)}\n{_indented(change_as_text(change, colour=colour))}" for change in changes)


def change_as_text(change: Change, *, colour: bool = False) -> str:
    """The text of one change with [-removed-] and {+added+} words."""
    return "".join(_joined(change, _COLOUR if colour else _PLAIN))


def change_as_html(change: Change) -> Markup:
    """The text of one change with <del> and <ins>; every text is escaped."""
    from markupsafe import Markup, escape

    parts: list[Markup] = []
    for segment, text in _shown_segments(change):
        tag = _TAGS.get(segment.kind)
        parts.append(Markup("<{0}>{1}</{0}>").format(Markup(tag), text) if tag else escape(text))
    return Markup("").join(parts)


def _joined(change: Change, patterns: dict[str, str]) -> list[str]:
    return [patterns[segment.kind].format(text) for segment, text in _shown_segments(change)]


def _shown_segments(change: Change) -> list[tuple[Segment, str]]:
    """Each segment with the text to show: unchanged stretches keep their ends, a replaced value gets a space."""
    shown_segments: list[tuple[Segment, str]] = []
    last = len(change.segments) - 1
    for index, segment in enumerate(change.segments):
        text = _middle_cut(segment.text, index, last) if segment.kind == "same" else shown(segment.text)
        shown_segments.append((segment, text))
        follows = change.segments[index + 1].kind if index < last else "same"
        if segment.kind == "removed" and follows == "added" and not segment.text.endswith((" ", "\n")):
            shown_segments.append((Segment("same", " "), " "))
    return shown_segments


def _middle_cut(text: str, index: int, last: int) -> str:
    """A long unchanged stretch: only its ends beside a change."""
    head = "" if index == 0 else text[:CONTEXT_CHARACTERS]
    tail = "" if index == last else text[-CONTEXT_CHARACTERS:]
    if len(text) <= 2 * CONTEXT_CHARACTERS + 80:
        return visible(text)
    left_out = len(text) - len(head) - len(tail)
    return f"{visible(head)} [... {left_out:,} unchanged characters ...] {visible(tail)}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
