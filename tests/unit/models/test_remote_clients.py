"""The remote clients before any connection: ids, prices, keys, what is put into the protocols."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optimas_core.errors import CallRejected, EnvironmentNotReady
from optimas_core.models._anthropic import Anthropic
from optimas_core.models._anthropic_wire import AnthropicWire
from optimas_core.models._endpoint import Endpoint
from optimas_core.models._limiter import EndpointLimiter
from optimas_core.models._loops import PerLoop
from optimas_core.models._openai import OpenAI
from optimas_core.models._openai_compatible import OpenAICompatible
from optimas_core.models._openai_wire import OpenAIWire
from optimas_core.models._tokens import estimate_tokens
from optimas_core.models._types import Message, ModelClient, ModelRequest, Price, Sampling

SECRET = "sk-verysecret-0123456789"


class Recorder:
    """Stands for an SDK client: keeps the arguments of each call and gives one fixed answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls: list[tuple[str, dict[str, Any]]] = []

        def method(name: str) -> Any:
            async def call(**options: Any) -> Any:
                self.calls.append((name, options))
                return answer

            return SimpleNamespace(create=call)

        self.messages = method("messages")

    async def post(self, path: str, *, cast_to: type, body: Any, options: Any) -> Any:
        assert cast_to is bytes
        self.calls.append((path, body | {"timeout": options["timeout"]}))
        return json.dumps(self.answer).encode()


CHAT = {"choices": [{"message": {"content": "yes. no", "refusal": None}, "text": "yes. no", "finish_reason": "stop"}]}
MESSAGE = SimpleNamespace(content=[SimpleNamespace(type="text", text="yes\nno")], stop_reason="end_turn")


def test_ids_hold_neither_address_nor_key() -> None:
    assert OpenAI("gpt-4o-mini").id == "openai/gpt-4o-mini"
    assert Anthropic("claude-haiku-4-5").id == "anthropic/claude-haiku-4-5"
    assert OpenAICompatible("org/m", "http://vllm.internal:8000").id == "compatible/org/m"


def test_what_changes_the_answers_changes_the_id() -> None:
    assert OpenAICompatible("m", "http://h:1", adapter="v7").id == "compatible/m+v7"
    assert Anthropic("m", api_version="2023-06-01").id == "anthropic/m@2023-06-01"


def test_every_client_follows_the_protocol() -> None:
    for client in (OpenAI("m"), Anthropic("m"), OpenAICompatible("m", "http://h:1")):
        assert isinstance(client, ModelClient)
        assert client.count_tokens("abcd") == 2


def test_prices_come_from_the_table_or_the_user_and_own_servers_have_none() -> None:
    assert OpenAI("gpt-4o-mini").price == Price(0.15, 0.6)
    assert OpenAI("gpt-4o-mini", price=Price(1.0, 2.0)).price == Price(1.0, 2.0)
    assert OpenAI("gpt-99").price is None
    assert OpenAICompatible("gpt-4o-mini", "http://h:1").price is None


def test_no_client_shows_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    clients = [
        OpenAI("m", api_key_env="MY_KEY"),
        Anthropic("m", api_key_env="MY_KEY"),
        OpenAICompatible("m", f"http://user:{SECRET}@h:1/v1", api_key_env="MY_KEY"),
    ]
    for client in clients:
        assert SECRET not in repr(client) + client.id + repr(vars(client)) + repr(client._remote.endpoint)


@pytest.mark.parametrize("value", [None, "", "  \n", "sk-one\nsk-two", "sk-ключ"])
def test_a_missing_or_broken_key_names_the_variable_and_not_the_value(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    for client in (OpenAI("m", api_key_env="MY_KEY"), Anthropic("m", api_key_env="MY_KEY")):
        for call in (client.check(), client.complete(ModelRequest(prompt="x"))):
            with pytest.raises(EnvironmentNotReady, match="MY_KEY") as caught:
                asyncio.run(call)
            assert "sk-" not in str(caught.value)


def test_a_key_from_a_file_may_end_with_a_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{SECRET}\n")
    assert Endpoint("https://h", "MY_KEY").key() == SECRET


@pytest.mark.parametrize("address", ["localhost:8000", "", "ftp://h", SECRET])
def test_what_is_no_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(EnvironmentNotReady, match="https://host:port/v1") as caught:
        OpenAICompatible("m", address)
    assert SECRET not in str(caught.value)


def test_limits_are_shared_by_endpoint_or_by_hand() -> None:
    one, two = OpenAI("a", api_key_env="K1"), OpenAI("b", api_key_env="K1", requests_per_minute=5)
    assert one._remote.limiter is two._remote.limiter and one._remote.limiter.requests_per_minute == 5
    assert OpenAI("a", api_key_env="K2")._remote.limiter is not one._remote.limiter
    mine = EndpointLimiter()
    assert OpenAI("a", limiter=mine)._remote.limiter is Anthropic("b", limiter=mine)._remote.limiter is mine


REQUEST = ModelRequest(
    messages=(Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "A"), Message("user", "B")),
    sampling=Sampling(temperature=0.7, top_p=0.9, max_tokens=9, stop=(".", "\n"), seed=5),
)


def test_openai_request_of_a_hosted_model() -> None:
    sdk = Recorder(CHAT)
    wire = OpenAIWire("m", token_limit="max_completion_tokens", raw_completions=False, adapters=False)
    asyncio.run(wire.send(sdk, REQUEST, 3.0))
    asyncio.run(wire.send(sdk, ModelRequest(prompt="raw text"), 3.0))
    (name, sent), (raw_name, raw) = sdk.calls
    assert (name, raw_name) == ("/chat/completions", "/chat/completions")
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."} and len(sent["messages"]) == 4
    assert {key: sent[key] for key in ("max_completion_tokens", "temperature", "top_p", "seed", "stop", "timeout")} == {
        "max_completion_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 5,
        "stop": [".", "\n"],
        "timeout": 3.0,
    }
    assert raw["messages"] == [{"role": "user", "content": "raw text"}] and "top_p" not in raw and "seed" not in raw


