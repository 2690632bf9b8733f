"""Text written by a model or a user, made safe to show: invisible and direction-changing characters become visible,
a text of a megabyte is cut with a note. Escaping for HTML or Markdown is the renderer's and comes after."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

SHOWN_CHARACTERS = 6000
_KEPT_CONTROLS = "\n\t"


def visible(text: str) -> str:
    """`text` with control, format and unpaired surrogate characters written as `[U+202E]`.

    A right-to-left override can make a page read other than it is, NUL is not allowed in HTML, an unpaired surrogate
    cannot be encoded. Joiners (U+200C, U+200D) stay: emoji and several scripts need them.
    """
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in _KEPT_CONTROLS or character in "\u200c\u200d":
        return character
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in "\ufffe\uffff"
    return f"[U+{ord(character):04X}]" if hidden else character


def shown(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """`visible(text)`, cut after `limit` characters with a note that says how many there are."""
    if len(text) <= limit:
        return visible(text)
    note = f" [... shortened: the first {limit:,} of {len(text):,} characters; the whole text is in report.json]"
    return visible(text[:limit]) + note


def label(text: Any, limit: int = 48) -> str:
    """One line for a table cell or an axis: white space collapsed, cut with an ellipsis."""
    words = " ".join(visible(value_text(text)[: 8 * limit]).split())
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "\u2026"


def value_text(value: Any) -> str:
    """A configuration value as a person reads it: text as it stands, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
