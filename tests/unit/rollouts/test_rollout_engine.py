"""Executions over many examples: order, bounded concurrency, partial runs, single flight, the shared call store, missing results."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace
from optimas_core.errors import (
    AuthenticationFailed,
    BudgetExhausted,
    FormatError,
    MetricError,
    ServerFault,
    SystemDefinitionError,
)
from optimas_core.models import Scripted, llm
from optimas_core.rollouts import Budget, CallCache, RolloutEngine, Task, first_error, ordered
from optimas_core.spec import BudgetSettings
from optimas_core.system import Choice, Component, CompoundSystem, Example, NumberGrid, component


def f1(example: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    return float(outputs["answer"] == example.get("expected", outputs["answer"]))


class Recorder:
    """Components that count their executions; `stochastic` ones take a seed."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0

    def step(self, name: str, reads: str, *, stochastic: bool = False, latency_s: float = 0.0, **options: Any) -> Component:
        async def body(**values: Any) -> str:
            self.ran[name] += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                await asyncio.sleep(random.random() * latency_s)
            finally:
                self.in_flight -= 1
            return f"{name}({','.join(str(values[key]) for key in sorted(values))})"

        async def seeded(seed: int, **values: Any) -> str:
            return await body(**values) + f"#{seed % 1000}"

        outputs = options.pop("outputs", name)
        return component(seeded if stochastic else body, name=name, inputs=reads.split(), outputs=outputs, **options)


def engine_of(*parts: Component, outputs: str = "answer", **options: Any) -> RolloutEngine:
    system = CompoundSystem(list(parts), outputs=outputs.split(), metric=options.pop("metric", f1))
    return RolloutEngine(system, options.pop("budget", None) or Budget(BudgetSettings()), **options)


def example(index: int, **fields: Any) -> Example:
    return Example(f"e{index}", {"question": f"q{index}", **fields})


def run(engine: RolloutEngine, tasks: list[Task], **options: Any) -> list[Any]:
    return asyncio.run(engine.run(tasks, stage="test", iteration=0, **options))


def tasks_of(engine: RolloutEngine, count: int, **options: Any) -> list[Task]:
    return [Task(example(index), engine.system.configuration, **options) for index in range(count)]


@pytest.mark.parametrize("workers", [8, 64])
def test_result_i_belongs_to_input_i_whatever_finishes_first(workers: int) -> None:
    recorder = Recorder()
    engine = engine_of(
        recorder.step("a", "question", latency_s=0.01),
        recorder.step("answer", "a", latency_s=0.01),
        concurrency=workers,
    )
    progress: list[tuple[int, int]] = []
    results = run(engine, tasks_of(engine, 200), on_done=lambda done, total: progress.append((done, total)))
    assert [item.example_id for item in results] == [f"e{index}" for index in range(200)]
    assert [item.trajectory.fields["answer"] for item in results] == [f"answer(a(q{index}))" for index in range(200)]
    assert recorder.most_in_flight <= workers and recorder.most_in_flight > workers // 2
    assert progress == [(index + 1, 200) for index in range(200)]


def test_ordered_keeps_the_lowest_error_and_starts_nothing_new() -> None:
    started: list[int] = []

    async def one(index: int) -> int:
        started.append(index)
        await asyncio.sleep(0.01 if index == 3 else 0.002)
        if index in (3, 4):
            raise ValueError(str(index))
        return index

    with pytest.raises(ValueError, match="3"):
        asyncio.run(ordered([lambda index=index: one(index) for index in range(50)], 8))  # type: ignore[misc]
    assert len(started) < 50


def test_only_what_is_downstream_runs_again() -> None:
    recorder = Recorder()
    engine = engine_of(
        recorder.step("up", "question"),
        recorder.step("side", "question", stochastic=True),
        recorder.step("knob", "up", stochastic=True),
        recorder.step("answer", "knob side", stochastic=True),
    )
    first = run(engine, tasks_of(engine, 1, until="knob"))[0]
    assert recorder.ran == {"up": 1} and first.reward is None and first.status == "ok"
    given = {"up": first.trajectory.steps["up"].outputs, "knob": {"knob": "fixed"}}
    repeats = [Task(example(0), engine.system.configuration, repeat=repeat, given=given, resample="knob") for repeat in range(4)]
    results = run(engine, repeats)
    assert recorder.ran == {"up": 1, "side": 1, "answer": 4}
    assert len({item.trajectory.fields["answer"] for item in results}) == 4
    assert len({item.trajectory.fields["side"] for item in results}) == 1


