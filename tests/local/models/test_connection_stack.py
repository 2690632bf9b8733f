"""Connections of the remote clients, counted by a server of the test's own: reused by every wave, closed when idle, opened anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from optimas_core.models import _connections
from optimas_core.models._openai_compatible import OpenAICompatible
from optimas_core.models._types import Message, ModelReply, ModelRequest, Sampling

# More than the 100 idle connections that the SDK itself would keep.
IN_FLIGHT = 120


class CountingServer:
    """Answers after `delay_s`; with `hangs_up` it closes the connection after each answer without having said so."""

    def __init__(self, *, delay_s: float = 0.0, hangs_up: bool = False) -> None:
        self.delay_s = delay_s
        self.hangs_up = hangs_up
        self.accepted = 0
        self.ended = 0
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.lower())
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                await asyncio.sleep(self.delay_s)
                body = json.dumps({"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
                if self.hangs_up:
                    return
        except asyncio.IncompleteReadError:
            return  # the client has closed it
        finally:
            self.ended += 1
            writer.close()


def play(server: CountingServer, work: Callable[[OpenAICompatible], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=256)
        model = OpenAICompatible("m", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", max_in_flight=IN_FLIGHT)
        try:
            await work(model)
        finally:
            await model.aclose()
            listening.close()

    asyncio.run(run())


async def wave(model: OpenAICompatible, count: int) -> list[ModelReply]:
    request = ModelRequest(messages=(Message("user", "hello"),), sampling=Sampling(max_tokens=8), deadline_s=20.0)
    replies = await model.complete_many([request] * count)
    failed = [reply for reply in replies if not isinstance(reply, ModelReply)]
    assert not failed, failed[0]
    return [reply for reply in replies if isinstance(reply, ModelReply)]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_second_wave_opens_no_connection() -> None:
    server = CountingServer(delay_s=0.3)

    async def work(model: OpenAICompatible) -> None:
        await wave(model, IN_FLIGHT)
        first = server.accepted
        assert first <= IN_FLIGHT
        await wave(model, IN_FLIGHT)
        assert server.accepted == first

    play(server, work)


def test_idle_connections_are_closed_when_a_call_ends_after_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "IDLE_S", 0.2)
    server = CountingServer(delay_s=0.05)

    async def work(model: OpenAICompatible) -> None:
        await wave(model, 10)
        assert server.ended == 0
        await asyncio.sleep(0.3)
        await wave(model, 1)
        await asyncio.sleep(0.1)
        assert server.accepted - server.ended == 1

    play(server, work)


def test_a_connection_that_the_server_closed_meanwhile_costs_no_attempt() -> None:
    server = CountingServer(hangs_up=True)

    async def work(model: OpenAICompatible) -> None:
        for _ in range(3):
            assert [reply.attempts for reply in await wave(model, 5)] == [1] * 5
            await asyncio.sleep(0.05)

    play(server, work)


def test_a_cancelled_call_leaves_the_others_and_later_ones_whole() -> None:
    server = CountingServer(delay_s=0.2)

    async def work(model: OpenAICompatible) -> None:
        async with asyncio.TaskGroup() as group:
            others = group.create_task(wave(model, 5))
            cancelled = group.create_task(wave(model, 5))
            await asyncio.sleep(0.1)
            cancelled.cancel()
        assert len(others.result()) == 5
        assert len(await wave(model, 10)) == 10

    play(server, work)


def test_a_connection_may_be_taken_while_an_old_one_is_being_closed() -> None:
    class Slow:
        async def handle_async_request(self, request: object) -> None:
            await asyncio.sleep(60)

        async def aclose(self) -> None:
            await asyncio.sleep(0.05)

    async def run() -> None:
        connections = _connections._transport()
        connections._idle.append((0.0, Slow()))
        giving = asyncio.create_task(connections.give(Slow()))
        await asyncio.sleep(0.01)
        taking = asyncio.create_task(connections.handle_async_request(None))  # takes the only idle one
        await giving
        taking.cancel()

    asyncio.run(run())


def test_nothing_is_told_of_this_machine() -> None:
    server = CountingServer()

    async def work(model: OpenAICompatible) -> None:
        await wave(model, 1)

    play(server, work)
    assert server.heads and not [head for head in server.heads if b"x-stainless" in head]
    assert b"\r\nauthorization: bearer none\r\n" in server.heads[0]


@pytest.mark.parametrize(
    ("environment", "ours"),
    [
        ({}, True),
        ({"HTTPS_PROXY": "http://proxy:3128"}, True),
        ({"HTTP_PROXY": "http://proxy:3128"}, False),
        ({"ALL_PROXY": "http://proxy:3128"}, False),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "model.svc"}, True),
    ],
)
def test_a_proxy_is_left_to_the_sdk(environment: dict[str, str], ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = _connections.http_options(lambda transport: transport, "http://model.svc:8000/v1")
    assert ("http_client" in made) is ours
