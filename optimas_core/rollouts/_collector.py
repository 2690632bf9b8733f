"""Fewer runs of Python's garbage collector while calls are in flight.

Each call in flight holds some hundred objects, and the collector looks at all of them again and again, to find nothing: a finished
call leaves no reference cycle behind (tests/unit/rollouts/test_engine_under_load.py). That was a sixth of the client's CPU, in pauses
of a tenth of a second in which no answer is taken (benchmarks/rollout_engine.py). It still runs, for components may leave cycles.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Objects made and not yet freed, before the youngest are looked at; Python's own number is 700.
_YOUNG = 50_000


class _Collector:
    """How many ask for it at present; the first changes the thresholds, the last puts back what they were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking = 0
        self._before = (0, 0, 0)

    def enter(self) -> None:
        with self._lock:
            if self._asking == 0:
                self._before = gc.get_threshold()
                gc.set_threshold(max(_YOUNG, self._before[0]) if self._before[0] else 0, *self._before[1:])
            self._asking += 1

    def leave(self) -> None:
        with self._lock:
            self._asking -= 1
            if self._asking == 0:
                gc.set_threshold(*self._before)


# The collector is one for the whole process, and so is this.
_COLLECTOR = _Collector()


@contextmanager
def fewer_collections() -> Iterator[None]:
    """While at least one such block is open, in any thread, the collector runs rarely. One that is switched off stays so."""
    _COLLECTOR.enter()
    try:
        yield
    finally:
        _COLLECTOR.leave()
