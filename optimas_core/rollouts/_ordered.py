"""Many pieces of work, a bounded number of them at once, results in the order they were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from optimas_core.rollouts._collector import fewer_collections


async def ordered(
    makers: Sequence[Callable[[], Awaitable[Any]]], concurrency: int, on_done: Callable[[int, int], None] | None = None
) -> list[Any]:
    """Run at most `concurrency` at once; result i belongs to maker i. On an error no new one starts, those in flight finish,
    and the error of the lowest index is raised."""
    results: list[Any] = [None] * len(makers)
    failures: dict[int, BaseException] = {}
    upcoming = iter(range(len(makers)))
    done = 0

    async def work() -> None:
        nonlocal done
        for index in upcoming:
            if failures:
                return
            try:
                results[index] = await makers[index]()
            except (Exception, asyncio.CancelledError) as error:
                failures[index] = error
                if isinstance(error, asyncio.CancelledError):
                    raise
                return
            done += 1
            if on_done:
                on_done(done, len(makers))

    with fewer_collections():
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(makers))):
                group.create_task(work())
                # One after another: calls that start in one moment are answered in one, and wait for each other every time.
                await asyncio.sleep(0)
    if failures:
        raise failures[min(failures)]
    return results
