"""What keeps hundreds of calls in flight cheap: they start one after another, and the garbage collector has nothing to do."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from optimas_core import CompoundSystem, Scripted, component, llm
from optimas_core.models.scripted import RateLimit, VirtualClock
from optimas_core.rollouts import Budget, RolloutEngine, Task
from optimas_core.rollouts._collector import fewer_collections
from optimas_core.spec import BudgetSettings
from optimas_core.system import Example

CALLS = 60


def run(system: CompoundSystem, concurrency: int) -> None:
    engine = RolloutEngine(system, Budget(BudgetSettings()), concurrency=concurrency)
    tasks = [Task(Example(str(number), {"question": f"question {number}"}), system.configuration) for number in range(CALLS)]
    done = asyncio.run(engine.run(tasks, stage="load", iteration=0))
    assert all(item.reward == 1.0 for item in done), next(item.error for item in done if item.reward != 1.0)


def test_a_call_is_well_on_its_way_before_the_last_one_starts() -> None:
    events: list[tuple[str, str]] = []

    async def answer(question: str) -> str:
        events.append(("started", question))
        await asyncio.sleep(0)  # one turn of the event loop, as sending takes several
        events.append(("sent", question))
        await asyncio.sleep(0.02)
        return "yes"

    system = CompoundSystem([component(answer, outputs="answer")], outputs=["answer"], metric=lambda example, outputs: 1.0)
    run(system, CALLS)
    assert events.index(("sent", "question 0")) < events.index(("started", f"question {CALLS - 1}"))
    assert [what for what, _ in events[:CALLS]].count("sent") > CALLS // 4, "they start in one moment, and wait for one another"


def test_calls_leave_nothing_that_only_the_collector_can_free() -> None:
    model = Scripted(lambda request, attempt: RateLimit(0.1) if attempt == 0 else "yes", clock=VirtualClock())
    part = llm("answerer", inputs=["question"], output="answer", model=model, prompt="Answer.", max_tokens=8)
    system = CompoundSystem([part], outputs=["answer"], metric=lambda example, outputs: float(outputs["answer"] == "yes"))
    run(system, 8)  # first calls import and build what stays
    gc.collect()
    gc.disable()
    try:
        run(system, 8)
        left = gc.collect()
    finally:
        gc.enable()
    # An exception and its traceback refer to each other for each fault; a call that succeeds leaves nothing.
    assert left < 5 * CALLS, f"{left / CALLS:.1f} objects a call"


def test_the_collector_runs_rarely_while_calls_are_in_flight_and_as_before_afterwards() -> None:
    before = gc.get_threshold()
    seen: list[int] = []

    async def answer(question: str) -> str:
        seen.append(gc.get_threshold()[0])
        await asyncio.sleep(0)
        return "yes"

    system = CompoundSystem([component(answer, outputs="answer")], outputs=["answer"], metric=lambda example, outputs: 1.0)
    threads = [threading.Thread(target=run, args=(system, 8)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 2 * CALLS and min(seen) > 10 * before[0]
    assert gc.get_threshold() == before

    with pytest.raises(ValueError), fewer_collections():
        raise ValueError
    assert gc.get_threshold() == before

    gc.set_threshold(0)  # switched off by whoever runs us
    try:
        with fewer_collections():
            assert gc.get_threshold()[0] == 0
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
