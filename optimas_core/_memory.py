"""How the C library hands out memory to the threads of a process that we own."""

from __future__ import annotations

import os
import sys

_M_ARENA_MAX = -8


def few_arenas(count: int = 2) -> bool:
    """Let glibc share `count` pools of memory among all threads; True if it agreed. Elsewhere, or where the user chose, nothing.

    By default it opens up to eight for each core, and what a thread freed stays in its pool: rollouts, reward functions and the local
    model run in dozens of threads, and a quickstart held 6.5 GB where it needs 2.5.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count))
    except (OSError, AttributeError):  # another C library
        return False
