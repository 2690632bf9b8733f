"""Sums of paired differences under random signs, look by look: the reference paths of the sequential test.

If an edit changes nothing, each difference is as likely to be d as -d. Flipping signs at random then gives paths that are
exchangeable with the observed one, given the sizes |d|. Differences are integers in units of RESOLUTION of the metric's
range, so that sums are exact and ties are ties.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESOLUTION = 2**20
Sums = NDArray[np.int64]


def to_units(differences: Sequence[float], width: float) -> Sums:
    """Differences `[n]` as integers: RESOLUTION units are the whole width of the metric's range."""
    return np.rint(np.asarray(differences, dtype=np.float64) * (RESOLUTION / width)).astype(np.int64)


class SignFlips:
    """Cumulative sums of `paths` sign-flipped copies. The paths continue from look to look; the same seed and the same
    earlier differences give the same paths, so a test can be replayed from its beginning at any time."""

    def __init__(self, paths: int, seed: int) -> None:
        if paths % 8:
            raise ValueError(f"paths must be a multiple of 8, not {paths}")
        self._bits = np.random.PCG64(seed)  # raw output of a bit generator is the same on every platform and version
        self._sums: Sums = np.zeros(paths, dtype=np.int64)

    def extend(self, units: Sums) -> Sums:
        """Add the differences `units` that came since the last look; returns the sums `[paths]`."""
        sizes = np.abs(units[units != 0])
        paths = len(self._sums)
        for start in range(0, len(sizes), 8):  # one random byte carries eight signs: look its signed sum up
            block = sizes[start : start + 8]
            signed = 2 * (_BYTE_BITS[:, : len(block)] @ block) - block.sum()
            random = self._bits.random_raw(paths // 8).astype("<u8").view(np.uint8)
            self._sums = self._sums + signed[random]
        return self._sums


_BYTE_BITS: NDArray[np.int64] = (np.arange(256)[:, None] >> np.arange(8)) & 1
