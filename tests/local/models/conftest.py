"""A real endpoint that faults by script and writes its own bill, and a small system that asks it through a real SDK."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import RunWorkspace, Workspace
from optimas_core.models import Anthropic, ModelRequest, OpenAI, Price, llm
from optimas_core.models._faults import is_billed
from optimas_core.models._tokens import estimate_request_tokens, estimate_tokens
from optimas_core.models.loopback import LoopbackServer
from optimas_core.models.scripted import Step
from optimas_core.rollouts import Budget, Rollout, RolloutEngine, Task
from optimas_core.spec import BudgetSettings
from optimas_core.system import CompoundSystem, Example

PRICE = Price(1000.0, 3000.0)
CAP_USD = 50.0
MAX_TOKENS = 24
ATTEMPTS = 3
DEADLINE_S = 20.0
CLIENTS: Mapping[str, Callable[..., OpenAI | Anthropic]] = {
    "openai": lambda url: OpenAI(
        "gpt-4o-mini", base_url=url, api_key_env="LOOPBACK_KEY", price=PRICE, backoff_base_s=0.001, max_attempts=ATTEMPTS
    ),
    "anthropic": lambda url: Anthropic(
        "claude-haiku-4-5", base_url=url, api_key_env="LOOPBACK_KEY", price=PRICE, backoff_base_s=0.001, max_attempts=ATTEMPTS
    ),
}


@dataclass
class Vendor:
    """Answers question n with "green<n>", but faults where `faults(n, attempt)` says so; writes down what it bills.

    An answer is billed with its input and output, whether it arrives or not; what is no answer (429, 5xx, 4xx) is not.
    """

    faults: Callable[[int, int], Step | None]
    usd: float = 0.0
    tokens: int = 0
    asked: list[int] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def play(self, request: ModelRequest, attempt: int) -> Step:
        number = int(re.findall(r"item (\d+)", request.messages[-1].content)[-1])
        found = self.faults(number, attempt)
        step = f"green{number}" if found is None else found
        with self._lock:
            self.asked.append(number)
            if is_billed(step):
                text = step if isinstance(step, str) else str(getattr(step, "text", ""))
                tokens_in, tokens_out = estimate_request_tokens(request), min(MAX_TOKENS, estimate_tokens(text))
                self.usd += PRICE.usd(tokens_in, tokens_out)
                self.tokens += tokens_in + tokens_out
        return step


@dataclass(frozen=True)
class Outcome:
    """What came of the questions 0, 1, …: results in that order (or what stopped them), the ledger and the vendor's bill."""

    rollouts: Sequence[Rollout]
    stopped: Exception | None
    vendor: Vendor
    ledger: Sequence[Mapping[str, Any]]
    usd: float
    tokens: int

    @property
    def statuses(self) -> str:
        """One letter a question: (o)k, (m)issing, (f)ormat error."""
        return "".join(item.status[0] for item in self.rollouts)

    @property
    def tries(self) -> dict[int, int]:
        return {number: self.vendor.asked.count(number) for number in sorted(set(self.vendor.asked))}

    @property
    def lost(self) -> int:
        return sum(row["lost_calls"] for row in self.ledger)


Ask = Callable[..., Outcome]


@pytest.fixture(params=sorted(CLIENTS))
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LOOPBACK_KEY", "sk-loopback-0123456789abcdef")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # no proxy of the machine between the client and the endpoint
    return str(request.param)


@pytest.fixture
def client_at(protocol: str) -> Callable[[str], OpenAI | Anthropic]:
    """A client of the protocol for an address."""
    return CLIENTS[protocol]


@pytest.fixture
def ask(client_at: Callable[[str], OpenAI | Anthropic], tmp_path: Path) -> Ask:
    """Runs a system of one language-model component on `questions` examples through the rollout engine, with a cap and a ledger.

    `faults(n, attempt)` is what the endpoint does to question n instead of answering; a step alone is played to question 1 at
    its first `times` tries. The ledger is read again from its files, as another process would.
    """

    def run(
        faults: Step | Callable[[int, int], Step | None],
        *,
        times: int = 10**6,
        questions: int = 4,
        deadline_s: float = DEADLINE_S,
        concurrency: int = 4,
        **options: Any,
    ) -> Outcome:
        chosen = faults if callable(faults) else lambda number, attempt: faults if number == 1 and attempt < times else None
        vendor = Vendor(chosen)
        workspace = Workspace.open(str(tmp_path / "workspace"))
        with LoopbackServer(vendor.play) as server:
            client = client_at(server.base_url)
            item = llm(
                "answerer",
                inputs=["question"],
                model=client,
                prompt="Answer.",
                max_tokens=MAX_TOKENS,
                deadline_s=deadline_s,
                **{"output": "answer", **options},
            )
            system = CompoundSystem([item], outputs=["answer"], metric=exact, metric_range=(-1.0, 1.0))
            budget = Budget(BudgetSettings(usd=CAP_USD), workspace.run("run-1"))
            tasks = [
                Task(Example(f"q{n}", {"question": f"item {n}", "answer": f"green{n}"}), system.configuration) for n in range(questions)
            ]
            rollouts: list[Rollout] = []
            stopped: Exception | None = None
            try:
                rollouts = asyncio.run(RolloutEngine(system, budget, concurrency=concurrency).run(tasks, stage="test", iteration=0))
            except Exception as error:
                stopped = error
            budget.flush()
        again = reopened(workspace.run("run-1"))
        assert again.rows() == budget.rows()
        return Outcome(rollouts, stopped, vendor, again.rows(), again.spent().usd, again.spent().tokens)

    return run


def reopened(run: RunWorkspace) -> Budget:
    return Budget(BudgetSettings(), run)


def exact(example: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    """1 for the answer, 0 for another; a format error scores the range's lowest value, which is neither."""
    return float(outputs["answer"] == example["answer"])
