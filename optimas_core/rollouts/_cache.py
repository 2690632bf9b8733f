"""Results of component executions, by content: in memory, then in the workspace; equal executions at once are one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from optimas_core.artifacts import CallStore


class CallCache:
    """Single flight over a bounded memory and a shared store. Used from one event loop at a time.

    Args:
        store: the workspace's call store; None keeps results in memory only.
        usable: whether a record out of the store is one; what is not counts as absent.
        capacity: results kept in memory; the oldest used leaves first.
    """

    def __init__(
        self, store: CallStore | None, *, usable: Callable[[Mapping[str, Any]], bool] = lambda record: True, capacity: int = 20_000
    ) -> None:
        self._store = store
        self._usable = usable
        self._capacity = capacity
        self._memory: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._flights: dict[str, asyncio.Future[Mapping[str, Any]]] = {}

    async def get_or_run(self, key: str, run: Callable[[], Awaitable[Mapping[str, Any]]]) -> tuple[Mapping[str, Any], bool]:
        """The record under `key` and whether it was there already; `run` executes once however many ask at once.

        A failure reaches everyone who waits for that flight and leaves nothing behind.
        """
        known = self._memory.get(key)
        if known is not None:
            self._memory.move_to_end(key)
            return known, True
        while (flight := self._flights.get(key)) is not None:
            try:
                return await asyncio.shield(flight), True
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not flight.cancelled() or (task is not None and task.cancelling()):
                    raise
                # Only the one who executed it was cancelled, not we: whoever wakes first executes it now.
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._flights[key] = future
        try:
            record, cached = await self._load_or_run(key, run)
        except BaseException as error:
            failure = error if isinstance(error, Exception) else asyncio.CancelledError()
            if isinstance(failure, Exception):
                future.set_exception(failure)
                future.exception()  # nobody may be waiting; the caller gets the error itself
            else:
                future.cancel()
            raise
        else:
            self._remember(key, record)
            future.set_result(record)
            return record, cached
        finally:
            del self._flights[key]

    async def _load_or_run(self, key: str, run: Callable[[], Awaitable[Mapping[str, Any]]]) -> tuple[Mapping[str, Any], bool]:
        if self._store is None:
            return await run(), False
        stored = await asyncio.to_thread(self._store.get, key)
        if stored is not None and self._usable(stored):
            return stored, True
        record = await run()
        kept = await asyncio.to_thread(self._store.put, key, dict(record))
        return (kept if self._usable(kept) else record), False

    def _remember(self, key: str, record: Mapping[str, Any]) -> None:
        self._memory[key] = record
        if len(self._memory) > self._capacity:
            self._memory.popitem(last=False)
