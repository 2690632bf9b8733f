"""Numbered JSON records under one prefix, each written once: whoever writes index n first wins it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from optimas_core.artifacts._layout import record_index, record_name
from optimas_core.artifacts._store import Store
from optimas_core.canonical import MAX_JSON_BYTES, parse_json
from optimas_core.errors import ArtifactCorrupt, StoreUnavailable

_STEPS_FROM_HINT = 16
_READERS = 16
_MAX_HINT_BYTES = 64


class RecordLog:
    """Records 0, 1, 2 … at `<prefix>/000000.json …`; `<prefix>/HEAD` is a hint where the newest one is.

    The hint may lag behind, be absent or be damaged: nothing depends on it but the number of reads.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def append(self, index: int, body: bytes) -> None:
        """Write record `index`.

        Raises:
            Conflict: it is there already, by someone else or by our own try whose answer was lost: read it and decide.
        """
        self._store.put(f"{self._prefix}/{record_name(index)}", body, if_absent=True)
        self.hint(index)

    def hint(self, index: int) -> None:
        """Tell the next reader where the newest record is."""
        with contextlib.suppress(StoreUnavailable):
            self._store.put(f"{self._prefix}/HEAD", str(index).encode(), durable=False)

    def read(self, index: int) -> dict[str, Any] | None:
        """The record, None where there is none.

        Raises:
            ArtifactCorrupt: it is no JSON object.
        """
        key = f"{self._prefix}/{record_name(index)}"
        blob = self._store.get(key, max_bytes=MAX_JSON_BYTES)
        return None if blob is None else json_object(blob.data, key)

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """(index, record) of the newest one: three reads as a rule, however many there are."""
        index = self._hinted()
        if index is not None:
            found = self.read(index)
            for _ in range(_STEPS_FROM_HINT):
                following = self.read(index + 1) if found is not None else None
                if following is None:
                    break
                index, found = index + 1, following
            else:
                found = None  # a hint this stale is not worth following
            if found is not None:
                return index, found
        names = (key.removeprefix(f"{self._prefix}/") for key in self._store.list(f"{self._prefix}/"))
        last = max((index for index in map(record_index, names) if index is not None), default=-1)
        found = self.read(last) if last >= 0 else None
        while found is not None and (following := self.read(last + 1)) is not None:  # a listing may be older than the newest record
            last, found = last + 1, following
        return None if found is None else (last, found)

    def _hinted(self) -> int | None:
        try:
            hint = self._store.get(f"{self._prefix}/HEAD", max_bytes=_MAX_HINT_BYTES)
        except ArtifactCorrupt:  # too long for a hint
            return None
        return int(hint.data) if hint is not None and hint.data.isdigit() and len(hint.data) <= 12 else None

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(index, record), oldest first, up to the first gap; several reads are under way at once."""
        newest = self.latest()
        if newest is None:
            return
        with ThreadPoolExecutor(_READERS, thread_name_prefix="optimas-log") as readers:
            for index, found in enumerate(readers.map(self.read, range(newest[0] + 1))):
                if found is None:
                    return
                yield index, found


def json_object(data: bytes, key: str) -> dict[str, Any]:
    """Raises: ArtifactCorrupt: `data` is no JSON object; names `key`."""
    try:
        value = parse_json(data)
    except ValueError as error:
        raise ArtifactCorrupt(f"{key} is not JSON that is read ({error}).", remedy="Restore the file from a backup.") from None
    if not isinstance(value, dict):
        raise ArtifactCorrupt(f"{key} is not a JSON object.", remedy="Restore it from a backup.")
    return value
