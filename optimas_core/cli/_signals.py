"""SIGTERM as a wish to stop soon, for the commands that spend money."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from optimas_core.errors import Interrupted


class Stopping:
    """Remembers a SIGTERM until someone asks."""

    def __init__(self) -> None:
        self.asked = False

    def check(self) -> None:
        """Raises: Interrupted: SIGTERM came."""
        if self.asked:
            raise Interrupted("stopped by SIGTERM; what was paid for is kept.", remedy="`optimas resume` goes on from here.")


@contextmanager
def stop_on_sigterm() -> Iterator[Stopping]:
    """SIGTERM: finish the calls in flight or the commit in progress, then stop. A second one stops at once."""
    stopping = Stopping()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stopping.asked:
            raise KeyboardInterrupt
        stopping.asked = True

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)
