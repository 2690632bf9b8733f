"""A real HTTP server on 127.0.0.1 that plays a script in the OpenAI and Anthropic protocols.

    with LoopbackServer(lambda request, attempt: "Paris") as server:
        model = OpenAICompatible("any-model", server.base_url)

The seam for tests and demos that want the real SDKs, sockets and time-outs, without a vendor. Scripts and faults are
those of `Scripted`; a fault is a real one: a reset connection, a body shorter than announced, a stalled socket.
"""

from __future__ import annotations

import hmac
import json
import socket
import socketserver
import struct
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from optimas_core.canonical import digest
from optimas_core.errors import OptimasError
from optimas_core.models._faults import (
    CutStream,
    Disconnect,
    Junk,
    RateLimit,
    Refusal,
    Rejected,
    Script,
    ScriptPlayer,
    ServerError,
    Stall,
    Truncated,
)
from optimas_core.models._loopback_protocols import ROUTES, Route, answer_body, error_body, parse_request
from optimas_core.models._types import FinishReason, ModelReply, ModelRequest

# SO_LINGER on with 0 seconds: closing sends a reset instead of an orderly end.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One POST as it came in. `model` is the name asked for, an adapter's included; `body` holds no header."""

    path: str
    model: str
    request: ModelRequest
    body: dict[str, Any]
    api_version: str | None


class LoopbackServer:
    """Serves /v1/models, /v1/chat/completions, /v1/completions and /v1/messages on a free port of 127.0.0.1.

    `models` None: any model exists. `api_key`: asked for when given. `reports_usage` False: answers carry no token
    counts. `lists_models` False: /v1/models is missing, as at some gateways. The script's attempt number is how often
    the same body has come in before.
    """

    def __init__(
        self,
        script: Script,
        *,
        models: Sequence[str] | None = None,
        api_key: str | None = None,
        reports_usage: bool = True,
        lists_models: bool = True,
    ) -> None:
        self.player = ScriptPlayer(script)
        self.models = None if models is None else tuple(models)
        self.api_key = api_key
        self.reports_usage = reports_usage
        self.lists_models = lists_models
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._log: list[LoggedRequest] = []
        self._seen: Counter[str] = Counter()
        self._http: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._http = _Server(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        assert self._http is not None and self._thread is not None
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._http.drop_connections()
        self._thread.join()

    @property
    def host(self) -> str:
        """host:port."""
        if self._http is None:
            raise RuntimeError("the loopback server is not running; use it in a `with` block")
        return f"127.0.0.1:{self._http.server_address[1]}"

    @property
    def base_url(self) -> str:
        """For every client: http://127.0.0.1:<port>/v1."""
        return f"http://{self.host}/v1"

    @property
    def requests(self) -> tuple[LoggedRequest, ...]:
        """The model calls so far, in the order they came in, refused keys left out."""
        with self._lock:
            return tuple(self._log)

    @property
    def calls(self) -> int:
        return self.player.calls

    @property
    def billed(self) -> int:
        return self.player.billed

    def log(self, entry: LoggedRequest) -> int:
        """Note a call; returns how often the same one has come in before."""
        key = digest([entry.path, entry.body])
        with self._lock:
            self._log.append(entry)
            self._seen[key] += 1
            return self._seen[key] - 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, owner: LoopbackServer) -> None:
        self.owner = owner
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        # HTTPServer looks its own name up, which takes seconds where there is no name service.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is part of the play; anything else is shown."""
        import sys

        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def drop_connections(self) -> None:
        """End the kept-alive connections, so that no handler thread outlives the server."""
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client has closed it already


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the owner keeps the log."""

    def do_GET(self) -> None:
        owner = self.server.owner
        path = unquote(urlsplit(self.path).path)
        listed = owner.models or ("loopback-model",)
        if not self._has_key():
            self._send(401, error_body(None, 401, "invalid key"))
        elif path == "/v1/models" and owner.lists_models:
            entries = [{"id": name, "object": "model", "created": 0, "owned_by": "loopback"} for name in listed]
            self._send(200, {"object": "list", "data": entries})
        elif path.startswith("/v1/models/") and owner.lists_models and self._exists(path.removeprefix("/v1/models/")):
            self._send(200, {"id": path.removeprefix("/v1/models/"), "object": "model", "type": "model"})
        else:
            self._send(404, error_body(None, 404, "not found"))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = urlsplit(self.path).path
        route = ROUTES.get(path)
        if not self._has_key():
            return self._send(401, error_body(route, 401, "invalid key"))
        if route is None:
            return self._send(404, error_body(None, 404, f"no such path: {path}"))
        try:
            body = json.loads(raw)
            request = parse_request(route, body)
            entry = LoggedRequest(path, str(body["model"]), request, body, self.headers.get("anthropic-version"))
        except (KeyError, TypeError, ValueError) as exc:
            return self._send(400, error_body(route, 400, f"bad request: {exc}"))
        if not self._exists(entry.model):
            return self._send(404, error_body(route, 404, f"model {entry.model} does not exist"))
        return self._play(route, entry)

    def _play(self, route: Route, entry: LoggedRequest) -> None:
        owner = self.server.owner
        try:
            step = owner.player.step(entry.request, owner.log(entry))
        except OptimasError as over:
            return self._send(400, error_body(route, 400, over.message))
        match step:
            case str():
                self._answer(route, entry, step, "stop")
            case ModelReply():
                self._answer(route, entry, step.text, step.finish_reason)
            case Refusal():
                self._answer(route, entry, step.text, "refusal")
            case Truncated():
                self._answer(route, entry, step.text, "length")
            case Stall():
                if not owner.stopping.wait(step.seconds):
                    self._answer(route, entry, step.text, "stop")
            case RateLimit():
                self._send(429, error_body(route, 429, "slow down"), retry_after_s=step.retry_after_s)
            case ServerError():
                text = error_body(route, step.status, "scripted fault")
                self._send(step.status, text, retry_after_s=step.retry_after_s)
            case Rejected():
                self._send(step.status, error_body(route, step.status, step.message, step.code))
            case Junk():
                self._send_bytes(200, step.text.encode())
            case CutStream():
                self._cut(route, entry, step.text)
            case Disconnect():
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self._hang_up()

    def _answer(self, route: Route, entry: LoggedRequest, text: str, finish: FinishReason) -> None:
        usage = self.server.owner.reports_usage
        self._send(200, answer_body(route, entry.model, entry.request, text, finish, usage=usage))

    def _cut(self, route: Route, entry: LoggedRequest, text: str) -> None:
        body = json.dumps(answer_body(route, entry.model, entry.request, text, "stop", usage=True)).encode()
        self._send_bytes(200, body[: len(body) // 2], announced=len(body))
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, status: int, body: dict[str, Any], *, retry_after_s: float | None = None) -> None:
        self._send_bytes(status, json.dumps(body).encode(), retry_after_s=retry_after_s)

    def _send_bytes(self, status: int, body: bytes, *, announced: int | None = None, retry_after_s: float | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body) if announced is None else announced))
        if retry_after_s is not None:
            self.send_header("retry-after", f"{retry_after_s:g}")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _has_key(self) -> bool:
        wanted = self.server.owner.api_key
        if wanted is None:
            return True
        given = self.headers.get("x-api-key") or (self.headers.get("authorization") or "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), wanted.encode())

    def _exists(self, model: str) -> bool:
        return self.server.owner.models is None or model in self.server.owner.models
