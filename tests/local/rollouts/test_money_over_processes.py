"""Several real processes of one run, a real endpoint that faults, and a kill: the endpoint never bills more than the cap."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from optimas_core.artifacts import Workspace
from optimas_core.models import ModelRequest, Price
from optimas_core.models._tokens import estimate_request_tokens, estimate_tokens
from optimas_core.models.loopback import LoopbackServer
from optimas_core.models.scripted import CutStream, Junk, RateLimit, ServerError, Step
from optimas_core.rollouts import Budget
from optimas_core.spec import BudgetSettings

PRICE = Price(1000.0, 2000.0)

CHILD = """
import asyncio, sys
from optimas_core.artifacts import Workspace
from optimas_core.errors import BudgetExhausted
from optimas_core.models import OpenAICompatible, Price, llm
from optimas_core.rollouts import Budget, RolloutEngine, Task
from optimas_core.spec import BudgetSettings
from optimas_core.system import CompoundSystem, Example

place, base_url, who, cap = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
model = OpenAICompatible("m", base_url, price=Price(1000.0, 2000.0), backoff_base_s=0.01, max_in_flight=64)
item = llm("answerer", inputs=["question"], output="answer", model=model, prompt="Answer.", max_tokens=16, temperature=1.0)
system = CompoundSystem([item], outputs=["answer"], metric=lambda example, outputs: 1.0)
budget = Budget(BudgetSettings(usd=cap), Workspace.open(place).run("run-1"))
tasks = [Task(Example(f"{who}-{index}", {"question": f"{who} {index}"}), system.configuration) for index in range(150)]
try:
    asyncio.run(RolloutEngine(system, budget, concurrency=64).run(tasks, stage=f"shard-{who}", iteration=0))
    code = 0
except BudgetExhausted:
    code = 3
budget.flush()
sys.exit(code)
"""


class Vendor:
    """What an endpoint bills: the input and the output of every answer its model wrote, whether it arrived or not."""

    def __init__(self, seed: int, *, faults: bool) -> None:
        self._dice = random.Random(seed)
        self._faults = faults
        self._lock = threading.Lock()
        self.usd = 0.0
        self.answers = 0

    def play(self, request: ModelRequest, attempt: int) -> Step:
        with self._lock:
            text = "word " * self._dice.randrange(1, 9)
            step: Step = text.strip()
            if self._faults:
                step = self._dice.choice([step, step, step, CutStream(text), Junk(text), RateLimit(0.0), ServerError(529)])
            if not isinstance(step, RateLimit | ServerError):
                self.usd += PRICE.usd(estimate_request_tokens(request), estimate_tokens(text.strip()))
                self.answers += 1
        return step


def start(place: str, url: str, cap: float, count: int) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", CHILD, place, url, str(who), str(cap)]) for who in range(count)]


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "directory" else str(request.getfixturevalue("s3_url"))


def test_the_cap_holds_over_processes_lost_answers_and_a_kill(place: str) -> None:
    cap = 4.0
    vendor = Vendor(7, faults=True)
    with LoopbackServer(vendor.play) as server:
        children = start(place, server.base_url, cap, 3)
        wait_until(lambda: vendor.usd > cap / 6)
        children[0].send_signal(signal.SIGKILL)
        codes = [child.wait(timeout=120) for child in children]
    budget = Budget(BudgetSettings(), Workspace.open(place).run("run-1"))
    assert codes[0] == -signal.SIGKILL and set(codes[1:]) <= {0, 3} and 3 in codes[1:], codes
    assert cap / 6 < vendor.usd <= budget.spent().usd <= cap + 1e-6
    assert any(row["lost_calls"] for row in budget.rows())


def test_the_ledger_is_what_the_endpoint_billed(place: str) -> None:
    vendor = Vendor(7, faults=False)
    with LoopbackServer(vendor.play) as server:
        children = start(place, server.base_url, 1000.0, 2)
        assert [child.wait(timeout=120) for child in children] == [0, 0]
    budget = Budget(BudgetSettings(), Workspace.open(place).run("run-1"))
    rows = budget.rows()
    assert [row["stage"] for row in rows] == ["shard-0", "shard-1"]
    assert sum(row["calls"] for row in rows) == vendor.answers == 300
    assert round(sum(row["usd"] for row in rows), 6) == round(vendor.usd, 6) == round(budget.spent().usd, 6)


def wait_until(holds: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends_s, "the children did not get that far"
        time.sleep(0.02)
