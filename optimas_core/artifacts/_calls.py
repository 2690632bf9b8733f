"""Results of model and tool calls under their content address: what was paid for once is never paid for again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimas_core.artifacts._layout import check_digest
from optimas_core.artifacts._store import Conflict, Store
from optimas_core.canonical import MAX_DEPTH, MAX_JSON_BYTES, canonical_json, digest, parse_json
from optimas_core.errors import ArtifactCorrupt

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CallStore:
    """JSON records below calls/<hh>/<digest>, shared by all runs and pods; the first writer of a record wins.

    `durable=False` (the default) does not flush each record of a local directory to the disk: a record lost in a power
    cut costs one call, a flush for each would cost more than many calls do. `only_for` a run: records of its own, which no
    other run wrote or reads.
    """

    store: Store
    durable: bool = False
    only_for: str = ""

    def get(self, call: str) -> dict[str, Any] | None:
        """The record of a call digest. A damaged one counts as absent, with a warning."""
        return self._get(call)[0]

    def put(self, call: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a record and return the one that counts: the first that was written, which may not be ours."""
        key = self._key(call)
        plain: dict[str, Any] = json.loads(canonical_json(record))
        body = json.dumps({"check": digest(plain), "record": plain}, sort_keys=True, separators=(",", ":")).encode()
        try:
            self.store.put(key, body, if_absent=True, durable=self.durable)
            return plain
        except Conflict:
            winner, etag = self._get(call)
            if winner is not None:
                return winner
        try:  # damaged: replace exactly what we saw, unless another did so first
            if etag is None:
                self.store.put(key, body, if_absent=True, durable=self.durable)
            else:
                self.store.put(key, body, if_match=etag, durable=self.durable)
        except Conflict:
            return self.get(call) or plain
        return plain

    def _get(self, call: str) -> tuple[dict[str, Any] | None, str | None]:
        etag = None
        try:
            blob = self.store.get(self._key(call), max_bytes=MAX_JSON_BYTES)
            if blob is None:
                return None, None
            etag = blob.etag
            body = parse_json(blob.data, max_depth=MAX_DEPTH + 1)
            record = body["record"]
            if isinstance(record, dict) and body["check"] == digest(record):
                return record, etag
        except (ValueError, KeyError, TypeError, ArtifactCorrupt):  # the last: larger than any record
            record = None
        _log.warning("%s in %s is damaged; the call is made again", self._key(call), self.store.url)
        return None, etag

    def _key(self, call: str) -> str:
        name = digest([self.only_for, check_digest(call)]) if self.only_for else check_digest(call)
        return f"calls/{name[:2]}/{name}"
