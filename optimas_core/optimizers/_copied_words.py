"""Where two texts share eight words in a row: an index over the examples' texts, asked for each proposal.

Words become numbers, and every stretch of `RUN` numbers a 64-bit key; the keys lie sorted in one array, 12 bytes for each word of
data, so ten million words need 120 MB and a look-up is a binary search. A stretch that two different keys share by chance would
need a collision in 64 bits; callers that act on a hit name the text, so it can be checked by eye.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

RUN = 8

Keys = NDArray[np.uint64]

# Any fixed odd numbers serve: they only spread the keys.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_PLACES = (np.arange(1, RUN + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03)) | np.uint64(1)
_SHIFT = np.uint64(29)
_UNKNOWN = -1


class RunIndex:
    """Every stretch of `RUN` words of `texts`; text i is the i-th given. Memory does not hold the texts."""

    def __init__(self, texts: Iterable[Sequence[str]]) -> None:
        self._numbers: dict[str, int] = {}
        keys: list[Keys] = [np.empty(0, dtype=np.uint64)]
        owners: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]
        for index, words in enumerate(texts):
            if len(words) >= RUN:
                numbers = [self._numbers.setdefault(word, len(self._numbers)) for word in words]
                found = np.unique(_keys(numbers))
                keys.append(found)
                owners.append(np.full(len(found), index, dtype=np.int32))
        joined, owned = np.concatenate(keys), np.concatenate(owners)
        order = np.argsort(joined, kind="stable")  # stable: the owners of one stretch stay in the order of the texts
        self._keys, self._owners = joined[order], owned[order]

    def shared(self, words: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        """(place, texts) for every place in `words` where a stretch of `RUN` words begins that texts of the index hold."""
        if len(words) < RUN or not len(self._keys):
            return
        numbers = [self._numbers.get(word, _UNKNOWN) for word in words]
        keys = _keys(numbers)
        first, last = np.searchsorted(self._keys, keys, "left"), np.searchsorted(self._keys, keys, "right")
        unknown = [place for place, number in enumerate(numbers) if number == _UNKNOWN]
        possible = last > first
        for place in unknown:  # its number stands for any word the data lacks
            possible[max(0, place - RUN + 1) : place + 1] = False
        for place in np.flatnonzero(possible).tolist():
            yield place, self._owners[first[place] : last[place]].tolist()


def _keys(numbers: Sequence[int]) -> Keys:
    """Shape [len(numbers) - RUN + 1]: one key for each stretch."""
    spread = (np.asarray(numbers, dtype=np.int64).astype(np.uint64) + np.uint64(1)) * _SPREAD
    spread ^= spread >> _SHIFT
    windows = np.lib.stride_tricks.sliding_window_view(spread, RUN)
    return np.asarray((windows * _PLACES).sum(axis=1, dtype=np.uint64))
