"""The scripted client: the real retry code, no time, the same every time."""

from __future__ import annotations

import asyncio

import pytest

from optimas_core.errors import AuthenticationFailed, CallRejected, CallTimeout, RateLimited, ServerFault
from optimas_core.models._limiter import EndpointLimiter
from optimas_core.models._types import Message, ModelClient, ModelReply, ModelRequest, Price, Sampling
from optimas_core.models.scripted import (
    CutStream,
    Disconnect,
    Fault,
    Junk,
    RateLimit,
    Refusal,
    Rejected,
    Script,
    Scripted,
    ServerError,
    Stall,
    Step,
    Truncated,
    VirtualClock,
)


def ask(text: str, *, deadline_s: float = 120.0) -> ModelRequest:
    return ModelRequest(messages=(Message("user", text),), sampling=Sampling(max_tokens=8), deadline_s=deadline_s)


def scripted(script: Script, **options: object) -> tuple[Scripted, VirtualClock]:
    clock = VirtualClock()
    return Scripted(script, clock=clock, **options), clock  # type: ignore[arg-type]


def last_word(request: ModelRequest, attempt: int) -> Step:
    return request.messages[-1].content.split()[-1]


def test_it_is_a_model_client_in_any_event_loop() -> None:
    model, _ = scripted(last_word)
    assert isinstance(model, ModelClient)
    for word in ("one", "two"):
        assert asyncio.run(model.complete(ask(f"say {word}"))).text == word
    assert (model.calls, model.billed) == (2, 2)


@pytest.mark.parametrize("fault", [RateLimit(), RateLimit(3.0), ServerError(500), ServerError(529), Disconnect()])
def test_unbilled_faults_are_tried_again(fault: Fault) -> None:
    model, _ = scripted([fault, fault, "answer"])
    reply = asyncio.run(model.complete(ask("hello")))
    assert (reply.text, reply.attempts, model.calls, model.billed) == ("answer", 3, 3, 1)


@pytest.mark.parametrize("fault", [CutStream(), Junk(), Stall(100.0)])
def test_lost_answers_were_billed_all_the_same(fault: Fault) -> None:
    model, _ = scripted([fault, "answer"])
    reply = asyncio.run(model.complete(ask("hello", deadline_s=150.0)))
    assert model.billed == model.calls == reply.attempts


def test_a_stall_beyond_the_deadline_is_a_timeout() -> None:
    model, clock = scripted([Stall(1000.0, "late")])
    with pytest.raises(CallTimeout):
        asyncio.run(model.complete(ask("hello", deadline_s=30.0)))
    assert clock.now() == 30.0


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AuthenticationFailed), (403, AuthenticationFailed), (404, CallRejected), (422, CallRejected)],
)
def test_permanent_faults_are_not_tried_again(status: int, kind: type[Exception]) -> None:
    model, clock = scripted([Rejected(status), "never"])
    with pytest.raises(kind):
        asyncio.run(model.complete(ask("hello")))
    assert (model.calls, clock.now()) == (1, 0.0)


@pytest.mark.parametrize(
    ("step", "finish"),
    [(Refusal("no"), "refusal"), (Truncated("no"), "length"), ("no", "stop"), (Stall(1.0, "no"), "stop")],
)
def test_finish_reasons(step: Step, finish: str) -> None:
    model, _ = scripted([step])
    reply = asyncio.run(model.complete(ask("hello")))
    assert (reply.text, reply.finish_reason) == ("no", finish)


def test_attempts_run_out() -> None:
    model, _ = scripted(lambda request, attempt: ServerError(503), max_attempts=3)
    with pytest.raises(ServerFault):
        asyncio.run(model.complete(ask("hello")))
    assert model.calls == 3


