"""A store in an S3 bucket: AWS, SeaweedFS, MinIO or any server that honours `If-None-Match` and `If-Match` on PUT.

A PUT whose answer is lost may have been written. Such a write is settled by reading back: if the bytes are ours, we
won. boto3 is imported at the first call, never at import.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NoReturn
from urllib.parse import urlsplit

from optimas_core.artifacts._store import MAX_VALUE_BYTES, Blob, Conflict, StoredKey, check_key, is_key, too_large
from optimas_core.artifacts._write_points import writing
from optimas_core.errors import EnvironmentNotReady, StoreUnavailable

_GET_TRIES = 3
_RACE_TRIES = 8


class _Race(Exception):
    """409: two writers met on the server; it asks both to try again."""


class S3Store:
    """Keys are objects below `s3://bucket/prefix`. Implements `Store`.

    Credentials and region come from where boto3 looks (environment, profile, pod identity). `endpoint_url` defaults to
    AWS_ENDPOINT_URL_S3, then AWS_ENDPOINT_URL, then AWS itself. `timeout_s` bounds one connection attempt or one wait
    for bytes; a call is tried `attempts` times.
    """

    def __init__(self, url: str, *, endpoint_url: str | None = None, timeout_s: float = 30.0, attempts: int = 4) -> None:
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        fits = parts.scheme == "s3" and is_key(parts.netloc) and "@" not in parts.netloc and (not prefix or is_key(prefix))
        if not fits or parts.query or parts.fragment:
            # Without a key pair or a signed query that someone wrote into it.
            shown = url.rpartition("@")[2].partition("?")[0][:200]
            raise EnvironmentNotReady(
                f"{shown!r} is not an S3 location.",
                remedy="Write it as s3://bucket/prefix; credentials belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )
        self._bucket = parts.netloc
        self._prefix = prefix
        self._endpoint_url = endpoint_url
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def get(self, key: str, *, max_bytes: int = MAX_VALUE_BYTES) -> Blob | None:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._connected()
        name = self._name(key)
        for tries_left in reversed(range(_GET_TRIES)):
            body = None
            try:
                response = client.get_object(Bucket=self._bucket, Key=name)
                body = response["Body"]
                size = int(response.get("ContentLength") or 0)
                if size > max_bytes:
                    body.close()
                    raise too_large(key, size, max_bytes)
                return Blob(body.read(), response["ETag"])
            except ClientError as error:
                if _code(error) in ("NoSuchKey", "404") or (_status(error) == 404 and _code(error) != "NoSuchBucket"):
                    return None
                self._fail("read", key, error)
            except (BotoCoreError, OSError) as error:
                # boto3 tries the request again by itself, but not a body that breaks off while we read it.
                if body is None or not tries_left:
                    self._fail("read", key, error)
        raise AssertionError("unreachable")

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None, durable: bool = True) -> str:
        if if_absent and if_match is not None:
            raise ValueError("a write has at most one condition: if_absent or if_match")
        from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        condition = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_match} if if_match is not None else {}
        retrying = Retrying(
            retry=retry_if_exception_type(_Race),
            stop=stop_after_attempt(_RACE_TRIES),
            wait=wait_random_exponential(multiplier=0.05, max=2.0),
        )
        try:
            for attempt in retrying:
                with attempt, writing(key):
                    return self._put_once(key, data, condition, again=attempt.retry_state.attempt_number > 1)
        except RetryError as error:
            raise StoreUnavailable(
                f"{self._where()} answered 409 to {_RACE_TRIES} writes of {key} in a row.", remedy="Resume the run."
            ) from error
        raise AssertionError("unreachable")

    def list(self, prefix: str = "") -> Iterator[str]:
        for found in self.scan(prefix):
            yield found.key

    def scan(self, prefix: str = "") -> Iterator[StoredKey]:
        from botocore.exceptions import BotoCoreError, ClientError

        base = f"{self._prefix}/" if self._prefix else ""
        found: list[StoredKey] = []
        try:
            pages = self._connected().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=base + prefix):
                for item in page.get("Contents", ()):
                    key = item["Key"][len(base) :]
                    if is_key(key):
                        found.append(StoredKey(key, item["Size"], item["LastModified"].timestamp()))
        except (ClientError, BotoCoreError, OSError) as error:
            self._fail("list", prefix or "the keys", error)
        # Servers that keep folders (SeaweedFS) list "a/b" before "a-b"; the order of characters is the other way round.
        yield from sorted(found, key=lambda item: item.key)

    def delete(self, key: str) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._connected().delete_object(Bucket=self._bucket, Key=self._name(key))
        except (ClientError, BotoCoreError, OSError) as error:
            if isinstance(error, ClientError) and _code(error) == "NoSuchKey":
                return
            self._fail("delete", key, error)

    def _put_once(self, key: str, data: bytes, condition: dict[str, Any], *, again: bool) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            response = self._connected().put_object(Bucket=self._bucket, Key=self._name(key), Body=data, **condition)
            return str(response["ETag"])
        except ClientError as error:
            again = again or error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
            status = _status(error)
            refused = status == 412 or ("IfMatch" in condition and _code(error) == "NoSuchKey")
            # A refusal of a repeated request may be the echo of our own first one; a 5xx may have been written.
            uncertain = condition and ((refused and again) or status >= 500)
            if uncertain and (etag := self._etag_if_ours(key, data)) is not None:
                return etag
            if refused:
                raise Conflict(f"{key} in {self.url} was written by someone else first.") from error
            if condition and status == 409:
                raise _Race from error
            self._fail("write", key, error)
        except (BotoCoreError, OSError) as error:
            uncertain = condition and _is_connection_error(error)
            if uncertain and (etag := self._etag_if_ours(key, data)) is not None:
                return etag
            self._fail("write", key, error)

    def _etag_if_ours(self, key: str, data: bytes) -> str | None:
        current = self.get(key)
        return current.etag if current is not None and current.data == data else None

    def _name(self, key: str) -> str:
        return f"{self._prefix}/{check_key(key)}" if self._prefix else check_key(key)

    def _connected(self) -> Any:
        with self._lock:  # making a boto3 client is not thread-safe; using one is
            return self._client

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        endpoint = self._endpoint()
        if endpoint and "@" in urlsplit(endpoint).netloc:  # boto3 ignores it, and quotes it in its errors
            raise EnvironmentNotReady(
                "AWS_ENDPOINT_URL holds a user name or password.",
                remedy="Use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )
        config = Config(
            retries={"mode": "standard", "max_attempts": self._attempts},
            connect_timeout=min(self._timeout_s, 10.0),
            read_timeout=self._timeout_s,
            max_pool_connections=64,
            # Servers other than AWS are addressed by path, and not all of them know the newer checksum trailers.
            s3={"addressing_style": "path"} if endpoint else {},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            session = boto3.session.Session()
            region = session.region_name or "us-east-1"
            return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
        except (BotoCoreError, ValueError) as error:
            self._fail("open", "it", error)

    def _endpoint(self) -> str | None:
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        return self._endpoint_url or next((os.environ[name] for name in names if os.environ.get(name)), None)

    def _where(self) -> str:
        """The location and the host, for messages."""
        endpoint = self._endpoint()
        # Not netloc: someone may have put a user and a password into the address.
        return f"{self.url} at {urlsplit(endpoint).netloc.rpartition('@')[2]}" if endpoint else self.url

    def _fail(self, doing: str, key: str, error: Exception) -> NoReturn:
        """Say it in one sentence. The server's own text is left out: it may hold account names or key ids."""
        from botocore.exceptions import ClientError

        message = f"cannot {doing} {key} in {self._where()}:"
        if isinstance(error, ClientError):
            status, code = _status(error), _code(error)
            if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout", "Throttling"):
                raise StoreUnavailable(
                    f"{message} the server answered {status} {code}.", remedy="Resume the run when it is back."
                ) from error
            if code == "NoSuchBucket":
                remedy = f"Create the bucket {self._bucket}, or correct its name."
                raise EnvironmentNotReady(f"{message} there is no such bucket.", remedy=remedy) from error
            if code == "RequestTimeTooSkewed":
                remedy = "Set this machine's clock: S3 refuses requests that are minutes off."
                raise EnvironmentNotReady(f"{message} this machine's clock and the server's are too far apart.", remedy=remedy) from error
            if status in (401, 403):
                remedy = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that this account may get, put, list and delete."
                raise EnvironmentNotReady(f"{message} access denied ({code}).", remedy=remedy) from error
            remedy = "Check the bucket, its region and AWS_ENDPOINT_URL."
            raise EnvironmentNotReady(f"{message} the server answered {status} {code}.", remedy=remedy) from error
        if _is_connection_error(error):
            raise StoreUnavailable(
                f"{message} no answer ({type(error).__name__}).",
                remedy="Check AWS_ENDPOINT_URL and that the server runs, then resume the run.",
            ) from error
        raise EnvironmentNotReady(
            f"{message} {type(error).__name__}.",
            remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, and check AWS_ENDPOINT_URL.",
        ) from error


def _is_connection_error(error: Exception) -> bool:
    from botocore import exceptions as boto

    return isinstance(error, boto.HTTPClientError | boto.ConnectionError | boto.IncompleteReadError | OSError)


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))[:60]
