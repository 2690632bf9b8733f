"""One ledger, several processes: no schedule of reservations, settlements, lost answers and kills exceeds a cap."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core.artifacts import RunWorkspace, Workspace
from optimas_core.errors import ArtifactCorrupt, BudgetExhausted, StoreUnavailable
from optimas_core.models import ModelRequest, Price, llm
from optimas_core.models.scripted import CutStream, Disconnect, Junk, RateLimit, Scripted, ServerError, Stall, Step, Truncated, VirtualClock
from optimas_core.rollouts import Budget, Place, RolloutEngine, Task
from optimas_core.rollouts import _budget as budget_module
from optimas_core.spec import BudgetSettings
from optimas_core.system import LOST, CallUsage, CompoundSystem, Example, WorstCase

PLACE = Place("stage", 1, "answerer")
PRICE = Price(1000.0, 2000.0)


def run_of(path: Path) -> RunWorkspace:
    return Workspace.open(path).run("run-1")


def usage(usd: float, tokens: int) -> list[CallUsage]:
    return [CallUsage("m", tokens, 0, usd, 0.1)]


events = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["reserve", "reserve", "settle", "flush", "kill"]), st.integers(1, 90), st.floats(0, 1)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=20, deadline=None)
@given(events, st.sampled_from(["usd", "tokens", "system_runs"]))
def test_processes_that_share_a_run_never_exceed_a_cap(
    tmp_path_factory: pytest.TempPathFactory, schedule: list[tuple[int, str, int, float]], capped: str
) -> None:
    run = run_of(tmp_path_factory.mktemp("shared"))
    caps = BudgetSettings(**{capped: {"usd": 3.0, "tokens": 300, "system_runs": 30.0}[capped]})
    processes = [Budget(caps, run, block_share=0.3) for _ in range(3)]
    flying: list[list[tuple[object, int, float]]] = [[] for _ in processes]
    paid = {"usd": 0.0, "tokens": 0, "system_runs": 0.0}
    settled = 0
    for who, event, size, share in schedule:
        process = processes[who]
        match event:
            case "reserve":
                try:
                    reservation = process.reserve(WorstCase(size, size / 100), size / 10)
                except BudgetExhausted:
                    continue
                real = int(size * share)
                flying[who].append((reservation, real, size * share / 10))
                # The vendor charges at once, whatever becomes of us.
                paid["usd"] += real / 100
                paid["tokens"] += real
                paid["system_runs"] += size * share / 10
            case "settle" if flying[who]:
                reservation, real, runs = flying[who].pop()
                process.settle(reservation, PLACE, usage(real / 100, real), system_runs=runs)
                settled += real
            case "flush":
                process.flush()
            case "kill":
                processes[who], flying[who] = Budget(caps, run, block_share=0.3), []
        assert paid[capped] <= getattr(caps, capped) + 1e-6
    for process, open_ in zip(processes, flying, strict=True):
        for reservation, real, runs in open_:
            process.settle(reservation, PLACE, usage(real / 100, real), system_runs=runs)
        process.flush()
    after = Budget(caps, run)
    assert getattr(after.spent(), capped) >= paid[capped] - 1e-6, "what may have been paid is counted, kills included"
    assert getattr(after.spent(), capped) <= getattr(caps, capped) + 1e-6
    if not any(event == "kill" for _, event, _, _ in schedule):
        assert after.spent().tokens == paid["tokens"] == sum(row["tokens_in"] for row in after.rows())


def test_a_second_process_sees_what_the_first_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caps = BudgetSettings(tokens=100)
    first, second = Budget(caps, run_of(tmp_path)), Budget(caps, run_of(tmp_path))
    held = first.reserve(WorstCase(70, 0.0), 0)
    with pytest.raises(BudgetExhausted, match="tokens = 100"):
        second.reserve(WorstCase(50, 0.0), 0)  # it had read the ledger before the first one wrote
    first.settle(held, PLACE, usage(0.0, 10), system_runs=0)
    first.flush()
    monkeypatch.setattr(budget_module, "_REFRESH_S", 0.0)
    second.reserve(WorstCase(50, 0.0), 0)


def test_an_append_whose_answer_was_lost_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path)
    budget = Budget(BudgetSettings(tokens=1000), run)
    budget.settle(budget.reserve(WorstCase(100, 0.0), 1), PLACE, usage(0.0, 100), system_runs=1)
    put = type(run.store).put

    def written_but_unanswered(self: object, key: str, *rest: object, **options: object) -> str:
        put(self, key, *rest, **options)  # type: ignore[arg-type]
        if "/ledger/0" in key:
            raise StoreUnavailable("the answer was lost")
        return ""

    with monkeypatch.context() as patch:
        patch.setattr(type(run.store), "put", written_but_unanswered)
        with pytest.raises(StoreUnavailable):
            budget.flush()
    budget.flush()
    assert budget.spent().tokens == Budget(BudgetSettings(), run).spent().tokens == 100
    assert sum(row["tokens_in"] for row in Budget(BudgetSettings(), run).rows()) == 100


def test_the_newest_record_alone_tells_where_the_run_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path)
    budget = Budget(BudgetSettings(tokens=100_000), run)
    for _ in range(60):
        budget.settle(budget.reserve(WorstCase(20, 0.0), 1), PLACE, usage(0.0, 10), system_runs=1)
        budget.flush()
    reads: list[str] = []
    get = type(run.store).get
    monkeypatch.setattr(type(run.store), "get", lambda self, key, **bound: reads.append(key) or get(self, key, **bound))
    assert Budget(BudgetSettings(), run).spent().tokens == 600
    assert len(reads) <= 3


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"tokens":10', '"tokens":1'),
        lambda text: text.replace('"settled"', '"sattled"'),
        lambda text: text[:-20],
        lambda text: '{"writer":"x"}',
    ],
)
def test_a_ledger_record_that_was_tampered_with_is_an_error(tmp_path: Path, change: Callable[[str], str]) -> None:
    run = run_of(tmp_path)
    budget = Budget(BudgetSettings(tokens=100), run)
    budget.settle(budget.reserve(WorstCase(20, 0.0), 1), PLACE, usage(0.0, 10), system_runs=1)
    budget.flush()
    newest = run.ledger.latest()
    assert newest is not None
    key = f"{run.prefix}/ledger/{newest[0]:06d}.json"
    blob = run.store.get(key)
    assert blob is not None and change(blob.data.decode()) != blob.data.decode()
    run.store.put(key, change(blob.data.decode()).encode())
    with pytest.raises(ArtifactCorrupt, match="ledger"):
        Budget(BudgetSettings(tokens=100), run)


def faulty(dice: random.Random, bill: list[float]) -> Callable[[ModelRequest, int], Step]:
    """Steps at random; `bill` gets what a vendor charges for each: also for answers that never arrive."""

    def play(request: ModelRequest, attempt: int) -> Step:
        text = "word " * dice.randrange(1, 9)
        kinds: list[Step] = [text, text, Truncated(text), CutStream(text), Junk(text), Stall(500.0, text)]
        free: list[Step] = [RateLimit(), RateLimit(0.5), ServerError(500), ServerError(529), Disconnect()]
        step = dice.choice(kinds + free)
        if step in kinds:
            words = len(text.encode()) // 3 + 1
            bill.append(PRICE.usd(len((request.prompt or request.messages[-1].content).encode()) // 4, words))
        return step

    return play


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.5, 20.0))
def test_256_in_flight_with_retries_and_lost_answers_stay_below_the_cap(seed: int, cap: float) -> None:
    bill: list[float] = []
    model = Scripted(faulty(random.Random(seed), bill), price=PRICE, clock=VirtualClock(), max_attempts=4, latency_s=0.01)
    item = llm("answerer", inputs=["question"], output="answer", model=model, prompt="Answer.", max_tokens=16, temperature=1.0)
    system = CompoundSystem([item], outputs=["answer"], metric=lambda example, outputs: 1.0)
    budget = Budget(BudgetSettings(usd=cap))
    engine = RolloutEngine(system, budget, concurrency=256)
    tasks = [Task(Example(f"e{index}", {"question": f"q{index}"}), system.configuration) for index in range(400)]
    try:
        asyncio.run(engine.run(tasks, stage="test", iteration=0))
    except BudgetExhausted:
        assert budget.spent().usd > 0 or cap < 1.0
    assert sum(bill) <= budget.spent().usd + 1e-9 <= cap + 2e-9
    assert sum(row["usd_known"] for row in budget.rows()) == pytest.approx(budget.spent().usd)


def test_a_lost_answer_is_counted_at_its_most_and_says_so() -> None:
    model = Scripted([CutStream("gone"), "here"], price=PRICE, clock=VirtualClock())
    item = llm("answerer", inputs=["question"], output="answer", model=model, prompt="Answer.", max_tokens=16)
    system = CompoundSystem([item], outputs=["answer"], metric=lambda example, outputs: 1.0)
    budget = Budget(BudgetSettings())
    example = Example("e", {"question": "q"})
    [done] = asyncio.run(RolloutEngine(system, budget).run([Task(example, system.configuration)], stage="test", iteration=0))
    [row] = budget.rows()
    worst = item.worst_case({"question": "q"}, item.defaults)
    assert done.status == "ok" and row["calls"] == 2 and row["lost_calls"] == 1
    assert worst.usd is not None and row["usd"] > worst.usd
    assert done.usd == pytest.approx(row["usd"])


def test_a_call_that_is_cancelled_in_flight_is_counted() -> None:
    started = asyncio.Event()

    class Slow(Scripted):
        async def complete(self, request: ModelRequest) -> object:  # type: ignore[override]
            started.set()
            await asyncio.sleep(60)
            raise AssertionError("never")

    model = Slow(["x"], price=PRICE)
    item = llm("answerer", inputs=["question"], output="answer", model=model, prompt="Answer.", max_tokens=16)
    system = CompoundSystem([item], outputs=["answer"], metric=lambda example, outputs: 1.0)
    budget = Budget(BudgetSettings())
    engine = RolloutEngine(system, budget)

    async def main() -> None:
        run = asyncio.create_task(engine.run([Task(Example("e", {"question": "q"}), system.configuration)], stage="test", iteration=0))
        await started.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert budget.spent().usd == item.worst_case({"question": "q"}, item.defaults).usd
    assert LOST == "lost" and budget.rows()[0]["lost_calls"] == 1
