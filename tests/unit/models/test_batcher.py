"""The batcher with fake engines: grouping, failures, cancellation, several event loops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from optimas_core.models._batcher import Batcher


class Recorder:
    """A fake engine that answers with the item doubled and records its batches."""

    def __init__(self, work_s: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.work_s = work_s
        self.release = threading.Event()
        self.release.set()

    def __call__(self, items: Sequence[int], deliver: Any) -> None:
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        self.release.wait(5)
        time.sleep(self.work_s)
        for index, item in enumerate(items):
            deliver(index, ValueError(f"item {item}") if item < 0 else item * 2)


def batcher(run: Any, **settings: Any) -> Batcher[int, int]:
    return Batcher(run, **({"length": lambda item: 1, "max_wait_s": 0.05} | settings))


async def submit_all(subject: Batcher[int, int], items: Sequence[int]) -> list[Any]:
    return await asyncio.gather(*(subject.submit(item) for item in items), return_exceptions=True)


def test_result_i_belongs_to_item_i_and_items_share_batches() -> None:
    run = Recorder()
    results = asyncio.run(submit_all(batcher(run, max_batch=8), range(20)))
    assert results == [2 * i for i in range(20)]
    assert [len(batch) for batch in run.batches] == [8, 8, 4]
    assert len(run.threads) == 1


def test_a_full_batch_does_not_wait() -> None:
    run = Recorder()
    started_s = time.monotonic()
    asyncio.run(submit_all(batcher(run, max_batch=4, max_wait_s=5.0), range(4)))
    assert time.monotonic() - started_s < 2


def test_a_lone_item_waits_no_longer_than_max_wait() -> None:
    started_s = time.monotonic()
    assert asyncio.run(batcher(Recorder(), max_wait_s=0.05).submit(3)) == 6
    assert time.monotonic() - started_s < 2


def test_groups_are_not_mixed() -> None:
    run = Recorder()
    results = asyncio.run(submit_all(batcher(run, group=lambda item: item % 2), range(10)))
    assert results == [2 * i for i in range(10)]
    assert all(len({item % 2 for item in batch}) == 1 for batch in run.batches)
    assert len(run.batches) == 2


def test_padded_tokens_are_capped_and_near_lengths_share_a_batch() -> None:
    run = Recorder()
    lengths = [10, 90, 12, 95, 11, 91]
    asyncio.run(submit_all(batcher(run, length=lambda item: lengths[item], max_tokens=300), range(6)))
    for batch in run.batches:
        assert len(batch) * max(lengths[item] for item in batch) <= 300
    assert sorted(map(sorted, run.batches)) == [[0, 2, 4], [1, 3, 5]]


def test_an_item_over_the_cap_runs_alone() -> None:
    run = Recorder()
    assert asyncio.run(submit_all(batcher(run, length=lambda item: 1000, max_tokens=300), [1, 2])) == [2, 4]
    assert [len(batch) for batch in run.batches] == [1, 1]


def test_a_delivered_exception_reaches_its_item_only() -> None:
    results = asyncio.run(submit_all(batcher(Recorder()), [1, -1, 2]))
    assert results[0] == 2 and results[2] == 4
    assert isinstance(results[1], ValueError)


def test_a_failing_batch_fails_what_it_had_not_delivered_and_the_next_batch_runs() -> None:
    calls = []

    def run(items: Sequence[int], deliver: Any) -> None:
        calls.append(list(items))
        if len(calls) == 1:
            deliver(0, 100)
            raise MemoryError("full")
        for index, item in enumerate(items):
            deliver(index, item)

    results = asyncio.run(submit_all(batcher(run, max_batch=2), [1, 2, 3, 4]))
    assert results[0] == 100
    assert isinstance(results[1], MemoryError)
    assert results[2:] == [3, 4]


def test_an_engine_that_forgets_an_item_is_an_error_not_a_hang() -> None:
    with pytest.raises(RuntimeError, match="without a result"):
        asyncio.run(asyncio.wait_for(batcher(lambda items, deliver: None).submit(1), 5))


def test_results_are_delivered_before_the_batch_ends() -> None:
    hold = threading.Event()

    def run(items: Sequence[int], deliver: Any) -> None:
        deliver(0, 10)
        hold.wait(5)
        deliver(1, 20)

    async def check() -> None:
        subject = batcher(run, max_batch=2)
        first, second = (asyncio.ensure_future(subject.submit(item)) for item in (1, 2))
        assert await asyncio.wait_for(first, 3) == 10
        assert not second.done()
        hold.set()
        assert await asyncio.wait_for(second, 3) == 20

    asyncio.run(check())


def test_a_cancelled_waiter_leaves_the_queue_and_hurts_nobody() -> None:
    run = Recorder()
    run.release.clear()

    async def check() -> list[int]:
        subject = batcher(run, max_batch=1, max_wait_s=0.0)
        tasks = [asyncio.ensure_future(subject.submit(item)) for item in (1, 2, 3)]
        while not run.batches:
            await asyncio.sleep(0.01)
        tasks[1].cancel()
        await asyncio.sleep(0)
        run.release.set()
        return [await asyncio.wait_for(tasks[i], 3) for i in (0, 2)]

    assert asyncio.run(check()) == [2, 6]
    assert run.batches == [[1], [3]]


def test_cancelling_a_whole_group_does_not_stall_the_others() -> None:
    run = Recorder()
    run.release.clear()

    async def check() -> int:
        subject = batcher(run, max_batch=1, max_wait_s=0.0)
        tasks = [asyncio.ensure_future(subject.submit(item)) for item in (1, 2, 3, 4)]
        while not run.batches:
            await asyncio.sleep(0.01)
        for task in tasks[:3]:  # also the one that is running
            task.cancel()
        run.release.set()
        return await asyncio.wait_for(tasks[3], 3)

    assert asyncio.run(check()) == 8


def test_one_batcher_serves_several_event_loops_one_after_another_and_at_once() -> None:
    run = Recorder(work_s=0.01)
    subject = batcher(run, max_batch=4)
    assert asyncio.run(submit_all(subject, [1, 2])) == [2, 4]
    assert asyncio.run(submit_all(subject, [3])) == [6]
    found: dict[int, Any] = {}

    def ask(start: int) -> None:
        found[start] = asyncio.run(submit_all(subject, range(start, start + 5)))

    threads = [threading.Thread(target=ask, args=(start,)) for start in (10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == {start: [2 * i for i in range(start, start + 5)] for start in (10, 20, 30)}


def test_a_loop_that_ends_early_leaves_the_batcher_usable() -> None:
    run = Recorder(work_s=0.05)
    subject = batcher(run)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(subject.submit(1), 0.001)

    asyncio.run(give_up())
    assert asyncio.run(subject.submit(2)) == 4


def test_a_thread_lives_only_while_there_is_work() -> None:
    run = Recorder()
    subject = batcher(run)
    before = set(threading.enumerate())
    assert asyncio.run(submit_all(subject, [1, 2])) == [2, 4]
    end_s = time.monotonic() + 3
    while set(threading.enumerate()) - before and time.monotonic() < end_s:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before
    assert asyncio.run(subject.submit(3)) == 6


def test_max_batch_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_batch is 0"):
        batcher(Recorder(), max_batch=0)
