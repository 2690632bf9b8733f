"""A workspace (all runs, the call cache, the promoted pointers) and one run in it, over any store."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optimas_core.artifacts._calls import CallStore
from optimas_core.artifacts._layout import check_digest, check_name, record_name
from optimas_core.artifacts._log import RecordLog, json_object
from optimas_core.artifacts._manifest import Artifact, commit, load
from optimas_core.artifacts._pointer import PromotedPointer
from optimas_core.artifacts._probe import open_store
from optimas_core.artifacts._store import Conflict, Store, is_key
from optimas_core.canonical import MAX_JSON_BYTES, canonical_json, digest
from optimas_core.errors import ArtifactCorrupt, LeaseLost

# A report of thousands of iterations has some megabytes.
MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class StoredState:
    """Controller state `index`, appended under lease epoch `epoch` (0: without a lease)."""

    index: int
    epoch: int
    data: dict[str, Any]


@dataclass(frozen=True)
class Workspace:
    """Everything Optimas keeps. `Workspace.open("s3://bucket/optimas")` or `Workspace.open("./workspace")`."""

    store: Store

    @classmethod
    def open(cls, location: str | os.PathLike[str]) -> Workspace:
        """Raises: EnvironmentNotReady: not an address of a store."""
        return cls(open_store(location))

    @property
    def url(self) -> str:
        return self.store.url

    @property
    def calls(self) -> CallStore:
        """Results of model and tool calls, shared by all runs."""
        return CallStore(self.store)

    def run(self, run_id: str) -> RunWorkspace:
        """Raises: SpecError: the id cannot be used as a name."""
        return RunWorkspace(self.store, check_name("run id", run_id))

    def run_ids(self) -> list[str]:
        """Runs that have a frozen spec, in order of their ids."""
        keys = (key.split("/") for key in self.store.list("runs/"))
        return sorted({parts[1] for parts in keys if len(parts) == 3 and parts[2] == "spec.json"})

    def promoted(self, system: str) -> PromotedPointer:
        """Raises: SpecError: the system's name cannot be used as a name."""
        return PromotedPointer(self.store, check_name("system name", system))


