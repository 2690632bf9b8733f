"""Named places around every commit and every paid call where a process can be told to die: power cuts, at an exact moment.

    OPTIMAS_CRASH_AT=state.before:3     SIGKILL of itself when that place is reached the third time (without ":3": the first)
    OPTIMAS_CRASH_LOG=points.log        append the name of every place reached, a line each

Without either variable a place costs one look at a cached None. A name is `<what>.<when>`: `before` the first byte is written or
sent, `after` it is written or answered, and in a directory `unpublished`, when the bytes are in a file that has no name yet.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from functools import lru_cache

from optimas_core.errors import EnvironmentNotReady

CRASH_AT = "OPTIMAS_CRASH_AT"
CRASH_LOG = "OPTIMAS_CRASH_LOG"


def crash_point(name: str) -> None:
    """The place `name` is reached: die here if told so.

    Raises:
        EnvironmentNotReady: OPTIMAS_CRASH_AT cannot be read.
    """
    plan = _plan()
    if plan is not None:
        plan.reached(name)


def armed() -> bool:
    """Whether places matter in this process: lets a caller save the work of making a name."""
    return _plan() is not None


class _Plan:
    """Where to die, and how often each place was reached."""

    def __init__(self, name: str, occurrence: int, log: str | None) -> None:
        self._name = name
        self._occurrence = occurrence
        self._log = log
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def reached(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1
            if self._log is not None:
                _append_line(self._log, name)
            if name == self._name and self._counts[name] == self._occurrence:
                die()


def die() -> None:
    """What the plan ends in: nothing is flushed, released or cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def _append_line(path: str, text: str) -> None:
    """One write call to a file opened for appending: whole even if the process dies in the next instruction."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(handle, f"{text}\n".encode())
    finally:
        os.close(handle)


@lru_cache(maxsize=1)
def _plan() -> _Plan | None:
    """Read from the environment once for each process."""
    text, log = os.environ.get(CRASH_AT, ""), os.environ.get(CRASH_LOG) or None
    if not text and log is None:
        return None
    name, _, count = text.partition(":")
    if count and not (count.isdecimal() and int(count) > 0):
        raise EnvironmentNotReady(f"{CRASH_AT}={text[:80]!r} names no place.", remedy="Write <name> or <name>:<n>, with n from 1.")
    return _Plan(name, int(count or 1), log)