def test_deterministic_components_are_not_run_again_for_a_repeat() -> None:
    recorder = Recorder()
    engine = engine_of(recorder.step("a", "question"), recorder.step("answer", "a", stochastic=True))
    results = [run(engine, tasks_of(engine, 1, repeat=repeat))[0] for repeat in range(5)]
    assert recorder.ran == {"a": 1, "answer": 5}
    assert [item.system_runs for item in results] == [1.0, 0.5, 0.5, 0.5, 0.5]
    again = run(engine, tasks_of(engine, 1, repeat=4))[0]
    assert again.trajectory == results[4].trajectory and again.system_runs == 0.0


def test_two_equal_calls_at_once_are_one_call() -> None:
    recorder = Recorder()
    engine = engine_of(recorder.step("answer", "question", latency_s=0.02), concurrency=64)
    results = run(engine, [Task(example(index, question="same"), engine.system.configuration) for index in range(64)])
    assert recorder.ran == {"answer": 1}
    assert {item.trajectory.fields["answer"] for item in results} == {"answer(same)"}
    assert sum(item.system_runs for item in results) == 1.0
    assert engine.budget.spent().system_runs == 1.0
    assert sum(row["cache_hits"] for row in engine.budget.rows()) == 63


def test_whoever_waits_for_a_cancelled_execution_does_it_itself() -> None:
    async def main() -> None:
        cache, calls = CallCache(None), 0

        async def work() -> dict[str, Any]:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0.05)
            return {"value": calls}

        leader = asyncio.create_task(cache.get_or_run("key", work))
        await asyncio.sleep(0)
        followers = [asyncio.create_task(cache.get_or_run("key", work)) for _ in range(3)]
        await asyncio.sleep(0.01)
        leader.cancel()
        results = await asyncio.wait_for(asyncio.gather(*followers), timeout=5)
        assert calls == 2 and [record for record, _ in results] == [{"value": 2}] * 3
        with pytest.raises(asyncio.CancelledError):
            await leader

    asyncio.run(main())


def test_a_failed_execution_leaves_nothing_behind_and_reaches_everyone_who_waits() -> None:
    async def main() -> None:
        cache, calls = CallCache(None), 0

        async def work() -> dict[str, Any]:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0.01)
            if calls == 1:
                raise ServerFault("once")
            return {"value": calls}

        failed = await asyncio.gather(*[cache.get_or_run("key", work) for _ in range(3)], return_exceptions=True)
        assert [type(item) for item in failed] == [ServerFault] * 3 and calls == 1
        assert await cache.get_or_run("key", work) == ({"value": 2}, False)
        assert await cache.get_or_run("key", work) == ({"value": 2}, True)

    asyncio.run(main())


def test_the_memory_of_the_cache_is_bounded_by_least_use() -> None:
    async def main() -> None:
        cache, calls = CallCache(None, capacity=2), Counter[str]()

        async def ask(key: str) -> bool:
            async def work() -> dict[str, Any]:
                calls[key] += 1
                return {"key": key}

            return (await cache.get_or_run(key, work))[1]

        assert [await ask(key) for key in "abacab"] == [False, False, True, False, True, False]
        assert calls == {"a": 1, "b": 2, "c": 1}

    asyncio.run(main())


def test_the_shared_store_serves_a_second_engine(tmp_path: Path) -> None:
    recorder = Recorder()
    parts = recorder.step("a", "question"), recorder.step("answer", "a", stochastic=True)
    first = engine_of(*parts, calls=Workspace.open(tmp_path).calls)
    second = engine_of(*parts, calls=Workspace.open(tmp_path).calls)
    one, two = run(first, tasks_of(first, 5)), run(second, tasks_of(second, 5))
    assert recorder.ran == {"a": 5, "answer": 5}
    assert [item.trajectory for item in one] == [item.trajectory for item in two]
    assert sum(item.system_runs for item in one) == 5 and sum(item.system_runs for item in two) == 0
    assert second.budget.spent().system_runs == 0.0
    other = engine_of(recorder.step("a", "question", version="2"), parts[1], calls=Workspace.open(tmp_path).calls)
    run(other, tasks_of(other, 5))
    assert recorder.ran["a"] == 10, "another version of the code is another result"


def test_a_component_that_changes_what_it_is_given_changes_nothing_for_others() -> None:
    def retrieve(question: str) -> list[str]:
        return ["a", "b", "c"]

    def greedy(passages: list[str], k: int = 1) -> str:
        kept = [passages.pop() for _ in range(k)]
        return f"{kept} of {len(passages) + k}"

    engine = engine_of(component(retrieve, outputs="passages"), component(greedy, outputs="answer", space={"k": NumberGrid(1, 2, 3)}))
    tasks = [Task(example(0), engine.system.configuration.replace("greedy", {"k": k})) for k in (1, 2, 3)]
    assert [item.trajectory.fields["answer"] for item in run(engine, tasks)] == [f"{['c', 'b', 'a'][:k]} of 3" for k in (1, 2, 3)]


# Status


