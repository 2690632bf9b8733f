"""An OpenAI-compatible endpoint of fixed latency in a process of its own, so that its CPU is not the client's.

The package's own `LoopbackServer` keeps a thread for each connection and a digest of each request, which is right for
tests and too much for a load. This one answers every POST with the same completion `latency_s` after the request is
whole, and GET /stats with what it saw. `with endpoint(latency_s=1.0) as server: server.base_url, server.stats()`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Read by DSPy's chat adapter as the field `answer`, and by any other client as a short text.
ANSWER = "[[ ## answer ## ]]\nthe Rhine\n\n[[ ## completed ## ]]"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running endpoint. `base_url` ends in /v1."""

    base_url: str

    def stats(self) -> dict[str, Any]:
        """calls, most_in_flight, cpu_s and late_s (mean seconds by which answers left after their time), since the last `reset`."""
        return self._get("stats")

    def reset(self) -> None:
        self._get("reset")

    def _get(self, name: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.base_url}/{name}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@contextlib.contextmanager
def endpoint(latency_s: float) -> Iterator[Endpoint]:
    """Start the endpoint, yield it, end it."""
    command = [sys.executable, __file__, "--latency-s", str(latency_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        yield Endpoint(f"http://127.0.0.1:{port}/v1")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class _Served:
    """What every connection counts into."""

    def __init__(self, latency_s: float) -> None:
        body = {
            "id": "cmpl-endpoint",
            "object": "chat.completion",
            "created": 0,
            "model": "endpoint",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}],
            "usage": {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52},
        }
        self.answer = _response(json.dumps(body).encode())
        self.latency_s = latency_s
        self.reset()

    def reset(self) -> None:
        self.calls = self.in_flight = self.most = 0
        self.late_s = 0.0
        self.cpu_s = time.process_time()

    def stats(self) -> dict[str, Any]:
        cpu_s = time.process_time() - self.cpu_s
        late_s = self.late_s / max(self.calls, 1)
        return {"calls": self.calls, "most_in_flight": self.most, "cpu_s": round(cpu_s, 3), "late_s": round(late_s, 5)}


class _Connection(asyncio.Protocol):
    """As much of HTTP/1.1 as the clients here send: a head, a body of stated length, one request at a time."""

    def __init__(self, served: _Served) -> None:
        self._served = served
        self._waiting = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            head = self._waiting[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._waiting) < end + 4 + length:
                return
            path = self._waiting.split(b" ", 2)[1]
            self._waiting = self._waiting[end + 4 + length :]
            self._play(head.startswith(b"post"), path)

    def _play(self, is_post: bool, path: bytes) -> None:
        served = self._served
        if not is_post:
            if path.endswith(b"/reset"):
                served.reset()
            self._transport.write(_response(json.dumps(served.stats()).encode()))
            return
        served.calls += 1
        served.in_flight += 1
        served.most = max(served.most, served.in_flight)
        loop = asyncio.get_running_loop()
        due_s = loop.time() + served.latency_s
        loop.call_at(due_s, self._answer, due_s)

    def _answer(self, due_s: float) -> None:
        self._served.in_flight -= 1
        self._served.late_s += asyncio.get_running_loop().time() - due_s
        if not self._transport.is_closing():
            self._transport.write(self._served.answer)


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def _serve(latency_s: float) -> None:
    served = _Served(latency_s)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(served), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-s", type=float, required=True)
    asyncio.run(_serve(parser.parse_args().latency_s))
