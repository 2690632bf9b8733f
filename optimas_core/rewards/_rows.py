"""From texts to token rows: [x_k, y_k] in the backbone's own form, cut only where the method allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optimas_core.errors import EnvironmentNotReady
from optimas_core.models._types import well_formed


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of one input of the backbone. `types`: segment ids, empty where the backbone has none.

    `truncated`: tokens were removed from the middle of x_k. `output_cut`: y_k alone is longer than the backbone has
    positions, so it lost its middle too; there is no other way to read it.
    """

    ids: tuple[int, ...]
    types: tuple[int, ...]
    truncated: bool = False
    output_cut: bool = False


class RowBuilder:
    """Tokenizes texts; pieces are kept, since the outputs of one example share their x_k."""

    def __init__(self, tokenizer: Any, *, max_tokens: int, positions: int, decoder: bool) -> None:
        self._tokenizer = tokenizer
        self._positions = positions
        self._max_tokens = min(max_tokens, positions)
        self._decoder = decoder
        self._template = _Template.of(tokenizer, decoder)
        self._pieces: dict[str, tuple[int, ...]] = {}

    def pair(self, x: str, y: str) -> Row:
        """[x_k, y_k]. x_k loses its middle where the row would pass `max_tokens`; y_k stays whole."""
        x_ids = self._ids(x)
        y_ids = self._ids(f"\n{y}" if self._decoder else y)
        y_kept = _without_middle(y_ids, self._positions - self._template.special_tokens)
        x_kept = _without_middle(x_ids, max(0, self._max_tokens - self._template.special_tokens - len(y_kept)))
        return self._template.row(x_kept, y_kept, len(x_kept) < len(x_ids), len(y_kept) < len(y_ids))

    def single(self, text: str) -> Row:
        """One text alone, as the frozen rung embeds x_k and y_k beside the pair."""
        ids = self._ids(text)
        return self._template.row(_without_middle(ids, self._max_tokens - self._template.special_tokens), None)

    def _ids(self, text: str) -> tuple[int, ...]:
        if text not in self._pieces:
            # A separator that a text writes ("[SEP]") is text: only the row itself has separators.
            plain = well_formed(text)
            encoded = self._tokenizer(plain, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
            self._pieces[text] = tuple(encoded)
        return self._pieces[text]


def _without_middle(ids: Sequence[int], limit: int) -> tuple[int, ...]:
    if len(ids) <= limit:
        return tuple(ids)
    head = (limit + 1) // 2
    tail = limit - head
    return (*ids[:head], *ids[len(ids) - tail :])


@dataclass(frozen=True)
class _Template:
    """Where a tokenizer puts its special tokens around a pair of texts, learned from how it encodes a probe."""

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    second_type: int | None

    @classmethod
    def of(cls, tokenizer: Any, decoder: bool) -> _Template:
        if decoder:
            # A decoder's pair form repeats the first token in the middle; we join with a line break in y instead.
            single = tokenizer("a", return_special_tokens_mask=True)
            ids, special = single["input_ids"], single["special_tokens_mask"]
            first, last = _text_bounds(special)
            end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
            return cls(tuple(ids[:first]), (), tuple(ids[last:]) or end, None)
        probe = tokenizer("a", "b", return_special_tokens_mask=True)
        ids, special = probe["input_ids"], probe["special_tokens_mask"]
        first, last = _text_bounds(special)
        middle = tuple(token for token, mark in zip(ids[first:last], special[first:last], strict=True) if mark)
        types = probe.get("token_type_ids")
        return cls(tuple(ids[:first]), middle, tuple(ids[last:]), None if types is None else int(types[last - 1]))

    @property
    def special_tokens(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)

    def row(self, x: tuple[int, ...], y: tuple[int, ...] | None, truncated: bool = False, output_cut: bool = False) -> Row:
        first = (*self.prefix, *x, *(self.suffix if y is None else self.middle))
        second = () if y is None else (*y, *self.suffix)
        types = () if self.second_type is None else (0,) * len(first) + (self.second_type,) * len(second)
        return Row(first + second, types, truncated, output_cut)


def _text_bounds(special: Sequence[int]) -> tuple[int, int]:
    """First index that is text, and the index after the last one."""
    text = [index for index, mark in enumerate(special) if not mark]
    if not text:
        raise EnvironmentNotReady("the backbone's tokenizer turns a letter into special tokens only.", remedy="Check lrf.backbone.")
    return text[0], text[-1] + 1