def test_a_failed_item_is_missing_and_has_no_number() -> None:
    def answer(question: str) -> str:
        if question == "q1":
            raise ServerFault("the server is down")
        return question

    engine = engine_of(component(answer, outputs="answer"))
    results = run(engine, tasks_of(engine, 3))
    assert [item.status for item in results] == ["ok", "missing", "ok"]
    assert [item.reward for item in results] == [1.0, None, 1.0]
    assert first_error(results) == "ServerFault: the server is down" and first_error(results[:1]) == ""


def test_a_reply_in_another_form_scores_the_lowest_value_and_is_kept() -> None:
    client = Scripted(lambda request, attempt: "not a number")
    item = llm("answer", inputs=["question"], output="answer", model=client, prompt="Count.", parse=int)
    system = CompoundSystem([item], outputs=["answer"], metric=f1, metric_range=(-1.0, 1.0))
    engine = RolloutEngine(system, Budget(BudgetSettings()))
    for _ in range(2):
        result = run(engine, tasks_of(engine, 1))[0]
        assert (result.status, result.reward) == ("format_error", -1.0) and result.tokens_out > 0
    assert client.calls == 1


@pytest.mark.parametrize("error", [AuthenticationFailed("no"), SystemDefinitionError("no"), BudgetExhausted("no")])
def test_what_no_rollout_can_survive_stops_the_run(error: Exception) -> None:
    def answer(question: str) -> str:
        raise error

    with pytest.raises(type(error)):
        engine = engine_of(component(answer, outputs="answer"))
        run(engine, tasks_of(engine, 2))


def test_a_metric_that_fails_stops_the_run() -> None:
    engine = engine_of(Recorder().step("answer", "question"), metric=lambda example, outputs: float("nan"))
    with pytest.raises(MetricError):
        run(engine, tasks_of(engine, 1))


def test_an_output_json_cannot_hold_is_the_users_mistake() -> None:
    engine = engine_of(component(lambda question: {1, 2}, outputs="answer", name="c"))
    with pytest.raises(SystemDefinitionError, match="'c'"):
        run(engine, tasks_of(engine, 1))


def test_equivalent_system_runs_are_the_fraction_of_components_executed() -> None:
    recorder = Recorder()
    engine = engine_of(
        recorder.step("a", "question"),
        recorder.step("b", "a"),
        recorder.step("c", "b", when=lambda skip: not skip, otherwise={"c": "none"}),
        recorder.step("answer", "c"),
    )
    configuration = engine.system.configuration
    given = {"a": {"a": "x"}, "b": {"b": "y"}}
    tasks = [
        Task(example(0, skip=False), configuration, given=given),
        Task(example(1, skip=True), configuration),
        Task(example(2, skip=False), configuration, until="c"),
    ]
    results = run(engine, tasks)
    assert [item.system_runs for item in results] == [0.5, 0.75, 0.5]
    assert engine.budget.spent().system_runs == pytest.approx(1.75)


def test_calls_on_fixed_inputs_and_their_failures() -> None:
    def answer(question: str, k: int = 1) -> str:
        if question == "form":
            raise FormatError("not so")
        if question == "down":
            raise ServerFault("down")
        return f"{question}{k}"

    engine = engine_of(component(answer, outputs="answer", space={"k": Choice(1, 2)}))
    calls = [("answer", {"question": question}, {"k": 2}, 0) for question in ("x", "form", "down", "y")]
    found = asyncio.run(engine.call_many(calls, stage="test", iteration=0))
    assert found == [{"answer": "x2"}, None, None, {"answer": "y2"}]
    with pytest.raises(FormatError):
        asyncio.run(engine.call("answer", {"question": "form"}, {"k": 2}, repeat=0, stage="test", iteration=0))


def test_per_input_selection_keeps_the_output_with_the_highest_local_reward() -> None:
    def answer(question: str, k: int = 1) -> str:
        if k == 3:
            raise FormatError("this value never works")
        return f"{question}/{k}"

    def scorer(lrf: str, name: str, inputs: Mapping[str, Any], outputs: Any) -> list[float]:
        assert (lrf, name) == ("lrf-digest", "answer")
        return [float(item["answer"].endswith("1") == (inputs["question"] == "q0")) for item in outputs]

    engine = engine_of(component(answer, outputs="answer", space={"k": NumberGrid(1, 2, 3)}), scorer=scorer)
    configuration = engine.system.configuration.replace("answer", {"k": {"per_input": [1, 2, 3], "lrf": "lrf-digest"}})
    engine.system.check_configuration(configuration)
    results = run(engine, [Task(example(index), configuration) for index in range(2)])
    assert [item.trajectory.fields["answer"] for item in results] == ["q0/1", "q1/2"]
    without = engine_of(component(answer, outputs="answer", space={"k": NumberGrid(1, 2, 3)}))
    with pytest.raises(SystemDefinitionError, match="per input"):
        run(without, [Task(example(0), configuration)])
