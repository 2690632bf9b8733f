"""Reading the prompts of a batch: every shared beginning once, the rest in chunks of nearly equal length.

On a CPU this is most of the cost of a short answer. What it returns is what a padded pass over the whole batch would
return, up to rounding: rows, their keys and values, and the mask that hides the padding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optimas_core.models._local_prefix import MIN_SHARED, Branch, Tokens, chunk_by_length, common_length, plan_prefill

if TYPE_CHECKING:
    from torch import Tensor

    KeysValues = list[tuple[Tensor, Tensor]]
    """For each layer: keys and values, `[rows, heads, tokens, size]`."""

_CHUNK_TOKENS = 4096

Forward = Callable[["Tensor", "Tensor", "Tensor", Any], "Tensor"]
"""`forward(tokens, mask, positions, cache)`: logits of the last position `[rows, vocabulary]`; appends to `cache`."""


@dataclass(slots=True)
class Prefilled:
    """A batch ready to be decoded: `logits` `[rows, vocabulary]`, `cache`, and `mask` `[rows, tokens]`."""

    logits: Tensor
    cache: Any
    mask: Tensor


class PrefixStore:
    """Keys and values of the last few beginnings, the least recently used dropped first."""

    def __init__(self, *, max_entries: int = 8, max_tokens: int = 4096) -> None:
        self._entries: OrderedDict[Tokens, KeysValues] = OrderedDict()
        self._max_entries = max_entries
        self._max_tokens = max_tokens

    def known(self) -> list[Tokens]:
        return list(self._entries)

    def find(self, tokens: Tokens) -> KeysValues | None:
        """Keys and values of `tokens`, cut from an entry that begins with them."""
        for entry, values in self._entries.items():
            if common_length(entry, tokens) == len(tokens):
                self._entries.move_to_end(entry)
                return [(k[:, :, : len(tokens)], v[:, :, : len(tokens)]) for k, v in values]
        return None

    def put(self, tokens: Tokens, values: KeysValues) -> None:
        """Keep an entry; it replaces those that are its own beginnings."""
        if len(tokens) > self._max_tokens:
            return
        for entry in self.known():
            if common_length(entry, tokens) == len(entry):
                del self._entries[entry]
        self._entries[tokens] = values
        while len(self._entries) > self._max_entries or sum(map(len, self._entries)) > self._max_tokens:
            self._entries.popitem(last=False)


@dataclass(slots=True)
class _Part:
    """Some of the prompts, read: row j of the tensors is prompt `prompts[j]`."""

    prompts: list[int]
    logits: Tensor
    cache: Any
    mask: Tensor

    def values(self) -> KeysValues:
        return [(layer.keys, layer.values) for layer in self.cache.layers]


@dataclass(slots=True)
class Prefill:
    """Reads batches of prompts for one model. `store` None: one padded pass over the batch, nothing kept."""

    forward: Forward
    new_cache: Callable[[], Any]
    device: Any
    store: PrefixStore | None = field(default_factory=PrefixStore)

    def read(self, prompts: Sequence[Tokens]) -> Prefilled:
        """Row i of the result belongs to `prompts[i]`; equal prompts are read once."""
        if self.store is None:
            part = self._read_chunk(list(prompts), [], 0)
            return Prefilled(part.logits, part.cache, part.mask)
        unique = list(dict.fromkeys(prompts))
        plan = plan_prefill(unique, self.store.known())
        parts = self._read_branch(plan, unique, [], 0)
        if len(unique) == 1:
            self._remember_single(self.store, unique[0], plan, parts[0])
        place = {prompt: index for index, prompt in enumerate(unique)}
        return self._assemble(parts, [place[prompt] for prompt in prompts])

    def _read_branch(self, branch: Branch, prompts: list[Tokens], above: KeysValues, known: int) -> list[_Part]:
        """Read everything below a branch; `above` are the keys and values of its first `known` tokens."""
        if branch.length > known:
            above = self._beginning(prompts[branch.first()][: branch.length], above, known)
        parts: list[_Part] = []
        suffixes = [prompts[index][branch.length :] for index in branch.leaves]
        # The chunk's size counts what it reads, not the beginning it only attends to.
        for chunk in chunk_by_length([len(suffix) for suffix in suffixes], _CHUNK_TOKENS):
            part = self._read_chunk([suffixes[j] for j in chunk], above, branch.length)
            part.prompts = [branch.leaves[j] for j in chunk]
            parts.append(part)
        for child in branch.branches:
            parts += self._read_branch(child, prompts, above, branch.length)
        return parts

    def _beginning(self, tokens: Tokens, above: KeysValues, known: int) -> KeysValues:
        assert self.store is not None
        found = self.store.find(tokens)
        if found is not None:
            return found
        values = self._read_chunk([tokens[known:]], above, known).values()
        self.store.put(tokens, values)
        return values

    def _read_chunk(self, suffixes: list[Tokens], above: KeysValues, known: int) -> _Part:
        """Read suffixes `[rows]`, left-padded to one length, after the same `known` tokens."""
        import torch

        rows, longest = len(suffixes), max(map(len, suffixes))
        tokens = torch.zeros(rows, longest, dtype=torch.long)
        mask = torch.ones(rows, known + longest, dtype=torch.long)
        for row, suffix in enumerate(suffixes):
            padding = longest - len(suffix)
            tokens[row, padding:] = torch.tensor(suffix)
            mask[row, known : known + padding] = 0
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        cache = self.new_cache()
        for layer, (keys, values) in enumerate(above):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)  # copies
        positions = (mask.cumsum(dim=1) - 1)[:, known:].clamp(min=0)
        logits = self.forward(tokens, mask, positions, cache)
        return _Part([], logits, cache, mask)

    def _remember_single(self, store: PrefixStore, prompt: Tokens, plan: Branch, part: _Part) -> None:
        """Keep a prompt that came alone: the next one of its component will begin as it does."""
        while plan.branches:
            plan = plan.branches[0]
        if len(prompt) - plan.length >= MIN_SHARED:
            store.put(prompt, part.values())

    def _assemble(self, parts: list[_Part], rows: list[int]) -> Prefilled:
        """One left-padded batch, row i = prompt `rows[i]`."""
        import torch

        if len(parts) == 1 and parts[0].prompts == rows:
            return Prefilled(parts[0].logits, parts[0].cache, parts[0].mask)
        longest = max(part.mask.shape[1] for part in parts)
        where = {prompt: (part, j) for part in parts for j, prompt in enumerate(part.prompts)}
        chosen = [where[row] for row in rows]
        logits = torch.stack([part.logits[j] for part, j in chosen])
        mask = parts[0].mask.new_zeros(len(rows), longest)
        for i, (part, j) in enumerate(chosen):
            mask[i, longest - part.mask.shape[1] :] = part.mask[j]
        cache = self.new_cache()
        for index in range(len(parts[0].cache.layers)):
            layers = [(part.cache.layers[index], j) for part, j in chosen]
            keys = _stack([layer.keys[j] for layer, j in layers], longest)
            cache.update(keys, _stack([layer.values[j] for layer, j in layers], longest), index)
        return Prefilled(logits, cache, mask)


def _stack(rows: list[Tensor], longest: int) -> Tensor:
    """Rows `[heads, tokens, size]` of different lengths, padded on the left: `[rows, heads, longest, size]`."""
    heads, _, size = rows[0].shape
    stacked = rows[0].new_zeros(len(rows), heads, longest, size)
    for i, row in enumerate(rows):
        stacked[i, :, longest - row.shape[1] :] = row
    return stacked
