"""The loop with a launcher that measures nothing: what is asked of it, what is appended, how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Lease
from optimas_core.controller import Controller, IterationPlan, IterationResult, RunState
from optimas_core.errors import BudgetExhausted, Interrupted, LeaseLost
from optimas_core.stages import StageContext, load_project, open_run
from optimas_core.system import Configuration


@dataclass
class Fake:
    """A launcher that answers each iteration by `verdicts`; an error among them is raised."""

    context: StageContext
    verdicts: list[Any]
    asked: list[Any] = field(default_factory=list)

    def warm_up(self, components: Any, configuration: str, examples: Any) -> Any:
        self.asked.append(("warm_up", components, configuration, examples))
        return {name: f"m-{name}" for name in components}, "r0"

    def iterate(self, plan: IterationPlan) -> IterationResult:
        self.asked.append(plan)
        verdict = self.verdicts[plan.iteration - 1]
        if isinstance(verdict, Exception):
            raise verdict
        name = plan.configuration
        if verdict == "accept":
            incumbent = Configuration.from_json(self.context.run.read_configuration(name) or {})
            value = 2 if plan.component == "lookup" else {**incumbent.of("answerer")["prompt"], "instruction": f"v{plan.iteration}"}
            name = self.context.run.put_configuration(incumbent.replace(plan.component, {plan.knob: value}).to_json())
        spent = 0.0 if verdict == "kept" else plan.alpha
        mean = None if verdict == "kept" else 0.1 * plan.iteration
        return IterationResult(name, f"r{plan.iteration}", f"m{plan.iteration}", verdict, "", spent, 0.1, mean, "p", "k", None, True)

    def test(self, before: str, after: str) -> str:
        self.asked.append(("test", before, after))
        return "t0"


Start = Callable[..., tuple[Controller, Fake, list[RunState]]]


@pytest.fixture
def start(scripted_project: Callable[..., Path]) -> Iterator[Start]:
    leases: list[Lease] = []

    def begin(verdicts: list[Any], folder: str = "project", again: Path | None = None, **sections: Any) -> Any:
        path = again or scripted_project(folder, **sections)
        context = open_run(load_project(path))
        lease = Lease(context.run)
        for held in leases:
            held.release()
        leases.append(lease)
        lease.acquire()
        fake, seen = Fake(context, verdicts), []
        return Controller(context, fake, lease, on_state=seen.append), fake, seen

    yield begin
    for held in leases:
        held.release()


ROUND_ROBIN = {"kind": "round_robin"}


def test_the_whole_way(start: Start) -> None:
    controller, fake, seen = start(["accept", "reject", "kept"])
    end = controller.run()
    assert [state.phase for state in seen] == ["created", "warm", *["iterating"] * 3, "testing", "finished"]
    assert [state.index for state in seen] == list(range(7)) and end == seen[-1]
    assert fake.asked[0][1] == ("lookup", "answerer") and len(fake.asked[0][3]) == 8
    plans = fake.asked[1:4]
    assert {plan.component for plan in plans} == {"lookup", "answerer"}
    assert all(len(plan.fresh) == 6 and len(plan.search) == 8 for plan in plans)
    begun = controller._context.system.configuration.digest
    assert fake.asked[-1] == ("test", begun, end.configuration) and end.configuration != begun
    assert end.record == {"test": "t0"} and end.stop_reason == "all 3 iterations are done"
    stored = [RunState.from_json(item.data) for item in controller._context.run.states()]
    assert [replace(state, record={}) for state in stored] == [replace(state, record={}) for state in seen]


def test_exactly_one_component_differs_after_an_acceptance(start: Start) -> None:
    controller, _, seen = start(["accept"] * 3)
    controller.run()
    context = controller._context
    loop = [state for state in seen if state.phase in ("warm", "iterating")]
    for before, after in pairwise(loop):
        changed = context.configuration(before.configuration).differs_in(context.configuration(after.configuration))
        assert changed in ([after.record["plan"]["component"]], []) and len(changed) <= 1
    assert loop[-1].accepted == 3 and loop[-1].configuration != loop[0].configuration


def test_the_level_of_all_tests_never_exceeds_alpha(start: Start) -> None:
    verdicts = ["reject", "kept", "indecisive", "accept", "reject", "reject"]
    controller, fake, _ = start(verdicts, schedule={"iterations": 6, "selection": ROUND_ROBIN})
    end = controller.run()
    plans = [item for item in fake.asked if isinstance(item, IterationPlan)]
    levels = [plan.alpha for plan in plans]
    assert levels[0] == pytest.approx(0.2 / 6)
    assert levels[2] == pytest.approx((0.2 - levels[0]) / 4), "a kept incumbent hands its share on"
    assert levels[4] == pytest.approx((0.2 - levels[0] - levels[2]) / 2), "so does an acceptance"
    charged = sum(level for level, verdict in zip(levels, verdicts, strict=True) if verdict in ("reject", "indecisive"))
    assert end.charged == pytest.approx(charged) and end.charged <= 0.2 + 1e-12
    assert [plan.accepted for plan in plans] == [0, 0, 0, 0, 1, 1]


def test_an_exhausted_budget_ends_with_the_best_so_far(start: Start) -> None:
    controller, fake, _ = start(["accept", BudgetExhausted("budget.usd = 1 would be exceeded.")])
    end = controller.run()
    assert (end.phase, end.accepted, end.iteration) == ("finished", 1, 1)
    assert end.stop_reason == "budget.usd = 1 would be exceeded."
    assert fake.asked[-1] == ("test", controller._context.system.configuration.digest, end.configuration)


def test_patience_and_target_end_the_loop(start: Start) -> None:
    controller, _, _ = start(["reject"] * 9, schedule={"iterations": 9, "patience": 2})
    assert (end := controller.run()).iteration == 2 and "patience" in end.stop_reason
    controller, _, _ = start(["reject"] * 9, "second", schedule={"iterations": 9, "target": 0.3})
    assert (end := controller.run()).iteration == 3 and "target" in end.stop_reason


def test_a_strict_run_needs_no_level(start: Start) -> None:
    controller, fake, _ = start(["reject"] * 3, acceptance={"kind": "strict"})
    assert controller.run().charged == 0.0
    assert [plan.alpha for plan in fake.asked[1:-1]] == [0.0] * 3


def test_stopped_anywhere_it_plans_the_same(start: Start, scripted_project: Callable[..., Path]) -> None:
    """Interrupted in each iteration and started anew, in the presence of other users of the random generators."""
    import random

    straight, fake, seen = start(["accept", "reject", "accept"], name="r")
    straight.run()
    path = scripted_project("stopped", name="r")
    asked: list[Any] = []
    for stop in range(1, 4):
        verdicts: list[Any] = ["accept", "reject", "accept"]
        verdicts[stop - 1] = Interrupted("stopped")
        random.seed(42)
        controller, one, _ = start(verdicts, again=path)
        with pytest.raises(Interrupted):
            controller.run()
        asked += one.asked
    controller, one, _ = start(["accept", "reject", "accept"], again=path)
    end = controller.run()
    plans = {plan.iteration: plan for plan in [*asked, *one.asked] if isinstance(plan, IterationPlan)}
    assert plans == {plan.iteration: plan for plan in fake.asked if isinstance(plan, IterationPlan)}
    assert end == seen[-1]
    assert sum(item[0] == "warm_up" for item in asked if isinstance(item, tuple)) == 1


def test_a_finished_run_asks_for_nothing(start: Start) -> None:
    controller, _, _ = start(["reject"] * 3)
    end = controller.run()
    again, fake, seen = start([], again=controller_path(controller))
    assert again.run() == end and fake.asked == [] and seen == []


def controller_path(controller: Controller) -> Path:
    return Path(controller._context.run.store.url.removeprefix("file://")).parent / "run.yaml"


def test_a_former_holder_appends_nothing(start: Start) -> None:
    controller, _, _ = start(["reject"] * 3)
    state = controller.step(controller.current())
    start([], again=controller_path(controller))  # another process takes the run over
    with pytest.raises(LeaseLost):
        controller.step(state)
