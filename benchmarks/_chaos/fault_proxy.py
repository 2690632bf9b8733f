"""A proxy between boto3 and a real S3 server that plays what networks and servers do wrong."""

from __future__ import annotations

import http.client
import http.server
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

# before: the server never hears of the request. after: it does what was asked, and the client does not learn it.
Kind = Literal["reset before", "reset after", "stall after", "status before", "status after", "cut"]


@dataclass(frozen=True)
class Fault:
    """`status` and `code` for the two kinds that answer; `seconds` for a stall. `cut` breaks off in the middle of the body."""

    kind: Kind
    status: int = 500
    code: str = "InternalError"
    seconds: float = 3.0


@dataclass(frozen=True)
class Seen:
    """A request: `key` without the bucket, `number` from 0 over all requests."""

    method: str
    key: str
    query: dict[str, list[str]]
    conditional: bool
    number: int

    @property
    def is_list(self) -> bool:
        return "list-type" in self.query


class FaultProxy:
    """Hands requests on to `upstream`; `plan` says which fault a request meets. `hidden` keys are left out of listings.

    Use as a context manager; `endpoint_url` is what boto3 is given.
    """

    def __init__(self, upstream: str, plan: Callable[[Seen], Fault | None] = lambda seen: None) -> None:
        self.plan = plan
        self.hidden: Callable[[str], bool] = lambda key: False
        self.seen: list[Seen] = []
        self._upstream = urlsplit(upstream).netloc
        self._lock = threading.Lock()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultProxy:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def note(self, method: str, path: str, conditional: bool) -> tuple[Seen, Fault | None]:
        """Remember a request and decide what it meets."""
        parts = urlsplit(path)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        with self._lock:
            query = parse_qs(parts.query, keep_blank_values=True)
            seen = Seen(method, key, query, conditional, len(self.seen))
            self.seen.append(seen)
            return seen, self.plan(seen)

    def forward(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of the server's answer. The signed headers go on unchanged."""
        connection = http.client.HTTPConnection(self._upstream, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def without_hidden(self, listing: bytes) -> bytes:
        """A listing as an older one: without some of its keys."""

        def keep(entry: re.Match[bytes]) -> bytes:
            key = re.search(rb"<Key>(.*?)</Key>", entry[0])
            return b"" if key is not None and self.hidden(key[1].decode()) else entry[0]

        return re.sub(rb"<Contents>.*?</Contents>", keep, listing, flags=re.DOTALL)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        conditional = any(name.lower() in ("if-match", "if-none-match") for name in self.headers)
        seen, fault = self.proxy.note(self.command, self.path, conditional)
        kind = fault.kind if fault is not None else ""
        if kind == "reset before":
            return self._reset()
        if fault is not None and kind == "status before":
            return self._refuse(fault)
        status, headers, data = self.proxy.forward(self.command, self.path, self.headers, body)
        if kind == "reset after":
            return self._reset()
        if fault is not None and kind == "stall after":
            time.sleep(fault.seconds)
            return self._reset()
        if fault is not None and kind == "status after":
            return self._refuse(fault)
        if seen.is_list:
            data = self.proxy.without_hidden(data)
        self._answer(status, headers, data, cut=kind == "cut")

    do_GET = do_PUT = do_DELETE = do_POST = do_HEAD = _handle

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._reset()

    def _refuse(self, fault: Fault) -> None:
        text = f'<?xml version="1.0"?><Error><Code>{fault.code}</Code><Message>played</Message></Error>'
        self._answer(fault.status, [("Content-Type", "application/xml")], text.encode())

    def _reset(self) -> None:
        """Close so that the other side sees a reset and not an end."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client was killed or gave up
