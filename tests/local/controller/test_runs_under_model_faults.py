"""What a run comes to when its model fails on a share of the items: over real HTTP, with both SDKs, from proposals to the verdict."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace
from optimas_core.errors import EnvironmentNotReady
from optimas_core.models import ModelRequest, Price
from optimas_core.models._faults import is_billed
from optimas_core.models._tokens import estimate_request_tokens, estimate_tokens
from optimas_core.models.embedded import embedded_path
from optimas_core.models.loopback import LoopbackServer
from optimas_core.models.scripted import Rejected, ServerError, Step
from optimas_core.rollouts import Budget
from optimas_core.spec import BudgetSettings
from optimas_core.stages import (
    StageContext,
    TestRequest,
    ValidateRequest,
    load_project,
    open_run,
    read_decision,
    sealed_test,
    validate_accept,
    validation_order,
)

PRICE = Price(1000.0, 3000.0)
# Appended to the scripted system: the same components ask a real endpoint.
REMOTE = """
from optimas_core.models import Anthropic, OpenAI, Price

kind, name = {"openai": (OpenAI, "gpt-4o-mini"), "anthropic": (Anthropic, "claude-haiku-4-5")}[os.environ["ENDPOINT_PROTOCOL"]]
client = kind(
    name, base_url=os.environ["ENDPOINT_URL"], api_key_env="LOOPBACK_KEY", price=Price(1000.0, 3000.0), backoff_base_s=0.001, max_attempts=2
)
"""


class Endpoint:
    """Answers as the scripted system's model does; meets the items in `down` with `fault`, and writes its own bill."""

    def __init__(self, fault: Step) -> None:
        self.down: frozenset[int] = frozenset()
        self.fault = fault
        self.usd = 0.0
        self.answers = 0
        self._lock = threading.Lock()

    def play(self, request: ModelRequest, attempt: int) -> Step:
        text = request.messages[-1].content
        asked = re.findall(r"colour of item (\d+)", text)[-1] if not text.startswith("You improve") else "0"
        known = re.findall(rf"Item {asked} is (\w+)\.", text)
        terse = "nothing else" in request.messages[0].content or asked == "0"
        answer = known[-1] if known else "unknown"
        reply = (
            "<instruction>\nName the colour, nothing else.\n</instruction>"
            if asked == "0"
            else answer
            if terse
            else f"I think it is {answer}"
        )
        step = self.fault if int(asked) in self.down else reply
        with self._lock:
            if is_billed(step):
                self.answers += 1
                self.usd += PRICE.usd(estimate_request_tokens(request), estimate_tokens(reply))
        return step


@pytest.fixture(params=["anthropic", "openai"])
def endpoint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    vendor = Endpoint(Rejected(404, "the model does not exist any more"))
    monkeypatch.setenv("LOOPBACK_KEY", "sk-loopback-0123456789abcdef")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ENDPOINT_PROTOCOL", request.param)
    with LoopbackServer(vendor.play) as server:
        monkeypatch.setenv("ENDPOINT_URL", server.base_url)
        yield vendor


@pytest.fixture
def project(scripted_project: Callable[..., Path], endpoint: Endpoint) -> Callable[..., Path]:
    def write(**sections: Any) -> Path:
        path = scripted_project(**{"name": "remote", "budget": {"usd": 400.0}, **sections})
        with (path.parent / "system.py").open("a", encoding="utf-8") as file:
            file.write(REMOTE)
        return path

    return write


def items(examples: Any) -> list[int]:
    return [int(example.id.removeprefix("e")) for example in examples]


def ledger_of(path: Path) -> Budget:
    return Budget(BudgetSettings(), Workspace.open(path.parent / "workspace").run("remote"))


def two_arms(context: StageContext) -> tuple[str, str]:
    """The start, and the same with the instruction that the endpoint rewards."""
    start = context.system.configuration
    better = start.replace("answerer", {"prompt": {**start.of("answerer")["prompt"], "instruction": "Name it, nothing else."}})
    return context.run.put_configuration(start.to_json()), context.run.put_configuration(better.to_json())


@pytest.mark.parametrize(
    ("share", "kind"), [(0.0, "accept"), (0.1, "accept"), (0.3, "indecisive"), (0.7, "indecisive"), (1.0, "indecisive")]
)
@pytest.mark.parametrize("fault", [Rejected(404, "withdrawn"), ServerError(503)], ids=["404", "503"])
def test_the_verdict_is_indecisive_when_too_much_is_missing(
    endpoint: Endpoint, project: Callable[..., Path], share: float, kind: str, fault: Step
) -> None:
    """A lookup of two facts makes the challenger clearly better; only what is missing stands in its way."""
    context = open_run(load_project(project(acceptance={"kind": "paired_sequential", "first_look": 10, "max_missing": 0.2})))
    order = items(validation_order(context))
    endpoint.fault, endpoint.down = fault, frozenset(item for place, item in enumerate(order) if place % 10 < 10 * share)
    name = asyncio.run(validate_accept(context, ValidateRequest(1, *two_arms(context), 0.05, 0)))
    decision = read_decision(context, name)
    assert decision["kind"] == kind and (decision["n_missing"] > 0) == (share > 0)
    if kind == "indecisive":
        assert "missing" in decision["reason"]
    if share == 1.0:
        assert decision["alpha_spent"] == 0.0 and decision["incumbent_mean"] is None, "nothing was judged, no level is used up"
    assert f"{context.budget.spent().usd:.2f}" == f"{endpoint.usd:.2f}"


