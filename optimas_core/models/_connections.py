"""HTTP connections for hundreds of calls in flight: a stack of idle ones, so that taking one costs the same however many there are.

httpcore's own pool looks at every connection of it, and asks the kernel about each idle one, whenever a request begins or ends:
with 256 in flight that was 40 % of the client's CPU (benchmarks/rollout_engine.py). The SDKs also keep at most 100 idle, so every
wave of 256 calls would greet the server 156 times anew. Here each connection is a transport of its own, and the one that was used
last is taken first, which lets the others grow old and be closed.
"""

from __future__ import annotations

import time
import urllib.request
from collections import deque
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

# Seconds that an idle connection is kept; servers commonly close theirs after 5 to 75.
IDLE_S = 5.0


def http_options(client: Any, base_url: str) -> dict[str, Any]:
    """`http_client` for an SDK, of its own kind `client`; nothing where a proxy stands in between, which the SDK's default handles."""
    return {} if _is_proxied(base_url) else {"http_client": client(transport=_transport())}


def _is_proxied(base_url: str) -> bool:
    parts = urlsplit(base_url)
    proxies = urllib.request.getproxies()
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and not urllib.request.proxy_bypass(parts.hostname or "")


def _transport() -> Any:
    import httpx2

    class Body(httpx2.AsyncByteStream):
        """A response's body; its end gives the connection back."""

        def __init__(self, inner: Any, connection: Any, owner: Connections) -> None:
            self._inner = inner
            self._connection = connection
            self._owner = owner

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for part in self._inner:
                yield part

        async def aclose(self) -> None:
            try:
                await self._inner.aclose()
            finally:
                await self._owner.give(self._connection)

    class Connections(httpx2.AsyncBaseTransport):
        """Belongs to one event loop, as the SDK's client that holds it does."""

        def __init__(self) -> None:
            self._trust = httpx2.create_ssl_context()  # reads the certificates: once, not for each connection
            self._idle: deque[tuple[float, Any]] = deque()
            self._open: set[Any] = set()

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            connection = self._idle.pop()[1] if self._idle else self._made()
            try:
                response: httpx2.Response = await connection.handle_async_request(request)
            except BaseException:
                await self.give(connection)  # httpcore has closed what failed; the next request opens it anew
                raise
            response.stream = Body(response.stream, connection, self)
            return response

        async def give(self, connection: Any) -> None:
            now_s = time.monotonic()
            self._idle.append((now_s, connection))
            while self._idle and self._idle[0][0] < now_s - IDLE_S:  # others take and give while one is being closed
                _, old = self._idle.popleft()
                self._open.discard(old)
                await old.aclose()

        async def aclose(self) -> None:
            for connection in list(self._open):
                await connection.aclose()
            self._open.clear()
            self._idle.clear()

        def _made(self) -> Any:
            # The expiry here only guards against a connection that was taken just before it grew too old.
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=IDLE_S)
            connection = httpx2.AsyncHTTPTransport(verify=self._trust, limits=limits)
            self._open.add(connection)
            return connection

    return Connections()