def test_omitted_parameters_are_not_sent_and_stop_is_applied_here() -> None:
    sdk = Recorder(CHAT)
    wire = OpenAIWire("m", token_limit="max_completion_tokens", raw_completions=False, adapters=False, omit=("temperature", "stop"))
    reply = asyncio.run(wire.send(sdk, REQUEST, 3.0))
    assert "temperature" not in sdk.calls[0][1] and "stop" not in sdk.calls[0][1]
    assert reply.text == "yes"


def test_a_compatible_server_gets_raw_prompts_and_adapter_names() -> None:
    sdk = Recorder(CHAT)
    wire = OpenAIWire("base", token_limit="max_tokens", raw_completions=True, adapters=True, default_adapter="v1")
    for request in (ModelRequest(prompt="raw"), ModelRequest(prompt="raw", adapter="v2")):
        asyncio.run(wire.send(sdk, request, 3.0))
    assert [(name, sent["model"], sent["prompt"]) for name, sent in sdk.calls] == [
        ("/completions", "v1", "raw"),
        ("/completions", "v2", "raw"),
    ]
    assert sdk.calls[0][1]["max_tokens"] == 256


def test_the_account_of_the_vendor_is_not_told_to_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    wire = OpenAIWire("m", token_limit="max_tokens", raw_completions=True, adapters=True)
    headers = wire.open("http://127.0.0.1:9/v1", "none").default_headers
    assert "org-mine" not in headers.values() and "proj-mine" not in headers.values()


@pytest.mark.parametrize(
    "wire",
    [
        OpenAIWire("m", token_limit="max_completion_tokens", raw_completions=False, adapters=False),
        AnthropicWire("m", api_version=None),
    ],
)
def test_a_hosted_model_refuses_an_adapter(wire: OpenAIWire | AnthropicWire) -> None:
    with pytest.raises(CallRejected, match="v2"):
        asyncio.run(wire.send(Recorder(CHAT), ModelRequest(prompt="x", adapter="v2"), 3.0))


def test_anthropic_request() -> None:
    sdk = Recorder(MESSAGE)
    reply = asyncio.run(AnthropicWire("m", api_version=None).send(sdk, REQUEST, 3.0))
    sent = sdk.calls[0][1]
    assert sent["system"] == "Be brief." and [turn["role"] for turn in sent["messages"]] == [
        "user",
        "assistant",
        "user",
    ]
    assert sent["stop_sequences"] == ["."] and "extra_body" not in sent and sent["max_tokens"] == 9
    assert reply.text == "yes", "a stop sequence of white space, which the API refuses, is applied here"


def test_anthropic_sampling_parameters_go_with_the_version_that_takes_them() -> None:
    sdk = Recorder(MESSAGE)
    wire = AnthropicWire("m", api_version="2023-06-01")
    asyncio.run(wire.send(sdk, ModelRequest(prompt="x", sampling=Sampling(temperature=0.3)), 3.0))
    assert sdk.calls[0][1]["extra_body"] == {"temperature": 0.3}


def test_anthropic_needs_more_than_a_system_message() -> None:
    request = ModelRequest(messages=(Message("system", "x"),))
    with pytest.raises(CallRejected, match="user message"):
        asyncio.run(AnthropicWire("m", api_version=None).send(Recorder(MESSAGE), request, 3.0))


def test_a_resource_per_event_loop_is_closed_with_its_loop() -> None:
    opened: list[int] = []
    closed: list[tuple[int, bool]] = []

    def open_one() -> int:
        opened.append(len(opened))
        return opened[-1]

    async def close_one(number: int) -> None:
        await asyncio.sleep(0)  # needs a loop that still runs
        closed.append((number, asyncio.get_running_loop().is_running()))

    held: PerLoop[int] = PerLoop(open_one, close_one)

    async def scene() -> list[int]:
        return list(await asyncio.gather(*(held.get() for _ in range(5))))

    assert [asyncio.run(scene()) for _ in range(3)] == [[0] * 5, [1] * 5, [2] * 5]
    assert closed == [(0, True), (1, True), (2, True)]
    assert held._held == {}


def test_a_closed_resource_is_opened_again_when_needed() -> None:
    held: PerLoop[object] = PerLoop(object, lambda _: asyncio.sleep(0))

    async def scene() -> bool:
        first = await held.get()
        await held.close()
        await held.close()
        return await held.get() is not first

    assert asyncio.run(scene())


def test_a_loop_that_ended_badly_is_forgotten() -> None:
    held: PerLoop[object] = PerLoop(object, lambda _: asyncio.sleep(0))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(held.get())
    loop.close()
    asyncio.run(_get_and_count(held, expected=1))


async def _get_and_count(held: PerLoop[object], *, expected: int) -> None:
    await held.get()
    assert len(held._held) == expected


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abc", 1), ("abcd", 2), ("日本", 2), ("🙂", 2)])
def test_token_estimate(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def test_constructing_a_client_imports_no_sdk() -> None:
    program = (
        "import sys\n"
        "from optimas_core.models._openai import OpenAI\n"
        "from optimas_core.models._anthropic import Anthropic\n"
        "OpenAI('m'); Anthropic('m')\n"
        "print([name for name in ('openai', 'anthropic', 'torch', 'httpx2') if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    assert ran.stdout.strip() == "[]"