@pytest.mark.parametrize("endpoint", ["openai"], indirect=True)
def test_a_run_whose_model_is_withdrawn_says_so_and_goes_on_when_it_is_back(
    endpoint: Endpoint, project: Callable[..., Path], optimas: Callable[..., Any]
) -> None:
    """404 for every validation and test item: two indecisive iterations, no acceptance, no test; then the model returns."""
    need_backbone()
    path = project(schedule={"iterations": 2, "selection": {"kind": "round_robin"}})
    split = load_project(path).split
    endpoint.down = frozenset(items([*split.validation, *split.test]))
    gone = optimas("run", path, "--skip-checks")
    assert gone.code == 1 and "no item of the sealed test could be measured" in gone.err and "404" in gone.err, gone.err
    run = Workspace.open(path.parent / "workspace").run("remote")
    results = [state.data["record"]["result"] for state in run.states() if "result" in state.data["record"]]
    assert [item["verdict"] for item in results] == ["indecisive", "indecisive"] and [item["alpha_spent"] for item in results] == [0.0, 0.0]
    assert run.latest_state().data["phase"] == "testing"  # type: ignore[union-attr]
    assert f"{ledger_of(path).spent().usd:.2f}" == f"{endpoint.usd:.2f}"

    paid = endpoint.answers
    endpoint.down = frozenset()
    back = optimas("resume", path, "--json")
    assert back.code == 0, back.err
    verdict = json.loads(back.out)["verdict"]
    assert verdict["kind"] == "no_change" and endpoint.answers > paid
    assert f"{ledger_of(path).spent().usd:.2f}" == f"{endpoint.usd:.2f}", "right to the cent over the outage and the resumption"


@pytest.mark.parametrize("endpoint", ["anthropic"], indirect=True)
def test_the_run_s_verdict_is_indecisive_when_half_of_the_sealed_test_is_missing(
    endpoint: Endpoint, project: Callable[..., Path], optimas: Callable[..., Any]
) -> None:
    need_backbone()
    path = project(schedule={"iterations": 2, "selection": {"kind": "round_robin"}})
    endpoint.down = frozenset(items(load_project(path).split.test)[::2])
    said = optimas("run", path, "--skip-checks", "--json")
    assert said.code == 0, said.err
    verdict = json.loads(said.out)["verdict"]
    assert verdict["kind"] == "indecisive" and verdict["line"].startswith("Indecisive: 8 of 16 items of the sealed test are missing")
    report = json.loads(optimas("report", path.parent / "workspace", "remote", "--json").out)
    assert any(row["verdict"] == "accept" for row in report["iterations"])
    assert any("too much for a verdict" in note for note in report["notes"]) and any("404" in note for note in report["notes"])

    # The remedy that the note names: another name, and only what was missing is asked for.
    paid, endpoint.down = endpoint.answers, frozenset()
    again = optimas("run", path, "--skip-checks", "--json", "--name", "again")
    assert again.code == 0 and json.loads(again.out)["verdict"]["kind"] == "improved"
    assert endpoint.answers - paid <= 2 * 8, "everything else was in the call cache"


def test_a_run_without_any_candidate_says_what_the_model_answered(
    endpoint: Endpoint, project: Callable[..., Path], optimas: Callable[..., Any]
) -> None:
    path = project()
    endpoint.down = frozenset(items(load_project(path).split.train))
    gone = optimas("run", path, "--skip-checks")
    assert gone.code == 1 and "no candidate output" in gone.err and "404" in gone.err, gone.err


def test_a_sealed_test_without_any_result_is_not_committed(endpoint: Endpoint, project: Callable[..., Path]) -> None:
    context = open_run(load_project(project()))
    endpoint.down = frozenset(items(context.split.test))
    request = TestRequest(*two_arms(context))
    with pytest.raises(Exception, match="no item of the sealed test could be measured"):
        asyncio.run(sealed_test(context, request))
    endpoint.down = frozenset()
    summary = read_decision(context, asyncio.run(sealed_test(context, request)))
    assert summary["difference"]["n"] == 16


def need_backbone() -> None:
    try:
        embedded_path("all-minilm-l6-v2")
    except EnvironmentNotReady as error:
        pytest.skip(str(error))
