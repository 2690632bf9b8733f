"""Every row of docs/11-model-faults.md: a fault played over real HTTP to the openai and the anthropic SDK, through engine and budget.

Question 1 of four meets the fault. Each test says what becomes of it (and that the other three are not touched), how often it was
asked, and that the ledger is what the endpoint billed: equal where every answer arrived, never less where one was lost.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from optimas_core.errors import AuthenticationFailed
from optimas_core.models.scripted import (
    CutStream,
    Disconnect,
    Junk,
    RateLimit,
    Refusal,
    Rejected,
    ServerError,
    Stall,
    Step,
    Truncated,
)

Ask = Callable[..., Any]
CAP_USD = 50.0
ATTEMPTS = 3
OTHERS = {0: 1, 2: 1, 3: 1}


def billed_to_the_cent(found: Any) -> None:
    """Nothing was lost: ledger and bill agree, in tokens exactly and in USD to the cent and beyond."""
    assert found.lost == 0 and found.tokens == found.vendor.tokens
    assert f"{found.usd:.2f}" == f"{found.vendor.usd:.2f}" and found.usd == pytest.approx(found.vendor.usd, abs=1e-9)
    assert 0 < found.usd <= CAP_USD


def billed_at_most(found: Any, lost: int) -> None:
    """Answers were lost on the way: each counts at the most it may have cost, so the ledger is not below the bill."""
    assert found.lost == lost
    assert 0 < found.vendor.usd <= found.usd <= CAP_USD and found.vendor.tokens <= found.tokens


def retried_and_answered(found: Any) -> None:
    assert found.statuses == "oooo" and [item.reward for item in found.rollouts] == [1.0] * 4
    assert found.tries == OTHERS | {1: 2}


def given_up(found: Any, tries: int = ATTEMPTS) -> None:
    """Missing: no number stands for it, and the reason is kept."""
    assert found.statuses == "omoo" and found.rollouts[1].reward is None and found.rollouts[1].error
    assert found.tries == OTHERS | {1: tries}


# Tried again


def test_429_with_retry_after(ask: Ask) -> None:
    retried_and_answered(found := ask(RateLimit(0.02), times=1))
    billed_to_the_cent(found)


def test_429_without_retry_after(ask: Ask) -> None:
    retried_and_answered(found := ask(RateLimit(), times=1))
    billed_to_the_cent(found)


def test_429_with_a_retry_after_beyond_the_deadline(ask: Ask) -> None:
    """The pause holds for the whole endpoint, but it is not part of the other calls' deadlines."""
    given_up(found := ask(RateLimit(0.6), deadline_s=0.5, times=1, concurrency=1), tries=1)
    assert "429" in found.rollouts[1].error and found.rollouts[1].error.startswith("CallTimeout")
    billed_to_the_cent(found)


@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_5xx(ask: Ask, status: int) -> None:
    retried_and_answered(found := ask(ServerError(status), times=1))
    billed_to_the_cent(found)


def test_504(ask: Ask) -> None:
    """A gateway that waited in vain: the model behind it may have worked."""
    retried_and_answered(found := ask(ServerError(504), times=1))
    billed_at_most(found, lost=1)


@pytest.mark.parametrize("fault", [RateLimit(), RateLimit(0.01), ServerError(500), ServerError(529)], ids=repr)
def test_a_lasting_429_or_5xx(ask: Ask, fault: Step) -> None:
    given_up(found := ask(fault))
    billed_to_the_cent(found)


def test_connection_reset(ask: Ask) -> None:
    retried_and_answered(found := ask(Disconnect(), times=1))
    billed_at_most(found, lost=1)


def test_a_lasting_reset(ask: Ask) -> None:
    given_up(found := ask(Disconnect()))
    billed_at_most(found, lost=ATTEMPTS)


def test_cut_stream(ask: Ask) -> None:
    retried_and_answered(found := ask(CutStream("green1 and then"), times=1))
    billed_at_most(found, lost=1)


def test_a_body_that_is_not_the_protocol_s(ask: Ask) -> None:
    retried_and_answered(found := ask(Junk("<html>gateway</html>"), times=1))
    billed_at_most(found, lost=1)


