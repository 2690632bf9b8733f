"""How pairs become batches: pairs of one input stay together, so that each distinct output is read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimas_core.rewards._pairs import RewardPair, render
from optimas_core.rewards._rows import Row, RowBuilder


class PairRows:
    """The rows of a set of pairs, each distinct (x, y) once.

    `rows` [distinct]; `chosen`, `rejected` [pairs] index into it; `groups` lists the pairs of each (component, example, x).
    """

    def __init__(self, pairs: Sequence[RewardPair], builder: RowBuilder) -> None:
        self.pairs = tuple(pairs)
        self.rows: list[Row] = []
        index_of: dict[tuple[str, str], int] = {}
        groups: dict[tuple[str, str, str], list[int]] = {}
        sides: list[tuple[int, int]] = []
        for number, pair in enumerate(self.pairs):
            side = []
            for output in (pair.chosen, pair.rejected):
                text = render(pair.context, output)
                if text not in index_of:
                    index_of[text] = len(self.rows)
                    self.rows.append(builder.pair(*text))
                side.append(index_of[text])
            sides.append((side[0], side[1]))
            groups.setdefault((pair.component, pair.example_id, text[0]), []).append(number)
        self.chosen = np.asarray([chosen for chosen, _ in sides], dtype=np.int64)
        self.rejected = np.asarray([rejected for _, rejected in sides], dtype=np.int64)
        self.groups = list(groups.values())

    @property
    def truncated(self) -> int:
        return sum(row.truncated for row in self.rows)

    @property
    def outputs_cut(self) -> int:
        return sum(row.output_cut for row in self.rows)

    def length(self, number: int) -> int:
        return max(len(self.rows[self.chosen[number]].ids), len(self.rows[self.rejected[number]].ids))

    def batches(self, size: int, rng: np.random.Generator) -> list[list[int]]:
        """One epoch: pair numbers in batches of `size` (the last may be smaller), groups shuffled and kept together."""
        order = rng.permutation(len(self.groups))
        flat = [number for index in order for number in self.groups[index]]
        return [flat[start : start + size] for start in range(0, len(flat), size)]

    def micro_batches(self, batch: Sequence[int], size: int) -> list[list[int]]:
        """A batch in parts of at most `size` pairs, longest group first: similar lengths share a part (little
        padding), and a part that does not fit in memory is met at once. A group is divided only when it must be."""
        groups: dict[tuple[str, str], list[int]] = {}
        for number in batch:
            pair = self.pairs[number]
            groups.setdefault((pair.component, pair.example_id), []).append(number)
        ordered = sorted(groups.values(), key=lambda group: -max(self.length(number) for number in group))
        parts: list[list[int]] = []
        for group in ordered:
            pieces = [group[start : start + size] for start in range(0, len(group), size)]
            for piece in pieces:
                if parts and len(parts[-1]) + len(piece) <= size:
                    parts[-1].extend(piece)
                else:
                    parts.append(list(piece))
        return parts
