"""Open a store by its address, and make sure before a run that it honours conditional writes."""

from __future__ import annotations

import os
import secrets
from urllib.parse import unquote, urlsplit

from optimas_core.artifacts._directory import DirectoryStore
from optimas_core.artifacts._s3 import S3Store
from optimas_core.artifacts._store import Conflict, Store
from optimas_core.errors import EnvironmentNotReady, StoreUnavailable


def open_store(location: str | os.PathLike[str]) -> Store:
    """`s3://bucket/prefix`, `file:///folder` or a path. Nothing is read or written yet.

    Raises:
        EnvironmentNotReady: another scheme, or an S3 address that is none.
    """
    text = os.fspath(location)
    try:
        parts = urlsplit(text) if "://" in text else None
    except ValueError:  # brackets that are no IPv6 address
        raise _no_place(text) from None
    if parts is None:
        return _directory(text)
    if parts.scheme == "s3":
        return S3Store(text)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return _directory(unquote(parts.path))
    raise _no_place(text)


def _directory(path: str) -> DirectoryStore:
    if not path or "\0" in path:
        raise _no_place(path)
    return DirectoryStore(path)


def _no_place(text: str) -> EnvironmentNotReady:
    # Without a user, a password or a signed query: what is no workspace may be a URL copied from elsewhere.
    shown = f"{text.partition('://')[0]}://{text.partition('://')[2].rpartition('@')[2]}" if "://" in text else text
    return EnvironmentNotReady(
        f"a workspace cannot be at {shown.partition('?')[0][:200]!r}.", remedy="Use s3://bucket/prefix or the path of a directory."
    )


def probe(store: Store) -> None:
    """Write twice under one new key and expect the second to be refused; then the same with a stale tag.

    Raises:
        EnvironmentNotReady: the store ignores conditions, cannot be written or does not answer. Running on it could
            let two controllers overwrite each other.
    """
    key = f"probe/{secrets.token_hex(16)}"
    try:
        store.get(key)  # before any write: some servers make a missing bucket at the first PUT, typing error or not
        stale = store.put(key, b"first " + secrets.token_bytes(8), if_absent=True)
        try:
            _must_conflict(store, key, if_absent=True)
            written = b"second " + secrets.token_bytes(8)
            store.put(key, written, if_match=stale)
            _must_conflict(store, key, if_match=stale)
            found = store.get(key)
            if found is None or found.data != written:
                raise EnvironmentNotReady(
                    f"the store at {store.url} does not give back what was written to it last.",
                    remedy="Use a store with strong read-after-write consistency.",
                )
        finally:
            store.delete(key)
    except StoreUnavailable as error:
        raise EnvironmentNotReady(error.message, remedy=error.remedy) from error
    except Conflict as error:
        raise EnvironmentNotReady(
            f"the store at {store.url} refuses a conditional write whose condition holds.",
            remedy="Use AWS S3, SeaweedFS 4, MinIO or a directory.",
        ) from error


def _must_conflict(store: Store, key: str, *, if_absent: bool = False, if_match: str | None = None) -> None:
    try:
        store.put(key, b"must not be written", if_absent=if_absent, if_match=if_match)
    except Conflict:
        return
    raise EnvironmentNotReady(
        f"the store at {store.url} accepts conditional writes but ignores them, so two writers could overwrite each other.",
        remedy="Use AWS S3, SeaweedFS 4, MinIO or a directory.",
    )