@dataclass(frozen=True)
class RunWorkspace:
    """One run's part of a workspace: frozen spec, append-only states, artifacts."""

    store: Store
    run_id: str

    @property
    def prefix(self) -> str:
        return f"runs/{self.run_id}"

    @property
    def uri(self) -> str:
        return f"{self.store.url}/{self.prefix}"

    # The frozen spec

    def freeze_spec(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Write spec.json once and return what is frozen. The same spec again is fine.

        Raises:
            Conflict: the run has another spec; a run's spec never changes.
        """
        data = _json_bytes(spec)
        try:
            self.store.put(f"{self.prefix}/spec.json", data, if_absent=True)
        except Conflict:
            frozen = self.read_spec()
            if frozen is None or _json_bytes(frozen) != data:
                raise Conflict(
                    f"run {self.run_id} in {self.store.url} was started with another spec.",
                    remedy="Choose a new run id, or resume with the spec it was started with.",
                ) from None
        return dict(json.loads(data))

    def read_spec(self) -> dict[str, Any] | None:
        return self._read_json("spec.json")

    # States: one writer wins index n

    def append_state(self, index: int, data: Mapping[str, Any], *, epoch: int = 0) -> None:
        """Append state `index`; whoever writes it first wins. `epoch` is the lease's fencing token.

        Raises:
            Conflict: the index is taken, or the one before it is missing.
            LeaseLost: the lease or a state is of a later epoch: another process holds the run now.
        """
        if index > 0:
            before = self.read_state(index - 1)
            if before is None:
                raise Conflict(f"state {index} of run {self.run_id} cannot be appended: state {index - 1} is missing.")
            self._check_epoch(before.epoch, epoch)
        if epoch > 0:
            self._check_epoch((self._read_json("lease.json") or {}).get("epoch"), epoch)
        body = _json_bytes({"index": index, "epoch": epoch, "check": digest(data), "state": data})
        try:
            self._states.append(index, body)
        except Conflict:
            there = self.read_state(index)
            if there is not None:
                self._check_epoch(there.epoch, epoch)
            # An epoch has one holder: the same bytes are our own earlier try, whose answer was lost.
            if epoch == 0 or there is None or (there.epoch, digest(there.data)) != (epoch, digest(data)):
                raise
            self._states.hint(index)

    def _check_epoch(self, found: Any, ours: int) -> None:
        if isinstance(found, int) and found > ours:
            raise LeaseLost(
                f"run {self.run_id} is under lease epoch {found} now; ours is {ours}.",
                remedy="Another process continues it: watch that one with `optimas watch`.",
            )

    def read_state(self, index: int) -> StoredState | None:
        """Raises: ArtifactCorrupt: the file is not a state."""
        body = self._states.read(index)
        return None if body is None else self._checked_state(index, body)

    def latest_state(self) -> StoredState | None:
        """The newest state: three reads as a rule, however many states there are."""
        found = self._states.latest()
        return None if found is None else self._checked_state(*found)

    def states(self) -> Iterator[StoredState]:
        """All states, oldest first."""
        return (self._checked_state(index, body) for index, body in self._states.records())

    def _checked_state(self, index: int, body: Mapping[str, Any]) -> StoredState:
        data = body.get("state")
        epoch = body.get("epoch")
        if body.get("index") != index or type(epoch) is not int or not isinstance(data, dict) or body.get("check") != digest(data):
            raise ArtifactCorrupt(
                f"{self.prefix}/state/{record_name(index)} does not match its own check sum.", remedy="Restore the file from a backup."
            )
        return StoredState(index, epoch, data)

    @property
    def _states(self) -> RecordLog:
        return RecordLog(self.store, f"{self.prefix}/state")

    # The ledger: every process of the run appends to it

    @property
    def ledger(self) -> RecordLog:
        """What the run's processes may spend and have spent; `rollouts.Budget` writes it."""
        return RecordLog(self.store, f"{self.prefix}/ledger")

    # Artifacts and configurations

    def commit_artifact(
        self,
        kind: str,
        digest: str,
        files: Mapping[str, bytes],
        *,
        inputs: Mapping[str, str],
        producer: str,
        created_at: str,
        schemas: Mapping[str, int] | None = None,
    ) -> Artifact:
        """Write `files` and then the manifest that makes them exist. Committing the same again is fine.

        `digest` is the artifact's name: of inputs, configuration, code and seed. `producer` is the code's digest,
        `created_at` the run's frozen time (ISO 8601).

        Raises:
            ArtifactCorrupt: the name is taken by other content.
        """
        return commit(
            self.store,
            self.prefix,
            kind,
            digest,
            files,
            inputs=inputs,
            producer=producer,
            created_at=created_at,
            schemas=schemas or {},
        )

    def open_artifact(self, kind: str, digest: str) -> Artifact | None:
        """The committed artifact, or None: files without a manifest do not exist.

        Raises:
            ArtifactCorrupt: the manifest is damaged.
        """
        return load(self.store, self.prefix, kind, digest)

    def put_configuration(self, configuration: Mapping[str, Any]) -> str:
        """Keep a configuration under its digest; returns the digest."""
        name = digest(configuration)
        with contextlib.suppress(Conflict):  # the same content is there
            self.store.put(f"{self.prefix}/configurations/{name}.json", _json_bytes(configuration), if_absent=True)
        return name

    def read_configuration(self, name: str) -> dict[str, Any] | None:
        """Raises: ArtifactCorrupt: the content is not what its name says."""
        found = self._read_json(f"configurations/{check_digest(name)}.json")
        if found is not None and digest(found) != name:
            raise ArtifactCorrupt(f"{self.prefix}/configurations/{name}.json has digest {digest(found)}.", remedy="Restore or delete it.")
        return found

    # Plain files of the run (report/report.html): the last writer wins

    def write_file(self, name: str, data: bytes) -> str:
        """Write runs/<run_id>/<name>; returns its URI. Only below report/: all else has its own rules."""
        if not name.startswith("report/"):
            raise ValueError(f"only report/ holds plain files, not {name!r}")
        self.store.put(f"{self.prefix}/{name}", data)
        return f"{self.uri}/{name}"

    def read_file(self, name: str) -> bytes | None:
        """Raises: ArtifactCorrupt: it has more than `MAX_FILE_BYTES`."""
        blob = self.store.get(f"{self.prefix}/{name}", max_bytes=MAX_FILE_BYTES) if is_key(name) else None
        return blob.data if blob is not None else None

    def _read_json(self, name: str) -> dict[str, Any] | None:
        key = f"{self.prefix}/{name}"
        blob = self.store.get(key, max_bytes=MAX_JSON_BYTES)
        return None if blob is None else json_object(blob.data, key)


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    # Escaped to ASCII, so that a lone surrogate in a model's text survives the way through the file.
    plain = json.loads(canonical_json(value))
    return (json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode("ascii")