def test_many_answers_stand_in_the_order_of_the_requests_failures_included() -> None:
    """Reference defect 1, at the level of one client: whatever finishes first."""

    def script(request: ModelRequest, attempt: int) -> Step:
        number = int(request.messages[0].content)
        if number % 5 == 3:
            return Rejected(400)
        return Stall(float(40 - number), str(number))

    model, _ = scripted(script)
    answers = asyncio.run(model.complete_many([ask(str(number)) for number in range(40)]))
    for number, answer in enumerate(answers):
        if number % 5 == 3:
            assert isinstance(answer, CallRejected)
        else:
            assert isinstance(answer, ModelReply) and answer.text == str(number)


def test_one_refusal_makes_all_callers_of_the_endpoint_wait() -> None:
    clock = VirtualClock()
    limiter = EndpointLimiter(clock=clock, max_in_flight=2)
    began: list[tuple[str, float]] = []

    def script(request: ModelRequest, attempt: int) -> Step:
        word = request.messages[0].content
        began.append((word, clock.now()))
        return RateLimit(10.0) if word == "unlucky" and attempt == 0 else "ok"

    one, two = (Scripted(script, clock=clock, limiter=limiter, latency_s=1.0) for _ in range(2))

    async def scene() -> None:
        await asyncio.gather(one.complete(ask("unlucky")), *(two.complete(ask("other")) for _ in range(3)))

    asyncio.run(scene())
    assert sorted(start for word, start in began if word == "other")[1] >= 10.0


def test_waiting_in_our_own_queue_is_not_the_call() -> None:
    model, clock = scripted(last_word, limiter=None, max_in_flight=1, latency_s=10.0)
    answers = asyncio.run(model.complete_many([ask(f"say {i}", deadline_s=15.0) for i in range(20)]))
    assert all(isinstance(answer, ModelReply) for answer in answers)
    assert clock.now() == 200.0


def test_waiting_for_the_rate_limit_is_not_the_call() -> None:
    clock = VirtualClock()
    model = Scripted(last_word, clock=clock, limiter=EndpointLimiter(requests_per_minute=1, clock=clock))
    answers = asyncio.run(model.complete_many([ask(f"say {i}", deadline_s=15.0) for i in range(3)]))
    assert [answer.text for answer in answers if isinstance(answer, ModelReply)] == ["0", "1", "2"]
    assert clock.now() == 120.0


def test_cost_is_counted_from_the_tokens_and_an_unknown_price_stays_unknown() -> None:
    model, _ = scripted(["four"], price=Price(1e6, 1e6))
    reply = asyncio.run(model.complete(ask("abcdef")))
    assert reply.usd == reply.tokens_in + reply.tokens_out and reply.tokens_out == 2
    unknown, _ = scripted(["four"], price=None)
    assert asyncio.run(unknown.complete(ask("abcdef"))).usd is None


def test_a_given_reply_is_played_word_for_word() -> None:
    told = ModelReply("x", "m", 11, 7, "other", 0.5, 0.25)
    model, _ = scripted([ServerError(), told])
    reply = asyncio.run(model.complete(ask("hello")))
    assert (reply.tokens_in, reply.usd, reply.finish_reason, reply.attempts) == (11, 0.25, "other", 2)


def test_the_end_of_a_script_is_said_and_not_retried() -> None:
    model, _ = scripted(["only one"])
    asyncio.run(model.complete(ask("a")))
    with pytest.raises(CallRejected, match="1 steps, and this is call 2"):
        asyncio.run(model.complete(ask("b")))


def test_the_same_script_waits_the_same_every_time() -> None:
    def run() -> float:
        model, clock = scripted(lambda request, attempt: ServerError() if attempt < 4 else "ok")
        asyncio.run(model.complete_many([ask(str(number)) for number in range(5)]))
        return clock.now()

    assert run() == run() > 0.0


def test_a_wrong_script_is_refused() -> None:
    with pytest.raises(TypeError, match="one step"):
        Scripted("text")
    model, _ = scripted([42])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="int"):
        asyncio.run(model.complete(ask("a")))


def test_rate_limits_that_never_end_are_reported_as_such() -> None:
    model, _ = scripted(lambda request, attempt: RateLimit(), max_attempts=4)
    with pytest.raises(RateLimited):
        asyncio.run(model.complete(ask("hello")))
