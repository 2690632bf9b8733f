"""The real openai and anthropic SDKs against a real HTTP server on this machine, fault by fault."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator

import pytest

from optimas_core.errors import (
    AuthenticationFailed,
    CallRejected,
    CallTimeout,
    EnvironmentNotReady,
    OptimasError,
    RateLimited,
    ServerFault,
)
from optimas_core.models._anthropic import Anthropic
from optimas_core.models._openai import OpenAI
from optimas_core.models._openai_compatible import OpenAICompatible
from optimas_core.models._types import Message, ModelReply, ModelRequest, Price, Sampling
from optimas_core.models.loopback import LoopbackServer
from optimas_core.models.scripted import (
    CutStream,
    Disconnect,
    Fault,
    Junk,
    RateLimit,
    Refusal,
    Rejected,
    ServerError,
    Stall,
    Step,
    Truncated,
)

KEY = "sk-loopback-0123456789abcdef"
Client = OpenAI | Anthropic | OpenAICompatible


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    # A proxy of the machine must not stand between the client and 127.0.0.1.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def openai(url: str, **options: object) -> Client:
    return OpenAI("gpt-4o-mini", base_url=url, api_key_env="LOOPBACK_KEY", backoff_base_s=0.001, **options)  # type: ignore[arg-type]


def anthropic(url: str, **options: object) -> Client:
    return Anthropic("claude-haiku-4-5", base_url=url, api_key_env="LOOPBACK_KEY", backoff_base_s=0.001, **options)  # type: ignore[arg-type]


def compatible(url: str, **options: object) -> Client:
    return OpenAICompatible("org/model", url, api_key_env="LOOPBACK_KEY", backoff_base_s=0.001, **options)  # type: ignore[arg-type]


@pytest.fixture(params=[openai, anthropic, compatible], ids=["openai", "anthropic", "compatible"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    yield request.param


def chat(text: str = "hello", *, deadline_s: float = 20.0) -> ModelRequest:
    return ModelRequest(
        messages=(Message("system", "Be brief."), Message("user", text)),
        sampling=Sampling(max_tokens=16, stop=("END",)),
        deadline_s=deadline_s,
    )


def ask(client: Client, request: ModelRequest | None = None) -> ModelReply:
    return asyncio.run(client.complete(request or chat()))


def test_a_plain_answer(connect: Callable[..., Client]) -> None:
    with LoopbackServer(["Paris"], api_key=KEY) as server:
        reply = ask(connect(server.base_url, price=Price(1e6, 1e6)))
        (logged,) = server.requests
    assert (reply.text, reply.finish_reason, reply.attempts) == ("Paris", "stop", 1)
    assert reply.tokens_in > 0 and reply.tokens_out > 0 and reply.latency_s > 0
    assert reply.usd == pytest.approx(reply.tokens_in + reply.tokens_out)
    assert [message.content for message in logged.request.messages] == ["Be brief.", "hello"]
    assert logged.request.sampling.max_tokens == 16 and logged.request.sampling.stop == ("END",)


@pytest.mark.parametrize(
    "fault",
    [
        RateLimit(),
        RateLimit(0.01),
        ServerError(500),
        ServerError(502),
        ServerError(503, retry_after_s=0.01),
        ServerError(529),
        Rejected(408),
        Rejected(409),
        CutStream("half an answer"),
        Junk("<html>gateway</html>"),
        Junk(""),
        Junk("{"),
        Junk("[]"),
        Junk("{}"),
        Junk('"text"'),
        Junk('{"choices": [], "content": null}'),
        Disconnect(),
    ],
    ids=repr,
)
def test_a_temporary_fault_is_tried_again(connect: Callable[..., Client], fault: Fault) -> None:
    with LoopbackServer([fault, fault, "answer"]) as server:
        reply = ask(connect(server.base_url))
        assert (reply.text, reply.attempts, server.calls) == ("answer", 3, 3)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Rejected(400, "temperature is not supported"), CallRejected),
        (Rejected(401, f"key {KEY} is invalid"), AuthenticationFailed),
        (Rejected(403, f"key {KEY} may not"), AuthenticationFailed),
        (Rejected(404, "no such model"), CallRejected),
        (Rejected(413, "too long"), CallRejected),
        (Rejected(422, f"echo: Bearer {KEY}"), CallRejected),
        (Rejected(429, "You exceeded your current quota", code="insufficient_quota"), CallRejected),
    ],
    ids=repr,
)
def test_a_permanent_fault_is_raised_at_once(connect: Callable[..., Client], fault: Rejected, kind: type[Exception]) -> None:
    with LoopbackServer([fault, "never"]) as server:
        client = connect(server.base_url)
        with pytest.raises(kind) as caught:
            ask(client)
        assert server.calls == 1 and server.billed == 0
        assert server.host in str(caught.value) and str(fault.status) in str(caught.value)


@pytest.mark.parametrize(("fault", "kind"), [(RateLimit(), RateLimited), (ServerError(503), ServerFault), (Junk(), ServerFault)], ids=repr)
def test_a_lasting_fault_ends_after_the_last_attempt(connect: Callable[..., Client], fault: Fault, kind: type[Exception]) -> None:
    with LoopbackServer(lambda request, attempt: fault) as server:
        with pytest.raises(kind):
            ask(connect(server.base_url, max_attempts=3))
        assert server.calls == 3


@pytest.mark.parametrize(
    ("step", "text", "finish"),
    [("", "", "stop"), (Refusal("I cannot."), "I cannot.", "refusal"), (Truncated("So, "), "So, ", "length")],
    ids=repr,
)
def test_unusual_answers_are_answers(connect: Callable[..., Client], step: Step, text: str, finish: str) -> None:
    with LoopbackServer([step]) as server:
        reply = ask(connect(server.base_url))
        assert (reply.text, reply.finish_reason, server.billed) == (text, finish, 1)


def test_a_stall_ends_at_the_deadline(connect: Callable[..., Client]) -> None:
    with LoopbackServer([Stall(30.0)]) as server:
        began_s = time.monotonic()
        with pytest.raises(CallTimeout):
            ask(connect(server.base_url), chat(deadline_s=0.3))
        assert 0.2 < time.monotonic() - began_s < 5.0


def test_a_retry_after_beyond_the_deadline_is_a_timeout_with_its_cause(connect: Callable[..., Client]) -> None:
    with LoopbackServer([RateLimit(60.0), "never"]) as server:
        with pytest.raises(CallTimeout) as caught:
            ask(connect(server.base_url), chat(deadline_s=5.0))
        assert isinstance(caught.value.__cause__, RateLimited) and caught.value.__cause__.retry_after_s == 60.0


def test_a_refusal_pauses_the_other_callers_of_the_endpoint(connect: Callable[..., Client]) -> None:
    times: list[float] = []

    def script(request: ModelRequest, attempt: int) -> Step:
        times.append(time.monotonic())
        return RateLimit(0.4) if len(times) == 1 else "ok"

    with LoopbackServer(script) as server:
        one, two = connect(server.base_url, max_in_flight=1), connect(server.base_url)

        async def scene() -> None:
            await asyncio.gather(one.complete(chat("a")), two.complete(chat("b")))

        asyncio.run(scene())
    assert len(times) == 3
    assert min(times[1:]) - times[0] >= 0.4


def test_one_client_serves_several_event_loops_and_leaves_nothing_open(connect: Callable[..., Client]) -> None:
    with LoopbackServer(lambda request, attempt: "ok") as server:
        client = connect(server.base_url)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            for _ in range(3):
                assert ask(client).text == "ok"
        assert client._remote._sdks._held == {}


def test_many_answers_stand_in_the_order_of_the_requests(connect: Callable[..., Client]) -> None:
    def script(request: ModelRequest, attempt: int) -> Step:
        number = int(request.messages[-1].content)
        if number == 7:
            return Rejected(400, "not this one")
        if number % 3 == 0 and attempt == 0:
            return ServerError(500)
        return Stall(0.001 * (40 - number), str(number))

    with LoopbackServer(script) as server:
        answers = asyncio.run(connect(server.base_url).complete_many([chat(str(number)) for number in range(40)]))
    assert isinstance(answers[7], CallRejected)
    assert [a.text for a in answers if isinstance(a, ModelReply)] == [str(n) for n in range(40) if n != 7]


def test_tokens_are_estimated_where_the_server_counts_none(connect: Callable[..., Client]) -> None:
    with LoopbackServer(["four letters"], reports_usage=False) as server:
        client = connect(server.base_url)
        reply = ask(client)
    assert reply.tokens_out == client.count_tokens("four letters") and reply.tokens_in >= client.count_tokens("hello")


def test_no_secret_in_any_text(connect: Callable[..., Client], caplog: pytest.LogCaptureFixture) -> None:
    """Not in the message, not in a chained exception, not in a traceback, a repr or a log line."""
    caplog.set_level(logging.DEBUG)
    faults: list[Fault] = [Rejected(401, f"bad key {KEY}"), Disconnect(), Junk(f"junk {KEY}"), CutStream(KEY)]
    for fault in faults:
        with LoopbackServer(lambda request, attempt, fault=fault: fault) as server:  # type: ignore[misc]
            client = connect(server.base_url, max_attempts=2)
            with pytest.raises(OptimasError) as caught:
                ask(client)
            shown = "".join(traceback.format_exception(caught.value)) + repr(client) + repr(server.requests)
            assert KEY not in shown
            chain: list[BaseException] = []
            link: BaseException | None = caught.value
            while link is not None:
                chain.append(link)
                link = link.__cause__ or link.__context__
            assert all(type(one).__module__.startswith("optimas_core") for one in chain), chain
    assert KEY not in caplog.text


def test_raw_prompts() -> None:
    prompt = ModelRequest(prompt="Q: capital?\nA:", sampling=Sampling(max_tokens=4))
    with LoopbackServer(lambda request, attempt: "Paris") as server:
        for connect_one in (compatible, openai, anthropic):
            assert ask(connect_one(server.base_url), prompt).text == "Paris"
        paths = [logged.path for logged in server.requests]
        contents = [logged.request.prompt or logged.request.messages[0].content for logged in server.requests]
    assert paths == ["/v1/completions", "/v1/chat/completions", "/v1/messages"]
    assert contents == ["Q: capital?\nA:"] * 3


def test_adapters_are_called_by_name() -> None:
    with LoopbackServer(lambda request, attempt: "ok", models=["base", "v1", "v2"]) as server:
        client = OpenAICompatible("base", server.base_url, adapter="v1")
        ask(client)
        ask(client, ModelRequest(prompt="x", adapter="v2"))
        ask(OpenAICompatible("base", server.base_url))
        assert [logged.model for logged in server.requests] == ["v1", "v2", "base"]
        asyncio.run(client.check())


def test_a_server_without_keys_is_sent_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LoopbackServer(["ok", "ok"], api_key=KEY) as server, pytest.raises(AuthenticationFailed):
        ask(OpenAICompatible("m", server.base_url))


def test_anthropic_api_versions() -> None:
    with LoopbackServer(lambda request, attempt: "ok") as server:
        for version in (None, "2023-06-01"):
            ask(anthropic(server.base_url, api_version=version))
        new, old = server.requests
    assert new.api_version not in (None, "2023-06-01") and "temperature" not in new.body
    assert old.api_version == "2023-06-01" and old.body["temperature"] == 0.0


# check(): what is wrong, and how to mend it


def test_check_costs_nothing_where_models_are_listed(connect: Callable[..., Client]) -> None:
    names = ["gpt-4o-mini", "claude-haiku-4-5", "org/model"]
    with LoopbackServer([], models=names, api_key=KEY) as server:
        asyncio.run(connect(server.base_url).check())
        assert server.calls == 0


def test_check_asks_for_one_token_where_models_are_not_listed() -> None:
    with LoopbackServer(["x"], lists_models=False) as server:
        asyncio.run(compatible(server.base_url).check())
        assert [logged.request.sampling.max_tokens for logged in server.requests] == [1]


def test_check_of_an_unknown_model(connect: Callable[..., Client]) -> None:
    with LoopbackServer([], models=["another"]) as server:
        with pytest.raises(EnvironmentNotReady) as caught:
            asyncio.run(connect(server.base_url).check())
        assert caught.value.remedy and KEY not in str(caught.value)


def test_check_of_an_unknown_adapter_lists_what_there_is() -> None:
    told = pytest.raises(EnvironmentNotReady, match=r"'v2'.*It has: org/model, v1")
    with LoopbackServer([], models=["org/model", "v1"]) as server, told:
        asyncio.run(compatible(server.base_url, adapter="v2").check())


def test_check_of_a_wrong_key_names_the_variable(connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", "sk-wrong-key-000000")
    with LoopbackServer([], api_key=KEY) as server:
        with pytest.raises(EnvironmentNotReady, match="LOOPBACK_KEY") as caught:
            asyncio.run(connect(server.base_url).check())
        assert "sk-wrong" not in str(caught.value)


def test_check_of_an_endpoint_that_does_not_listen(connect: Callable[..., Client]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(EnvironmentNotReady, match=host) as caught:
        asyncio.run(connect(f"http://{host}/v1").check())
    assert "listens" in caught.value.remedy


def test_the_server_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with LoopbackServer(lambda request, attempt: "ok") as server:
        ask(openai(server.base_url))
    until_s = time.monotonic() + 5.0
    while threading.active_count() > before and time.monotonic() < until_s:
        time.sleep(0.01)
    assert threading.active_count() <= before
