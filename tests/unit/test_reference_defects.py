"""One named test for each defect found in the reference implementation: each would fail if our code had it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from optimas_core.acceptance import PairedSequentialGate, StrictGate
from optimas_core.artifacts import Workspace
from optimas_core.controller import (
    IterationPlan,
    IterationResult,
    RunState,
    Uniform,
    after_iteration,
    after_warm_up,
    draw_examples,
)
from optimas_core.errors import CallRejected, RateLimited, ServerFault
from optimas_core.metrics import choice_in
from optimas_core.models import Message, ModelRequest, Scripted
from optimas_core.models.scripted import RateLimit, Rejected, ServerError, VirtualClock
from optimas_core.optimizers import parse_proposals
from optimas_core.preferences import ScoredCandidate, collect, label_pairs
from optimas_core.rewards import split_by_example
from optimas_core.rollouts import Budget, RolloutEngine, Task
from optimas_core.spec import BudgetSettings, PreferenceSettings
from optimas_core.system import Choice, Component, CompoundSystem, Example, NumberGrid, component, split_examples


def exact(example: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    return float(outputs["answer"] == example["expected"])


def engine_of(*parts: Component, metric: Any = exact, outputs: str = "answer", **options: Any) -> RolloutEngine:
    system = CompoundSystem(list(parts), outputs=outputs.split(), metric=metric)
    return RolloutEngine(system, Budget(BudgetSettings()), **options)


def rollouts(engine: RolloutEngine, examples: list[Example]) -> list[Any]:
    tasks = [Task(example, engine.system.configuration) for example in examples]
    return asyncio.run(engine.run(tasks, stage="test", iteration=0))


def test_defect_01_results_in_completion_order() -> None:
    """Parallel results came back in completion order and were zipped with ordered inputs."""
    finished: list[int] = []

    async def answer(number: int) -> int:
        await asyncio.sleep((63 - number) % 8 * 0.004)
        finished.append(number)
        return number

    engine = engine_of(component(answer, outputs="answer"), concurrency=8)
    results = rollouts(engine, [Example(str(index), {"number": index, "expected": index}) for index in range(64)])
    assert finished != sorted(finished), "the test needs results that overtake each other"
    assert [item.trajectory.fields["answer"] for item in results] == list(range(64))
    assert [item.reward for item in results] == [1.0] * 64


def test_defect_02_only_the_first_line_of_a_proposal_was_kept() -> None:
    """A proposal of many lines, tagged, fenced or bare, survives byte-exact."""
    proposal = "Answer the question.\n\n1. Read *all* passages.\n  - keep the indentation\n2. Give   a few words."
    for reply in (
        f"Here it is:\n<instruction>\n{proposal}\n</instruction>\nGood luck!",
        f"Sure.\n```text\n{proposal}\n```",
        proposal,
    ):
        assert parse_proposals(reply) == [proposal]


@pytest.mark.parametrize("reverse", [False, True])
def test_defect_03_half_of_the_pairs_lost_and_gold_answers_injected(reverse: bool) -> None:
    """A pair counts whichever of its two candidates comes first; the expected answer is no candidate."""
    scores = [0.1, 0.9, 0.4]
    candidates = [ScoredCandidate((str(score),), {"out": f"x{score}"}, (score,)) for score in scores]
    pairs = label_pairs(candidates[::-1] if reverse else candidates, min_gap_se=0.0, deterministic=True)
    found = {(pair.chosen.labels[0], pair.rejected.labels[0]) for pair in pairs}
    assert found == {("0.9", "0.4"), ("0.9", "0.1"), ("0.4", "0.1")}

    def answer(question: str, style: str = "plain") -> str:
        return f"{style} guess"

    engine = engine_of(component(answer, outputs="answer", space={"style": Choice("plain", "bold")}))
    examples = [Example(str(index), {"question": f"q{index}", "expected": "GOLD"}) for index in range(3)]
    configuration, settings = engine.system.configuration, PreferenceSettings()
    data = asyncio.run(collect(engine, "answer", examples, configuration, settings, stage="s", iteration=0, seed=0))
    assert len(data.inputs) == 3 and "GOLD" not in str([record.candidates for record in data.inputs])


def test_defect_04_failures_left_the_mean_or_became_numbers() -> None:
    """A failed item is missing: it has no number, it stays counted, and too many of them make a verdict indecisive."""

    def answer(number: int) -> int:
        if number % 2:
            raise ServerFault("down")
        return number

    results = rollouts(
        engine_of(component(answer, outputs="answer")),
        [Example(str(index), {"number": index, "expected": index}) for index in range(6)],
    )
    assert [item.status for item in results] == ["ok", "missing"] * 3
    assert [item.reward for item in results] == [1.0, None] * 3
    for gate in (PairedSequentialGate(items=40, first_look=20), StrictGate(items=40)):
        half_missing = [(0.0, 1.0), (0.0, None)] * 20
        said = gate.decide(half_missing, alpha=0.05, available=40, metric_range=(0.0, 1.0), seed=0)
        assert said.kind == "indecisive" and said.n_missing > 0
    few = [(1.0, 0.0)] * 35 + [(None, 0.0), (1.0, None)]
    said = StrictGate(items=37).decide(few, alpha=0.05, available=37, metric_range=(0.0, 1.0), seed=0)
    assert (said.n_pairs, said.n_missing, said.difference) == (35, 2, -1.0)


_ORDER = """
from optimas_core.system import CompoundSystem, component
names = ["delta", "alpha", "omega", "beta", "kappa", "sigma"]
parts = [component(lambda **v: 1, name=n, inputs=["q"], outputs=[n]) for n in names]
parts.append(component(lambda **v: 1, name="join", inputs=names, outputs=["answer"]))
print(list(CompoundSystem(parts, outputs=["answer"], metric=lambda e, o: 1.0).components))
"""


def test_defect_05_order_from_a_set_and_overrides_that_stayed() -> None:
    """The order is that of the definition under any hash seed; overrides and trajectories belong to their own call."""
    said = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", _ORDER], env=environment, capture_output=True, text=True, check=True)
        said.add(done.stdout.strip())
    assert said == {"['delta', 'alpha', 'omega', 'beta', 'kappa', 'sigma', 'join']"}

    inside = threading.Barrier(2)

    def retrieve(question: str, k: int = 5) -> str:
        inside.wait(timeout=20)
        return f"{question}{k}"

    system = engine_of(component(retrieve, outputs="answer", space={"k": NumberGrid(1, 5, 25)})).system

    async def two_at_once() -> list[Any]:
        chosen = [system.configuration.replace("retrieve", {"k": k}) for k in (1, 25)]
        return list(await asyncio.gather(*[system.trace(question=f"q{c.of('retrieve')['k']}:", configuration=c) for c in chosen]))

    one, many = asyncio.run(two_at_once())
    assert one.fields == {"question": "q1:", "answer": "q1:1"} and many.fields == {
        "question": "q25:",
        "answer": "q25:25",
    }
    assert system.configuration.of("retrieve") == {"k": 5}


def test_defect_07_pairs_of_one_input_on_both_sides() -> None:
    """Held-out pairs come from examples that no training pair comes from, also after more examples arrive."""
    ids = [f"e{index // 6}" for index in range(240)]  # six pairs of each of forty examples
    train, held_out = split_by_example(ids, 0.3, seed=0)
    assert train | held_out == set(ids) and not train & held_out and train and held_out
    more_train, more_held_out = split_by_example([*ids, *(f"new{index}" for index in range(100))], 0.3, seed=0)
    assert held_out <= more_held_out and train <= more_train


def test_defect_08_every_exception_was_retried_100_times() -> None:
    """Only what can pass is tried again, a few times, with jitter, not before Retry-After."""

    def ask(*steps: Any) -> tuple[Scripted, VirtualClock, BaseException | None]:
        clock = VirtualClock()
        model = Scripted(list(steps), clock=clock, max_attempts=4)
        try:
            asyncio.run(model.complete(ModelRequest(messages=(Message("user", "hello"),))))
        except Exception as error:  # each case looks at it
            return model, clock, error
        return model, clock, None

    rejected, clock, error = ask(Rejected(400), "never asked")
    assert isinstance(error, CallRejected) and rejected.calls == 1 and clock.now() == 0.0
    down, _, error = ask(*[ServerError(503)] * 50)
    assert isinstance(error, ServerFault) and down.calls == 4
    limited, clock, error = ask(RateLimit(7.0), "answer")
    assert error is None and limited.calls == 2 and 7.0 <= clock.now() < 10.0
    _, _, error = ask(*[RateLimit()] * 50)
    assert isinstance(error, RateLimited)


def test_defect_10_only_the_last_component_was_scored() -> None:
    """A final field may come from any component, also where a later one runs after it."""

    def early(question: str) -> dict[str, str]:
        return {"answer": question.upper(), "draft": question}

    def late(draft: str) -> dict[str, str]:
        return {"note": f"about {draft}"}

    parts = component(early, outputs=["answer", "draft"]), component(late, outputs=["note"])

    def both(example: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
        return float(outputs == {"answer": "RHINE", "note": "about rhine"})

    engine = engine_of(*parts, metric=both, outputs="answer note")
    assert rollouts(engine, [Example("e", {"question": "rhine"})])[0].reward == 1.0


def test_defect_11_no_was_found_inside_diagnosis() -> None:
    """A choice is a whole word, and the last one that stands."""
    options = ("yes", "no", "maybe")
    assert choice_in("The diagnosis is supported. Answer: yes", options) == "yes"
    assert choice_in("A diagnosis of anosmia near a volcano, unknown cause", options) is None
    assert choice_in("Yes? The evidence says: No.", options) == "no"


def test_defect_12_the_split_followed_the_order_of_the_file() -> None:
    """A file sorted by language is shuffled with the seed, so that every part has both, at the sizes asked for."""
    languages = ["en"] * 370 + ["ja"] * 124
    ids = [f"{index:04d}" for index in range(len(languages))]
    rows = [Example(name, {"item": name, "language": language}) for name, language in zip(ids, languages, strict=True)]
    split = split_examples(rows, train=335, validation=60, test=99, seed=0)
    assert (len(split.train), len(split.validation), len(split.test)) == (335, 60, 99)
    for part in (split.train, split.validation, split.test):
        share = sum(example.fields["language"] == "ja" for example in part) / len(part)
        assert 0.10 < share < 0.45, "a quarter of the whole"
    shuffled = random.Random(3).sample(rows, len(rows))
    assert split_examples(shuffled, train=335, validation=60, test=99, seed=0) == split


def test_defect_06_the_global_generator_was_seeded_every_iteration() -> None:
    """Components and data differ between iterations, whatever a library does to the global generators in between."""
    train = [Example(f"e{index}", {}) for index in range(40)]

    def planned(disturb: bool) -> list[tuple[str, tuple[str, ...]]]:
        found = []
        for iteration in range(12):
            if disturb:
                random.seed(42)
            state = RunState(iteration=iteration)
            found.append((Uniform().choose(["a", "b", "c"], state, 0), draw_examples(train, 10, "fresh", 0, iteration)))
        return found

    plans = planned(disturb=True)
    assert plans == planned(disturb=False)
    assert len({component for component, _ in plans}) > 1 and len({examples for _, examples in plans}) == 12
    random.seed(5)
    expected = random.Random(5).random()
    Uniform().choose(["a", "b"], RunState(), 0)
    assert random.random() == expected, "nor do we disturb the user's"


def test_defect_09_no_checkpoint_and_pickled_state() -> None:
    """Every step's state is JSON and comes back equal; the LRF, the mini-batches and the level spent are part of it.

    (tests/local/controller/test_resume_after_kill.py kills real runs.)
    """
    plan = IterationPlan(1, 1, "a", "k", "v0", "r0", ("m0",), ("m0",), ("e1",), ("e2",), 0.01, 0)
    result = IterationResult("v0", "r1", "m1", "reject", "no", 0.01, -0.1, 0.5, "p1", "s1", "w1", True)
    warm = after_warm_up(RunState(configuration="v0"), {"a": "m0"}, "r0", {})
    state = after_iteration(warm, plan, result, {})
    again = RunState.from_json(json.loads(json.dumps(state.to_json())))
    assert again == state and (again.lrf, again.preferences, again.charged) == ("r1", {"a": ("m1", "m0")}, 0.01)


def test_defect_13_outputs_ran_and_the_environment_travelled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model's text stays text, and a key in the environment reaches no file of the workspace.

    (tests/local/cli/test_run_commands.py looks for a planted key in every file of a whole run.)
    """
    secret, mark = "sk-planted-91c2", tmp_path / "ran"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    code = f"{{{{7 * 6}}}} {{secret}} $OPENAI_API_KEY __import__('pathlib').Path({str(mark)!r}).touch()"

    def write(number: int) -> str:
        return code

    workspace = Workspace.open(tmp_path / "workspace")
    run = workspace.run("r")
    system = CompoundSystem([component(write, outputs="answer")], outputs=["answer"], metric=exact)
    engine = RolloutEngine(system, Budget(BudgetSettings(), run), calls=workspace.calls)
    done = rollouts(engine, [Example("e", {"number": 1, "expected": code})])
    assert done[0].reward == 1.0 and parse_proposals(code) == [code]
    engine.budget.flush()
    files = [file for file in (tmp_path / "workspace").rglob("*") if file.is_file()]
    assert not mark.exists() and len(files) >= 2
    assert not [file for file in files if secret.encode() in file.read_bytes()]
