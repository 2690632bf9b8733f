"""Threads for blocking work: enough of them for the calls in flight, and none that lives on after it has used torch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakSet

Result = TypeVar("Result")

_MOST_THREADS = 256


class LoopThreads:
    """Gives each event loop it meets a thread pool for `asyncio.to_thread` of the size that is needed.

    The default one has a handful of threads (cores + 4), whatever the concurrency: blocking components and the call cache
    would queue for them.
    """

    def __init__(self, threads: int) -> None:
        self._threads = min(max(threads, 8), _MOST_THREADS)
        self._met: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    def widen(self) -> None:
        """Do so for the running loop, once."""
        loop = asyncio.get_running_loop()
        if loop not in self._met:
            self._met.add(loop)
            loop.set_default_executor(ThreadPoolExecutor(self._threads, thread_name_prefix="optimas"))


async def in_short_thread(work: Callable[[], Result]) -> Result:
    """Run blocking torch work in a thread that ends with it.

    A thread that has used torch keeps OpenMP workers of its own; with more of them than cores every later generation is slower
    (measured: 1.4 times on two cores), so no long-lived thread of ours may use torch.
    """
    outcome: Future[Result] = Future()

    outcome.set_running_or_notify_cancel()  # from here on Ctrl-C cannot cancel it: its thread would fail to report

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # handed to whoever awaits
            outcome.set_exception(error)

    threading.Thread(target=run, name="optimas-short").start()
    return await asyncio.wrap_future(outcome)
