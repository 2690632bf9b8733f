"""Groups waiting requests and runs each group as one blocking batch in a worker thread.

The batcher knows nothing of models: it is given `run` and two functions that say how long an item is and which items
may share a batch. It is bound to no event loop: an item waits on a thread-safe future, so one batcher serves several
`asyncio.run` calls, one after another or at once from different threads.

Who owns what: the batcher owns the order of work; `run` owns the results, and hands each over as soon as it has it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Deliver = Callable[[int, "Result | Exception"], None]
"""`deliver(i, result)`: item i of the batch is done, or failed, while the others may still be running."""


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    length: int
    group: Hashable
    future: Future[Result] = field(default_factory=Future)


class Batcher(Generic[Item, Result]):
    """`await submit(item)` from any event loop; `run(items, deliver)` is called in one thread at a time.

    A batch starts with the item that has waited longest. It is filled with waiting items of the same group, those
    of the nearest length first, while it holds at most `max_batch` items and `max_tokens` tokens after padding.
    An exception of `run` reaches the items of that batch that were not delivered yet, and no others.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item], Deliver[Result]], None],
        *,
        length: Callable[[Item], int],
        group: Callable[[Item], Hashable] = lambda item: None,
        max_batch: int = 32,
        max_tokens: int = 16_384,
        max_wait_s: float = 0.01,
    ) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}; it must be at least 1")
        self._run = run
        self._length = length
        self._group = group
        self._max_batch = max_batch
        self._max_tokens = max_tokens
        self._max_wait_s = max_wait_s
        self._changed = threading.Condition()
        self._waiting: list[_Waiting[Item, Result]] = []
        self._draining = False

    async def submit(self, item: Item) -> Result:
        """Wait for the result of `item`. Cancelling the wait takes the item out if its batch has not started.

        Raises:
            Exception: what `run` delivered or raised for this item.
        """
        waiting: _Waiting[Item, Result] = _Waiting(item, self._length(item), self._group(item))
        with self._changed:
            self._waiting.append(waiting)
            self._changed.notify()
            if not self._draining:
                self._draining = True
                # A thread per burst of work, not for ever: a thread that has used torch keeps OpenMP workers of its
                # own, and with more of them than cores OpenMP stops spinning (decoding was 1.4 times slower).
                threading.Thread(target=self._drain, name="optimas-batch").start()
        return await asyncio.wrap_future(waiting.future)

    def _drain(self) -> None:
        """Run batches until nothing waits; then the thread ends."""
        while True:
            with self._changed:
                self._gather()
                batch = self._take()
                if not batch and not self._waiting:
                    self._draining = False
                    return
            if batch:
                self._execute(batch)

    def _gather(self) -> None:
        """Give the callers `max_wait_s` to fill the batch: those just answered are about to ask again."""
        end_s = time.monotonic() + self._max_wait_s
        while len(self._waiting) < self._max_batch:
            left_s = end_s - time.monotonic()
            if left_s <= 0 or not self._changed.wait(left_s):
                return

    def _take(self) -> list[_Waiting[Item, Result]]:
        """Choose the next batch and remove it from the queue; drops what was cancelled. Holds the lock."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.future.cancelled()]
        if not self._waiting:
            return []
        oldest = self._waiting[0]
        order = sorted(
            (waiting for waiting in self._waiting if waiting.group == oldest.group),
            key=lambda waiting: abs(waiting.length - oldest.length),
        )
        batch: list[_Waiting[Item, Result]] = []
        longest = 0
        for waiting in order:  # oldest comes first: its distance is 0 and the sort is stable
            longest = max(longest, waiting.length)
            if batch and (len(batch) == self._max_batch or longest * (len(batch) + 1) > self._max_tokens):
                break
            batch.append(waiting)
        taken = {id(waiting) for waiting in batch}
        self._waiting = [waiting for waiting in self._waiting if id(waiting) not in taken]
        return [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]

    def _execute(self, batch: list[_Waiting[Item, Result]]) -> None:
        def deliver(index: int, result: Result | Exception) -> None:
            future = batch[index].future
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        failure: BaseException
        try:
            self._run([waiting.item for waiting in batch], deliver)
        except BaseException as error:  # whatever it is, somebody waits for it
            failure = error
        else:
            failure = RuntimeError("the batch ended without a result for this item")
        for waiting in batch:
            if not waiting.future.done():
                waiting.future.set_exception(failure)
