"""One HTTP connection to the API of Kubeflow Pipelines: what is worth trying again is, everything else is a typed error.

httpx2 and not kfp_server_api: it is installed wherever optimas is (openai and anthropic bring it), kfp pins requests and urllib3
exactly, the v1beta1 call that tells why a pod cannot start is not in kfp_server_api at all, and its exceptions carry whole answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeVar

from optimas_core._redaction import without_keys
from optimas_core.canonical import parse_json
from optimas_core.errors import (
    AuthenticationFailed,
    CallRejected,
    CallTimeout,
    EnvironmentNotReady,
    OptimasError,
    RateLimited,
    ServerFault,
    TemporaryError,
)

T = TypeVar("T")

MAX_ANSWER_BYTES = 32 << 20
_SERVER_TEXT_CHARS = 300
_ATTEMPT_S = 30.0
_CONNECT_S = 5.0
_LONGEST_WAIT_S = 10.0
_LOGIN = "Set OPTIMAS_KFP_TOKEN to a bearer token of this server, or use a port-forward with a kubeconfig."


class NotFound(CallRejected):
    """404: no such run, pipeline or experiment."""

    code = "kfp_not_found"


class AlreadyThere(CallRejected):
    """409: the name is taken."""

    code = "kfp_conflict"


class Credentials(Protocol):
    """What a request carries besides its content; asked for each request, since a mounted token rotates."""

    def headers(self) -> Mapping[str, str]: ...

    def secrets(self) -> tuple[str, ...]:
        """What must not stand in a text."""


class KfpHttp:
    """Requests below `host` (scheme://name:port/prefix). Safe to call from many threads. `clock` and `sleep` are in seconds."""

    def __init__(
        self,
        host: str,
        credentials: Credentials,
        *,
        deadline_s: float = 120.0,
        direct: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`deadline_s` covers all tries of one call. `direct`: the address is on this machine or in this cluster, no proxy leads there."""
        import httpx2

        self.host = host.rstrip("/")
        self.deadline_s = deadline_s
        self._credentials = credentials
        self._clock = clock
        self._sleep = sleep
        self._client = httpx2.Client(trust_env=not direct, follow_redirects=False, timeout=httpx2.Timeout(_ATTEMPT_S, connect=_CONNECT_S))

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, *, query: Mapping[str, Any] | None = None, deadline_s: float | None = None) -> dict[str, Any]:
        """The JSON object at `path`, tried again until the deadline. Raises: as `once`."""
        return self.persist(lambda left_s: self.once("GET", path, query=query, timeout_s=left_s), deadline_s=deadline_s)

    def post(self, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> dict[str, Any]:
        """For calls that may be repeated without harm. Raises: as `once`."""
        return self.persist(lambda left_s: self.once("POST", path, query=query, body=body, timeout_s=left_s))

    def delete(self, path: str) -> None:
        """Raises: as `once`."""
        self.persist(lambda left_s: self.once("DELETE", path, timeout_s=left_s))

    def persist(self, attempt: Callable[[float], T], *, deadline_s: float | None = None) -> T:
        """Repeat `attempt(seconds left)` while it raises TemporaryError, with jitter and the server's Retry-After, until the deadline.

        Raises:
            TemporaryError: the last fault when the next wait would pass the deadline.
        """
        from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

        ends_s = self._clock() + (self.deadline_s if deadline_s is None else deadline_s)
        jitter = wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_S)

        def wait(state: RetryCallState) -> float:
            fault = state.outcome.exception() if state.outcome else None
            asked_s = fault.retry_after_s if isinstance(fault, RateLimited | ServerFault) else None
            return max(0.1, jitter(state)) if asked_s is None else asked_s + 0.1

        retrying = Retrying(
            sleep=self._sleep,
            wait=wait,
            stop=lambda state: self._clock() + state.upcoming_sleep >= ends_s,
            retry=retry_if_exception_type(TemporaryError),
            reraise=True,
        )
        return retrying(lambda: attempt(max(0.5, ends_s - self._clock())))

    def once(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        upload: bytes | None = None,
        timeout_s: float = _ATTEMPT_S,
    ) -> dict[str, Any]:
        """One try. `body` is sent as JSON, `upload` as the form file that the upload endpoints read.

        Raises:
            TemporaryError: no connection, cut answer, 429, 5xx; `maybe_billed` tells that the request had been sent.
            AuthenticationFailed: 401, 403, or a login page.
            NotFound, AlreadyThere, CallRejected: 404, 409, another 4xx.
            EnvironmentNotReady: what answers is no API of Kubeflow Pipelines.
        """
        content: dict[str, Any] = {}
        if body is not None:
            content = {"content": json.dumps(body, allow_nan=False).encode(), "headers": {"Content-Type": "application/json"}}
        if upload is not None:
            content = {"files": {"uploadfile": ("pipeline.yaml", upload, "application/yaml")}}
        answer = self._asked(method, path, timeout_s, _bounded, params=query, **content)
        if 200 <= answer.status < 300:
            return self._object(answer.data, answer.kind)
        raise self._refusal(method, path, answer.status, answer.data, answer.retry_after)

    def end_of_text(self, path: str, most_bytes: int) -> str:
        """The last bytes of a text, such as a log, without keys; one try. Raises: as `once`."""
        answer = self._asked("GET", path, _ATTEMPT_S, lambda parts: _end(parts, most_bytes))
        if not 200 <= answer.status < 300:
            raise self._refusal("GET", path, answer.status, answer.data, answer.retry_after)
        return without_keys(answer.data.decode(errors="replace"), self._credentials.secrets())

    def _asked(self, method: str, path: str, timeout_s: float, read: Callable[[Iterable[bytes]], bytes], **content: Any) -> _Answer:
        """One request and whatever came back. Raises: TemporaryError, EnvironmentNotReady: nothing did."""
        import httpx2

        # Faults of the connection before a byte was sent: the server cannot have done anything.
        unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
        headers = {**content.pop("headers", {}), **self._credentials.headers(), "Accept": "application/json"}
        limit_s = min(_ATTEMPT_S, timeout_s)
        try:
            timeout = httpx2.Timeout(limit_s, connect=min(_CONNECT_S, limit_s))
            with self._client.stream(method, self.host + path, headers=headers, timeout=timeout, **content) as answer:
                data = read(answer.iter_bytes())
                return _Answer(answer.status_code, data, answer.headers.get("content-type", ""), answer.headers.get("retry-after"))
        except httpx2.TimeoutException as error:
            sent = not isinstance(error, unsent)
            raise CallTimeout(f"{self.host} did not answer within {limit_s:.3g} s.", remedy=_REACH, maybe_billed=sent) from None
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise EnvironmentNotReady(f"{self.host!r} is no address: {error}.", remedy="Give http://name:port or https://name.") from None
        except httpx2.HTTPError as error:
            sent = not isinstance(error, unsent)
            said = self._clean(str(error)) or type(error).__name__
            raise ServerFault(f"{self.host} cannot be reached: {said}.", remedy=_REACH, maybe_billed=sent) from None

    def _object(self, data: bytes, kind: str) -> dict[str, Any]:
        try:
            value = parse_json(data or b"{}", max_bytes=MAX_ANSWER_BYTES)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            what = "an HTML page" if "html" in kind else "no JSON object"
            raise EnvironmentNotReady(
                f"{self.host} answers with {what}, so it is not the API of Kubeflow Pipelines.",
                remedy="Give --host the address of ml-pipeline (port 8888) or of the UI with its prefix (…/pipeline).",
            )
        return value

    def _refusal(self, method: str, path: str, status: int, data: bytes, after: str | None) -> OptimasError:
        said = self._clean(_message(data))
        where = f"{self.host} ({method} {path.partition('?')[0]})"
        if status in (401, 403) and _is_markup(data):  # the API itself answers in JSON
            remedy = f"See whether --host is right: is it Kubeflow Pipelines? If a proxy stands before it: {_LOGIN}"
            return AuthenticationFailed(f"{where} denies it ({status}) with a page for people.", remedy=remedy)
        if status in (301, 302, 303, 307, 308):
            return AuthenticationFailed(f"{where} sends to another page, as to a login.", remedy=_LOGIN)
        if status == 401:
            return AuthenticationFailed(f"{where} does not know who asks (401): {said}", remedy=_LOGIN)
        if status == 403:
            remedy = "Ask for the role kubeflow-pipelines-edit in that namespace, or give another --namespace."
            return AuthenticationFailed(f"{where} denies it (403): {said}", remedy=remedy)
        if status == 404:
            return NotFound(f"{where} has no such thing (404): {said}", remedy="Check --host and --namespace.")
        if status == 409:
            return AlreadyThere(f"{where}: that name is taken (409): {said}")
        if status == 429:
            return RateLimited(f"{where} is asked too often (429).", retry_after_s=_seconds(after), remedy="Try again later.")
        if status >= 500:
            return ServerFault(f"{where} failed ({status}): {said}", retry_after_s=_seconds(after), remedy=_REACH, maybe_billed=True)
        return CallRejected(f"{where} refuses it ({status}): {said}", remedy="The server's text says what.")

    def _clean(self, text: str) -> str:
        plain = " ".join(without_keys(text, self._credentials.secrets()).split())
        return plain if len(plain) <= _SERVER_TEXT_CHARS else plain[: _SERVER_TEXT_CHARS - 1] + "…"


_REACH = "See whether the API server runs (`kubectl get pods -n kubeflow`) and whether --host is right."


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    data: bytes
    kind: str
    retry_after: str | None


def _bounded(parts: Iterable[bytes]) -> bytes:
    data = bytearray()
    for part in parts:
        data += part
        if len(data) > MAX_ANSWER_BYTES:
            raise CallRejected(f"an answer of more than {MAX_ANSWER_BYTES} bytes is not read.", remedy="Ask for less at once.")
    return bytes(data)


def _end(parts: Iterable[bytes], most_bytes: int) -> bytes:
    """The last `most_bytes`; a text that does not end is given up like any answer that is too long."""
    data, read = b"", 0
    for part in parts:
        data, read = (data + part)[-most_bytes:], read + len(part)
        if read > MAX_ANSWER_BYTES:
            break
    return data


def _message(data: bytes) -> str:
    """What the server says: gRPC gateway and upload endpoints name it differently."""
    try:
        body = parse_json(data, max_bytes=1 << 20)
    except ValueError:
        return "a page for people" if _is_markup(data) else data[:2000].decode(errors="replace")
    if not isinstance(body, dict):
        return ""
    found = next((body[key] for key in ("message", "error_message", "error") if isinstance(body.get(key), str)), "")
    return str(found)


def _is_markup(data: bytes) -> bool:
    """HTML, or the XML of an S3 store."""
    return data.lstrip().startswith(b"<")


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds, also from a date; None where there is none that can be read."""
    if not retry_after:
        return None
    try:
        return min(300.0, max(0.0, float(retry_after)))
    except ValueError:
        pass
    try:
        return min(300.0, max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time()))
    except (ValueError, TypeError):
        return None
