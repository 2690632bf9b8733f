"""Which beginnings a batch of prompts shares: the plan of a prefill that computes each of them once.

The prompts of one component differ in the example only: instruction and demonstrations come first and are the same.
Sampling several candidates on one frozen input repeats the whole prompt. Both are one tree of shared beginnings.
Pure Python, no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Tokens = tuple[int, ...]

MIN_SHARED = 32
"""Shorter shared beginnings are computed again: a pass of the model over few tokens costs as much as over these."""

_MIN_SAVED = 64  # tokens a new beginning must spare the batch, for the same reason


@dataclass(frozen=True, slots=True)
class Branch:
    """Prompts that share their first `length` tokens.

    `leaves` are prompts (by index) that end from here on their own; `branches` share more. A prompt is in one place.
    """

    length: int
    leaves: list[int] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)

    def first(self) -> int:
        """Index of one prompt below this branch: its first `length` tokens are the branch's."""
        return self.leaves[0] if self.leaves else self.branches[0].first()


def plan_prefill(prompts: Sequence[Tokens], known: Sequence[Tokens] = ()) -> Branch:
    """The tree of beginnings worth sharing among `prompts` (all different) and with the `known` ones.

    `known` are token sequences whose keys and values are already at hand, so sharing with one is free.
    Every prompt keeps at least one token of its own: the one whose logits begin the answer.
    """
    entries = [(prompt, index) for index, prompt in enumerate(prompts)]
    entries += [(tokens, _KNOWN) for tokens in known]
    return _grow(sorted(entries), 0)


_KNOWN = -1


def _grow(entries: list[tuple[Tokens, int]], depth: int) -> Branch:
    """Branch over `entries`, sorted, which share `depth` tokens."""
    branch = Branch(depth)
    start = 0
    shared: int | None = None  # beginning common to entries[start:i], which in sorted order is the least of neighbours
    for i in range(1, len(entries) + 1):
        common = _shared(entries[i - 1], entries[i]) if i < len(entries) else 0
        if common >= depth + MIN_SHARED:
            shared = common if shared is None else min(shared, common)
            continue
        _attach(branch, entries[start:i], shared)
        start, shared = i, None
    return branch


def _attach(branch: Branch, group: list[tuple[Tokens, int]], shared: int | None) -> None:
    own = [index for _, index in group if index != _KNOWN]
    if not own:
        return
    free = len(own) < len(group)
    if shared is not None and (free or (len(own) - 1) * (shared - branch.length) >= _MIN_SAVED):
        branch.branches.append(_grow(group, shared))
    else:
        branch.leaves.extend(own)


def _shared(left: tuple[Tokens, int], right: tuple[Tokens, int]) -> int:
    """Tokens two entries have in common at the start, less the last one of a prompt."""
    limit = min(len(tokens) - (index != _KNOWN) for tokens, index in (left, right))
    return min(common_length(left[0], right[0]), limit)


def common_length(left: Tokens, right: Tokens) -> int:
    """Number of equal tokens at the start."""
    for place, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return place
    return min(len(left), len(right))


def chunk_by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices in groups of nearly equal length (a quarter of padding at most), none over `max_tokens` when padded."""
    chunks: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        fits = bool(chunks) and longest - length <= max(8, longest // 4)
        if fits and longest * (len(chunks[-1]) + 1) <= max_tokens:
            chunks[-1].append(index)
        else:
            chunks.append([index])
            longest = length
    return chunks
