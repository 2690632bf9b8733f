"""Systems whose truth is known: items of fixed difficulty, and edits that flip a stated share of the answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
NULL = (0.10, 0.10)
"""Shares of all items that an edit without effect turns right and wrong."""


def difficulties(rng: np.random.Generator, score: float = 0.35, size: int = 4000) -> Floats:
    """A grid of P(right) ~ Beta(7, 13), scaled to the mean `score`."""
    grid = rng.beta(7, 13, size=size)
    return grid * (score / grid.mean())


@dataclass(frozen=True)
class Population:
    """P(right | difficulty) of one configuration, on the grid of difficulties. Shapes (grid,)."""

    difficulty: Floats
    right: Floats

    @property
    def score(self) -> float:
        """The configuration's true score."""
        return float(self.right.mean())

    def rates(self, up: float, down: float) -> tuple[float, float]:
        """(gain, loss): a wrong item turns right with gain * difficulty, a right one wrong with loss * (1 - difficulty);
        chosen so that the shares `up` and `down` of all items do."""
        gain = up / float(((1 - self.right) * self.difficulty).mean())
        return gain, down / float((self.right * (1 - self.difficulty)).mean())

    def edited(self, up: float, down: float) -> Population:
        """The population after the edit."""
        gain, loss = self.rates(up, down)
        q, p = self.right, self.difficulty
        return Population(p, q - q * np.minimum(loss * (1 - p), 1) + (1 - q) * np.minimum(gain * p, 1))

    def flips(self, rng: np.random.Generator, difficulty: Floats, right: Flags, up: float, down: float) -> Flags:
        """The answers on some items after the edit. Shapes (items,)."""
        gain, loss = self.rates(up, down)
        turned: Flags = rng.random(len(right)) < np.where(right, loss * (1 - difficulty), gain * difficulty)
        return right ^ turned

    def answers(self, rng: np.random.Generator, items: int) -> Flags:
        """Answers on `items` new items, shape (items,)."""
        answered: Flags = rng.random(items) < rng.choice(self.right, size=items)
        return answered