def test_stall(ask: Ask) -> None:
    """The deadline bounds the call, retries included: a stall uses it up, so there is no second try."""
    given_up(found := ask(Stall(30.0, "green1"), deadline_s=0.7), tries=1)
    assert found.rollouts[1].error.startswith("CallTimeout")
    billed_at_most(found, lost=1)


# Permanent


@pytest.mark.parametrize("status", [401, 403])
def test_401_and_403(ask: Ask, status: int) -> None:
    """Every further call would fail as well: the run stops. What was answered before is paid for and kept."""
    found = ask(Rejected(status, "no access"), concurrency=1)
    assert isinstance(found.stopped, AuthenticationFailed) and str(status) in str(found.stopped) and found.stopped.exit_code == 1
    assert found.tries == {0: 1, 1: 1}, "not tried again, and nobody is asked after it"
    billed_to_the_cent(found)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_rejected_request(ask: Ask, status: int) -> None:
    given_up(found := ask(Rejected(status, "this input is refused")), tries=1)
    assert found.rollouts[1].error.startswith("CallRejected") and str(status) in found.rollouts[1].error
    billed_to_the_cent(found)


def test_an_empty_account(ask: Ask) -> None:
    given_up(found := ask(Rejected(429, "You exceeded your current quota", code="insufficient_quota")), tries=1)
    billed_to_the_cent(found)


def test_model_withdrawn_in_mid_run(ask: Ask) -> None:
    """404 from the third call on: what was answered stays, everything after it is missing, none of it is tried again."""
    calls = itertools.count()
    found = ask(lambda number, attempt: Rejected(404, "model not found") if next(calls) >= 2 else None, questions=6, concurrency=1)
    assert found.statuses == "oommmm" and found.tries == dict.fromkeys(range(6), 1)
    assert [item.reward for item in found.rollouts] == [1.0, 1.0, None, None, None, None]
    billed_to_the_cent(found)


# Answers: scored, paid for, never asked again


def scored(found: Any, reward: float, *, status: str = "o") -> None:
    assert found.statuses == f"o{status}oo" and [item.reward for item in found.rollouts] == [1.0, reward, 1.0, 1.0]
    assert found.tries == OTHERS | {1: 1}
    billed_to_the_cent(found)


def test_an_empty_answer(ask: Ask) -> None:
    scored(ask(""), 0.0)


def test_an_answer_truncated_at_max_tokens(ask: Ask) -> None:
    scored(ask(Truncated("well, as far as I can see from it the answer")), 0.0)


def test_an_answer_truncated_behind_the_point(ask: Ask) -> None:
    """Whether a truncated answer is worth something is the metric's to say."""
    scored(ask(Truncated("green1")), 1.0)


def test_a_refusal(ask: Ask) -> None:
    scored(ask(Refusal("I cannot help with that.")), 0.0)


def test_an_answer_in_the_wrong_language(ask: Ask) -> None:
    """A valid answer, so no fault: the metric decides."""
    scored(ask("vert numéro un, 绿色一号"), 0.0)


def as_json(step: Step) -> Callable[[int, int], Step]:
    """Every question is answered with the JSON object asked for, question 1 with `step`."""
    return lambda number, attempt: step if number == 1 else json.dumps({"answer": f"green{number}", "why": "seen"})


@pytest.mark.parametrize(
    "step",
    [
        "The answer is green1.",
        '{"answer": "green1"}',
        '["green1", "seen"]',
        '{"answer": NaN, "why": "x"}',
        '{"answer": 1e999, "why": "x"}',
        "",
        Refusal("I cannot help with that."),
        Truncated('{"answer": "green1", "why": "it is a lo'),
        "[" * 20,
    ],
    ids=repr,
)
def test_an_answer_of_another_form(ask: Ask, step: Step) -> None:
    scored(ask(as_json(step), output=["answer", "why"]), -1.0, status="f")


def test_an_answer_that_cannot_be_parsed(ask: Ask) -> None:
    found = ask("none at all", parse=lambda text: f"green{int(text.removeprefix('green'))}")
    scored(found, -1.0, status="f")
