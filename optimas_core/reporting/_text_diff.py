"""What changed between two configurations: knob by knob, and word by word inside a text.

`optimas diff` and the report show the same list of changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from optimas_core.canonical import canonical_json
from optimas_core.reporting._shown_text import value_text

SegmentKind = Literal["same", "removed", "added"]
MAX_TOKENS = 800
"""Matching is quadratic: beyond this many differing tokens lines are compared, and beyond that the text as a whole."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text that stands in both texts, only in the first, or only in the second."""

    kind: SegmentKind
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """One knob, or one part of a prompt, that differs. The "same" and "removed" segments join to the text before,
    "same" and "added" to the text after."""

    component: str
    knob: str
    part: str
    segments: tuple[Segment, ...]

    @property
    def path(self) -> str:
        """`answerer.prompt, demonstration 2`."""
        return f"{self.component}.{self.knob}" + (f", {self.part}" if self.part else "")


def diff_words(before: str, after: str) -> tuple[Segment, ...]:
    """Word-level difference; white space belongs to the word before it, so every character is accounted for."""
    for pattern in (r"\S+\s*|^\s+", r"[^\n]*\n|[^\n]+$"):
        segments = _diff_tokens(re.findall(pattern, before), re.findall(pattern, after))
        if segments is not None:
            return segments
    return _merged([("removed", before), ("added", after)])


def diff_configurations(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Every difference of two {component: {knob: JSON value}}, in the order of names; [] when they are equal."""
    changes: list[Change] = []
    for component in sorted({*before, *after}):
        old, new = before.get(component) or {}, after.get(component) or {}
        for knob in sorted({*old, *new}):
            for part, segments in _diff_value(old.get(knob), new.get(knob), knob in old, knob in new):
                changes.append(Change(component, knob, part, segments))
    return changes


def demonstration_text(demonstration: Any) -> str:
    """A demonstration as lines `name: value`, its output last after `->`."""
    if not isinstance(demonstration, Mapping) or not isinstance(demonstration.get("inputs"), Mapping):
        return value_text(demonstration)
    lines = [f"{name}: {value_text(value)}" for name, value in demonstration["inputs"].items()]
    return "\n".join([*lines, f"-> {value_text(demonstration.get('output'))}"])


def is_prompt(value: Any) -> bool:
    """Whether a configuration value is a prompt: instruction, format, demonstrations."""
    return isinstance(value, Mapping) and "instruction" in value


def _diff_value(old: Any, new: Any, had: bool, has: bool) -> Iterator[tuple[str, tuple[Segment, ...]]]:
    if had and has and canonical_json(old) == canonical_json(new):
        return
    if is_prompt(old) and is_prompt(new):
        for part in [*sorted({*old, *new} - {"demonstrations", "instruction"}), "instruction"]:
            for _, segments in _diff_value(old.get(part), new.get(part), part in old, part in new):
                yield part, segments
        yield from _diff_demonstrations(old.get("demonstrations") or [], new.get("demonstrations") or [])
    elif isinstance(old, str) and isinstance(new, str) and any(character.isspace() for character in old + new):
        yield "", diff_words(old, new)
    else:
        removed = [("removed", value_text(old))] if had else []
        yield "", _merged([*removed, *([("added", value_text(new))] if has else [])], join=False)


def _diff_demonstrations(old: Sequence[Any], new: Sequence[Any]) -> Iterator[tuple[str, tuple[Segment, ...]]]:
    """Whole demonstrations removed or added: a word-level difference of two unrelated ones would be noise."""
    keys_old, keys_new = [canonical_json(item) for item in old], [canonical_json(item) for item in new]
    if keys_old != keys_new and sorted(keys_old) == sorted(keys_new):
        order = [keys_old.index(key) + 1 for key in keys_new]
        texts = [("removed", _numbers(range(1, len(old) + 1))), ("added", _numbers(order))]
        yield "order of the demonstrations", _merged(texts, join=False)
        return
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, keys_old, keys_new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for index in range(i1, i2):
            yield f"demonstration {index + 1} (old)", (Segment("removed", demonstration_text(old[index])),)
        for index in range(j1, j2):
            yield f"demonstration {index + 1} (new)", (Segment("added", demonstration_text(new[index])),)


def _numbers(order: Sequence[int]) -> str:
    return " ".join(map(str, order))


def _diff_tokens(old: list[str], new: list[str]) -> tuple[Segment, ...] | None:
    """None when too many tokens differ to be matched in reasonable time."""
    shortest = min(len(old), len(new))
    head = next((i for i in range(shortest) if old[i] != new[i]), shortest)
    rest = shortest - head
    tail = next((i for i in range(rest) if old[-1 - i] != new[-1 - i]), rest)
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    if max(len(middle_old), len(middle_new)) > MAX_TOKENS:
        return None
    pieces: list[tuple[SegmentKind, str]] = [("same", "".join(old[:head]))]
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, middle_old, middle_new, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(middle_old[i1:i2])))
        else:
            pieces += [("removed", "".join(middle_old[i1:i2])), ("added", "".join(middle_new[j1:j2]))]
    pieces.append(("same", "".join(old[len(old) - tail :])))
    return _merged(pieces)


def _merged(pieces: Sequence[tuple[Any, str]], *, join: bool = True) -> tuple[Segment, ...]:
    """Segments without empty ones, neighbours of one kind joined."""
    merged: list[Segment] = []
    for kind, text in pieces:
        if join and not text:
            continue
        if join and merged and merged[-1].kind == kind:
            merged[-1] = Segment(kind, merged[-1].text + text)
        else:
            merged.append(Segment(kind, text))
    return tuple(merged)
