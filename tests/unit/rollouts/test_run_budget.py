"""Hard caps: never exceeded with many calls in flight, nor over kills; the ledger's rows sum to the totals."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core.artifacts import RecordLog, RunWorkspace, Workspace
from optimas_core.errors import ArtifactCorrupt, BudgetExhausted, StoreUnavailable
from optimas_core.models import Price, Scripted, llm
from optimas_core.rollouts import Budget, Place, RolloutEngine, Spend, Task
from optimas_core.rollouts import _budget as budget_module
from optimas_core.spec import BudgetSettings
from optimas_core.system import CallUsage, CompoundSystem, Example, WorstCase

PLACE = Place("stage", 1, "answerer")


def usage(tokens: int, usd: float | None, model: str = "m") -> CallUsage:
    return CallUsage(model, tokens // 2, tokens - tokens // 2, usd, 0.1)


def run_of(path: Path) -> RunWorkspace:
    return Workspace.open(path).run("run-1")


calls = st.lists(st.tuples(st.integers(0, 200), st.floats(0, 0.05), st.floats(0, 0.5), st.floats(0, 1)), min_size=1, max_size=120)


@settings(max_examples=40, deadline=None)
@given(calls, st.integers(0, 2**32), st.sampled_from(["usd", "tokens", "system_runs"]))
def test_caps_hold_with_64_calls_in_flight(worst: list[tuple[int, float, float, float]], seed: int, capped: str) -> None:
    caps = {"usd": 0.5, "tokens": 2000, "system_runs": 5.0}
    budget = Budget(BudgetSettings(**{capped: caps[capped]}))
    dice = random.Random(seed)
    spent = Spend()
    refused = 0

    async def one(tokens: int, usd: float, runs: float, share: float) -> None:
        nonlocal spent, refused
        async with gate:
            try:
                reservation = budget.reserve(WorstCase(tokens, usd), runs)
            except BudgetExhausted:
                refused += 1
                return
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            real = Spend(usd * share, int(tokens * share), runs * share)
            budget.settle(reservation, PLACE, [usage(real.tokens, real.usd)], system_runs=real.system_runs)
            spent = spent.plus(real)
            assert getattr(spent, capped) <= caps[capped] + 1e-6

    async def main() -> None:
        await asyncio.gather(*[one(*item) for item in worst])

    gate = asyncio.Semaphore(64)
    asyncio.run(main())
    assert getattr(budget.spent(), capped) == pytest.approx(getattr(spent, capped))
    assert getattr(budget.spent(), capped) <= caps[capped] + 1e-6
    index = {"tokens": 0, "usd": 1, "system_runs": 2}[capped]
    if sum(item[index] for item in worst) <= caps[capped]:
        assert refused == 0


def test_a_reservation_holds_the_cap_until_it_is_settled() -> None:
    budget = Budget(BudgetSettings(tokens=100))
    first = budget.reserve(WorstCase(60, 0.0), 0)
    with pytest.raises(BudgetExhausted, match="tokens = 100"):
        budget.reserve(WorstCase(60, 0.0), 0)
    budget.settle(first, PLACE, [usage(10, 0.0)], system_runs=0)
    budget.reserve(WorstCase(60, 0.0), 0)


def test_an_unknown_price_is_refused_under_a_usd_cap_and_not_reported_without_one() -> None:
    with pytest.raises(BudgetExhausted, match="no price"):
        Budget(BudgetSettings(usd=1)).reserve(WorstCase(10, None), 1)
    budget = Budget(BudgetSettings(tokens=100))
    budget.settle(budget.reserve(WorstCase(10, None), 1), PLACE, [usage(10, None)], system_runs=1)
    assert budget.spent() == Spend(0.0, 10, 1, usd_unknown_calls=1)
    assert budget.rows()[0]["usd"] is None


def test_hours_run_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = [0.0]
    monkeypatch.setattr(budget_module.time, "monotonic", lambda: now[0])
    budget = Budget(BudgetSettings(hours=1), run_of(tmp_path))
    budget.settle(budget.reserve(WorstCase(), 1), PLACE, [], system_runs=1)
    now[0] = 1800.0
    budget.flush()
    resumed = Budget(BudgetSettings(hours=1), run_of(tmp_path))
    assert resumed.hours() == pytest.approx(0.5)
    resumed.reserve(WorstCase(), 1)
    now[0] = 3700.0
    with pytest.raises(BudgetExhausted, match="hours"):
        resumed.reserve(WorstCase(), 1)


def test_what_a_kill_left_unsettled_counts_in_full(tmp_path: Path) -> None:
    caps = BudgetSettings(usd=10, tokens=1000, system_runs=100)
    killed = Budget(caps, run_of(tmp_path))
    killed.settle(killed.reserve(WorstCase(50, 0.5), 1), PLACE, [usage(20, 0.1)], system_runs=1)
    killed.flush()
    killed.settle(killed.reserve(WorstCase(100, 2.0), 4), PLACE, [usage(100, 2.0)], system_runs=4)
    killed.reserve(WorstCase(100, 1.0), 1)  # in flight when the process dies
    del killed
    resumed = Budget(caps, run_of(tmp_path))
    spent = resumed.spent()
    assert spent.tokens >= 20 + 200 and spent.usd >= 0.1 + 3.0 and spent.system_runs >= 1 + 5
    assert spent.tokens <= 20 + 200 + 0.05 * 1000  # and not much more: blocks are small
    assert [(row["calls"], row["tokens_in"] + row["tokens_out"]) for row in resumed.rows()] == [(1, 20)]
    with pytest.raises(BudgetExhausted):
        resumed.reserve(WorstCase(1000 - spent.tokens + 1, 0.0), 0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.sampled_from(["settle", "flush", "kill"])), min_size=1, max_size=25))
def test_no_schedule_of_kills_exceeds_the_cap(tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, str]]) -> None:
    path = tmp_path_factory.mktemp("ledger")
    caps = BudgetSettings(tokens=300)
    budget, paid, open_ = Budget(caps, run_of(path)), 0, []
    for tokens, event in events:
        try:
            open_.append((budget.reserve(WorstCase(tokens, 0.0), 0), tokens))
            paid += tokens  # the vendor charges for it, whatever happens to us
        except BudgetExhausted:
            pass
        if event == "flush":
            budget.flush()
        elif event == "settle" and open_:
            reservation, used = open_.pop()
            budget.settle(reservation, PLACE, [usage(used, 0.0)], system_runs=0)
        elif event == "kill":
            budget, open_ = Budget(caps, run_of(path)), []
        assert paid <= 300 and paid <= budget.spent().tokens + sum(used for _, used in open_)


def test_a_flush_with_calls_in_flight_keeps_them_covered(tmp_path: Path) -> None:
    caps = BudgetSettings(usd=10, tokens=1000)
    budget = Budget(caps, run_of(tmp_path))
    flying = budget.reserve(WorstCase(400, 4.0), 1)
    budget.settle(budget.reserve(WorstCase(100, 1.0), 1), PLACE, [usage(100, 1.0)], system_runs=1)
    budget.flush()
    assert Budget(caps, run_of(tmp_path)).spent().tokens >= 500, "a kill now would still count the call in flight"
    with pytest.raises(BudgetExhausted):
        budget.reserve(WorstCase(501, 0.0), 0)
    budget.settle(flying, PLACE, [usage(300, 3.0)], system_runs=1)
    budget.flush()
    assert Budget(caps, run_of(tmp_path)).spent() == budget.spent() == Spend(4.0, 400, 2)


def test_a_finished_process_leaves_nothing_reserved(tmp_path: Path) -> None:
    caps = BudgetSettings(usd=1, tokens=10_000, system_runs=100)
    for _ in range(3):
        budget = Budget(caps, run_of(tmp_path))
        for usd in (0.1, 0.2, 0.0003):  # sums that floats do not hold exactly
            pair = [budget.reserve(WorstCase(10, usd / 3), 1 / 3) for _ in range(2)]
            for reservation in pair:
                budget.settle(reservation, PLACE, [usage(10, usd / 3)], system_runs=1 / 3)
            budget.flush()
    assert Budget(caps, run_of(tmp_path)).spent().usd == pytest.approx(3 * 2 * 0.3003 / 3)
    assert Budget(caps, run_of(tmp_path)).spent().tokens == 180


def test_a_store_that_does_not_answer_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(BudgetSettings(tokens=1000), run_of(tmp_path))
    budget.settle(budget.reserve(WorstCase(100, 0.0), 1), PLACE, [usage(100, 0.0)], system_runs=1)
    append = RecordLog.append

    def down(self: RecordLog, index: int, body: bytes) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(RecordLog, "append", down)
    with pytest.raises(StoreUnavailable):
        budget.flush()
    monkeypatch.setattr(RecordLog, "append", append)
    budget.flush()
    assert Budget(BudgetSettings(tokens=1000), run_of(tmp_path)).spent() == budget.spent() == Spend(0.0, 100, 1)


def test_rows_sum_to_the_totals_before_and_after_a_reload(tmp_path: Path) -> None:
    budget = Budget(BudgetSettings(tokens=100_000), run_of(tmp_path))
    dice = random.Random(1)
    for index in range(60):
        place = Place(dice.choice(["a", "b"]), index % 3, dice.choice(["x", "y"]))
        model = dice.choice(["m", "n"])
        cost = None if model == "n" else dice.random()
        worst = WorstCase(50, None if model == "n" else 1.0)
        budget.settle(budget.reserve(worst, 0.5), place, [usage(dice.randrange(50), cost, model)], system_runs=0.5)
        if index % 17 == 0:
            budget.flush()
        budget.record_cached(place)
    budget.record_compute(PLACE, 2.5)
    before = budget.rows()
    budget.flush()
    for ledger in (budget, Budget(BudgetSettings(tokens=100_000), run_of(tmp_path))):
        rows, spent = ledger.rows(), ledger.spent()
        rounded = {"seconds": 0, "usd": 0, "usd_known": 0}
        assert [row | rounded for row in rows] == [row | rounded for row in before]
        assert sum(row["tokens_in"] + row["tokens_out"] for row in rows) == spent.tokens
        assert sum(row["system_runs"] for row in rows) == pytest.approx(spent.system_runs) == 30.0
        assert sum(row["usd_known"] for row in rows) == pytest.approx(spent.usd)
        assert sum(row["calls"] for row in rows) == 60 and sum(row["cache_hits"] for row in rows) == 60
        assert sum(row["unpriced_calls"] for row in rows) == spent.usd_unknown_calls
        assert all((row["usd"] is None) == (row["unpriced_calls"] > 0) for row in rows)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"block": 1'])
def test_a_damaged_ledger_is_an_error_not_free_money(tmp_path: Path, data: bytes) -> None:
    run = run_of(tmp_path)
    run.store.put(f"{run.prefix}/ledger/000000.json", data)
    with pytest.raises(ArtifactCorrupt, match="ledger"):
        Budget(BudgetSettings(tokens=10), run)


def test_a_run_of_model_calls_stops_below_its_caps_and_keeps_the_ledger(tmp_path: Path) -> None:
    model = Scripted(lambda request, attempt: "a short answer", price=Price(1000.0, 2000.0), latency_s=0.001)
    item = llm("answerer", inputs=["question"], output="answer", model=model, prompt="Answer.", max_tokens=16, temperature=1.0)
    system = CompoundSystem([item], outputs=["answer"], metric=lambda example, outputs: 1.0)
    budget = Budget(BudgetSettings(usd=2.0), run_of(tmp_path))
    engine = RolloutEngine(system, budget, concurrency=64)
    tasks = [Task(Example(f"e{index}", {"question": f"q{index}"}), system.configuration) for index in range(300)]
    with pytest.raises(BudgetExhausted, match="usd = 2"):
        asyncio.run(engine.run(tasks, stage="test", iteration=0))
    budget.flush()
    assert 1.7 < budget.spent().usd <= 2.0
    assert budget.spent().system_runs == model.calls == sum(row["calls"] for row in budget.rows())
    assert Budget(BudgetSettings(usd=2.0), run_of(tmp_path)).spent().usd == pytest.approx(budget.spent().usd)
