"""Vectors without gradients: computed once per text, the same whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optimas_core.canonical import digest
from optimas_core.errors import TrainingDiverged
from optimas_core.rewards._backbone import Backbone
from optimas_core.rewards._memory import is_out_of_memory
from optimas_core.rewards._pairs import render
from optimas_core.rewards._rows import Row, RowBuilder

Item = tuple[Mapping[str, Any], Mapping[str, Any]]
_BLOCK_ROWS = 8
_LENGTH_STEP = 16


class Embedder:
    """Embeds (x_k, y_k) items and keeps what it computed, by digest of the text, until `forget`.

    The backbone always sees blocks of the same shape for a given row (a fixed number of rows, its own length rounded
    up), so a vector does not depend on its neighbours: scoring again, alone or after a restart, gives the same bits.
    """

    def __init__(self, backbone: Backbone, max_tokens: int) -> None:
        self._backbone = backbone
        self.builder: RowBuilder = backbone.rows(max_tokens)
        self._known: dict[str, np.ndarray] = {}
        self._block_rows = _BLOCK_ROWS

    def forget(self) -> None:
        """Drop every vector: the backbone's adapter has changed."""
        self._known.clear()

    def pair_rows(self, items: Sequence[Item]) -> list[Row]:
        return [self.builder.pair(*render(*item)) for item in items]

    def pairs(self, items: Sequence[Item]) -> np.ndarray:
        """e_xy of each item: [items, dim] float32."""
        texts = [render(*item) for item in items]
        return self._get([digest(["xy", *text]) for text in texts], lambda i: self.builder.pair(*texts[i]))

    def interactions(self, items: Sequence[Item]) -> np.ndarray:
        """[e_xy, e_y, e_x * e_y, |e_x - e_y|] of each item: [items, 4 dim] float32.

        A frozen phi cannot be taught to compare y with x, so the comparison is made for the head.
        """
        texts = [render(*item) for item in items]
        both = self.pairs(items)
        x = self._get([digest(["one", text[0]]) for text in texts], lambda i: self.builder.single(texts[i][0]))
        y = self._get([digest(["one", text[1]]) for text in texts], lambda i: self.builder.single(texts[i][1]))
        return np.concatenate([both, y, x * y, np.abs(x - y)], axis=1)

    def _get(self, keys: Sequence[str], row_of: Any) -> np.ndarray:
        wanted = {key: index for index, key in enumerate(keys) if key not in self._known}
        if wanted:
            rows = [row_of(index) for index in wanted.values()]
            for key, vector in zip(wanted, self._compute(rows), strict=True):
                self._known[key] = vector
        if not keys:
            return np.zeros((0, self._backbone.dim), dtype=np.float32)
        return np.stack([self._known[key] for key in keys])

    def _compute(self, rows: Sequence[Row]) -> np.ndarray:
        """[rows, dim]; rows of one rounded length share blocks, the last block is filled up with its first row."""
        result = np.zeros((len(rows), self._backbone.dim), dtype=np.float32)
        buckets: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            length = -(-len(row.ids) // _LENGTH_STEP) * _LENGTH_STEP
            buckets.setdefault(min(length, max(self._backbone.positions, len(row.ids))), []).append(index)
        for length in sorted(buckets):
            remaining = buckets[length]
            while remaining:
                block = remaining[: self._block_rows]
                filled = [rows[index] for index in block] + [rows[block[0]]] * (self._block_rows - len(block))
                try:
                    vectors = self._encode(filled, length)
                except (RuntimeError, MemoryError) as error:
                    if self._block_rows == 1 or not is_out_of_memory(error):
                        raise
                    self._block_rows //= 2
                    continue
                result[block] = vectors[: len(block)]
                remaining = remaining[len(block) :]
        if not np.isfinite(result).all():
            raise TrainingDiverged(
                "the backbone gave a vector that is NaN or infinite.",
                remedy="Lower lrf.learning_rate, or set lrf.precision to fp32, and fit again.",
            )
        return result

    def _encode(self, rows: Sequence[Row], length: int) -> np.ndarray:
        import torch

        with torch.inference_mode():
            vectors: np.ndarray = self._backbone.encode(rows, length=length).cpu().numpy()
        return vectors
