"""Artifacts: a folder of files that exists once its manifest does.

Data files are written first, manifest.json last and only if absent: a killed writer leaves files that nobody sees, and
of two concurrent writers one manifest wins. No data file is ever overwritten with other bytes: where an earlier,
unfinished attempt left a file with other content, ours goes beside it under a name that carries its digest, and the
manifest says which one counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimas_core.artifacts._layout import MANIFEST, check_digest, check_kind
from optimas_core.artifacts._store import MAX_VALUE_BYTES, Conflict, Store, check_key
from optimas_core.artifacts._table_reading import damaged_column
from optimas_core.canonical import canonical_json, digest_bytes, parse_json
from optimas_core.errors import ArtifactCorrupt

FORMAT = 1
# Some 20,000 files: whoever needs more writes larger ones.
MAX_MANIFEST_BYTES = 4 << 20
# So much more than the manifest says is still read, to name both sizes; a file beyond that is not read at all.
_OVER_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One data file: `path` is its key below the artifact's folder (mostly its name), `size` in bytes."""

    name: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact consists of and what it was made from.

    `inputs` maps a role ("preferences", "configuration") to a digest; `schemas` a table's name to its version;
    `created_at` is the run's frozen time, given by the caller, so that the same work has the same bytes.
    """

    kind: str
    digest: str
    files: tuple[ArtifactFile, ...]
    inputs: Mapping[str, str]
    schemas: Mapping[str, int]
    producer: str
    created_at: str

    def to_bytes(self) -> bytes:
        body = {
            "format": FORMAT,
            "kind": self.kind,
            "digest": self.digest,
            "files": [{"name": f.name, "path": f.path, "size": f.size, "sha256": f.sha256} for f in self.files],
            "inputs": dict(self.inputs),
            "schemas": dict(self.schemas),
            "producer": self.producer,
            "created_at": self.created_at,
        }
        body["check"] = digest_bytes(canonical_json(body).encode())
        return (json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()

    def same_content(self, other: Manifest) -> bool:
        """Whether both promise the same files from the same inputs; who wrote them when does not matter."""

        def content(manifest: Manifest) -> Any:
            files = [(f.name, f.size, f.sha256) for f in manifest.files]
            return manifest.kind, manifest.digest, files, dict(manifest.inputs), dict(manifest.schemas)

        return bool(content(self) == content(other))


@dataclass(frozen=True)
class Artifact:
    """A committed artifact. Every read is checked against the manifest."""

    store: Store
    folder: str
    manifest: Manifest

    @property
    def uri(self) -> str:
        return f"{self.store.url}/{self.folder}"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(file.name for file in self.manifest.files)

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            KeyError: the artifact has no such file.
            ArtifactCorrupt: the file is gone, or its size or digest is not the manifest's.
        """
        file = next((file for file in self.manifest.files if file.name == name), None)
        if file is None:
            raise KeyError(f"{self.folder} has no file {name!r}; it has {', '.join(self.names)}")
        key = f"{self.folder}/{file.path}"
        blob = self.store.get(key, max_bytes=min(file.size + _OVER_BYTES, MAX_VALUE_BYTES))
        if blob is None:
            raise _corrupt(key, "is named by its manifest but is not there")
        if len(blob.data) != file.size:
            raise _corrupt(key, f"has {len(blob.data)} bytes where its manifest says {file.size}{_where(name, blob.data)}")
        found = hashlib.sha256(blob.data).hexdigest()
        if found != file.sha256:
            raise _corrupt(key, f"has SHA-256 {found[:12]}… where its manifest says {file.sha256[:12]}…{_where(name, blob.data)}")
        return blob.data

    def read_json(self, name: str, *keys: str) -> Any:
        """The value of a JSON file; with `keys` an object that has them.

        Raises:
            KeyError: the artifact has no such file.
            ArtifactCorrupt: as `read`, or it is not JSON, or lacks a key.
        """
        key = f"{self.folder}/{name}"
        try:
            value = parse_json(self.read(name))
        except ValueError as error:
            raise _corrupt(key, f"is not JSON that is read ({error})") from None
        if keys and (not isinstance(value, dict) or not value.keys() >= set(keys)):
            raise _corrupt(key, f"is no object with {', '.join(keys)}")
        return value

    def verify(self) -> None:
        """Read every file. Raises: ArtifactCorrupt: as `read`."""
        for name in self.names:
            self.read(name)

    def local_path(self, below: str | os.PathLike[str]) -> Path:
        """Copy the files to `below`/<kind>-<digest>, for libraries that want a path; returns that folder.

        Files already there with the right bytes are kept, so a pod restarted on the same disk copies nothing.
        """
        folder = Path(below) / f"{self.manifest.kind}-{self.manifest.digest}"
        for file in self.manifest.files:
            target = folder / file.name
            if target.is_file() and target.stat().st_size == file.size and _sha256_of(target) == file.sha256:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
            temporary.write_bytes(self.read(file.name))
            temporary.replace(target)
        return folder


def commit(
    store: Store,
    run_prefix: str,
    kind: str,
    digest: str,
    files: Mapping[str, bytes],
    *,
    inputs: Mapping[str, str],
    producer: str,
    created_at: str,
    schemas: Mapping[str, int],
) -> Artifact:
    """Write data files, then the manifest. See `RunWorkspace.commit_artifact`."""
    if not files or MANIFEST in files:
        raise ValueError(f"an artifact has at least one file, and {MANIFEST} is written by us")
    folder = f"{run_prefix}/{check_kind(kind)}/{check_digest(digest)}"
    described = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}

    def manifest_with(paths: Mapping[str, str]) -> Manifest:
        entries = tuple(ArtifactFile(name, paths[name], len(files[name]), sha) for name, sha in described.items())
        return Manifest(kind, digest, entries, dict(inputs), dict(schemas), producer, created_at)

    existing = load(store, run_prefix, kind, digest)
    if existing is None:
        ours = manifest_with({name: _put_file(store, folder, name, files[name], sha) for name, sha in described.items()})
        try:
            store.put(f"{folder}/{MANIFEST}", ours.to_bytes(), if_absent=True)
            return Artifact(store, folder, ours)
        except Conflict:
            existing = load(store, run_prefix, kind, digest)
            if existing is None:
                raise
    else:
        ours = manifest_with({name: name for name in described})
    if not existing.manifest.same_content(ours):
        raise ArtifactCorrupt(
            f"{folder} is committed already with other content ({_difference(existing.manifest, ours)}).",
            remedy="A name is the digest of everything the content depends on: put what differs into it.",
        )
    return existing


def load(store: Store, run_prefix: str, kind: str, digest: str) -> Artifact | None:
    """The committed artifact, or None where no manifest is."""
    folder = f"{run_prefix}/{check_kind(kind)}/{check_digest(digest)}"
    key = f"{folder}/{MANIFEST}"
    blob = store.get(key, max_bytes=MAX_MANIFEST_BYTES)
    if blob is None:
        return None
    try:
        body = parse_json(blob.data)
        version = body["format"]
        if isinstance(version, int) and version > FORMAT:
            raise _corrupt(key, f"has format {version}, newer than {FORMAT}", "Upgrade optimas-kube.")
        check = body.pop("check")
        if check != digest_bytes(canonical_json(body).encode()):
            raise _corrupt(key, "does not match its own check sum")
        files = tuple(_checked_file(entry) for entry in body["files"])
        if len({file.name for file in files}) != len(files):
            raise ValueError("a file is named twice")
        inputs, schemas, texts = body["inputs"], body["schemas"], (body["producer"], body["created_at"])
        if not all(isinstance(text, str) for text in (*texts, *inputs.values())) or not all(type(n) is int for n in schemas.values()):
            raise TypeError("wrong types")
        manifest = Manifest(body["kind"], body["digest"], files, inputs, schemas, *texts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _corrupt(key, f"is not a manifest ({type(error).__name__})") from error
    if (manifest.kind, manifest.digest) != (kind, digest):
        raise _corrupt(key, f"belongs to {str(manifest.kind)[:60]!a}/{str(manifest.digest)[:80]!a}")
    return Artifact(store, folder, manifest)


def _checked_file(entry: Any) -> ArtifactFile:
    """Raises: ValueError, KeyError, TypeError: it is no entry, or would be read from or written to another place."""
    name, path, size, sha256 = (entry[field] for field in ("name", "path", "size", "sha256"))
    if type(size) is not int or size < 0 or not _SHA256.fullmatch(sha256):
        raise ValueError("an impossible size or digest")
    return ArtifactFile(check_key(name), check_key(path), size, sha256)  # `local_path` writes under the name


def _put_file(store: Store, folder: str, name: str, data: bytes, sha256: str) -> str:
    """Write one data file without ever changing bytes that are there; returns its path below the folder."""
    stem, dot, suffix = name.rpartition(".")
    beside = f"{stem}.{sha256[:12]}.{suffix}" if dot else f"{name}.{sha256[:12]}"
    for path in (name, beside):
        key = check_key(f"{folder}/{path}")
        try:
            store.put(key, data, if_absent=True)
            return path
        except Conflict:
            there = store.get(key)
            if there is not None and there.data == data:
                # Written again so that it is young: `gc` must not take an old attempt's file from under this commit.
                store.put(key, data)
                return path
    raise _corrupt(f"{folder}/{beside}", "has other bytes than the digest in its name says")


def _difference(existing: Manifest, ours: Manifest) -> str:
    there = {file.name: file.sha256 for file in existing.files}
    here = {file.name: file.sha256 for file in ours.files}
    names = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    return f"files {', '.join(names)}" if names else "same files, other inputs or schema versions"


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _where(name: str, data: bytes) -> str:
    """In which column a table is damaged, where its footer can still tell."""
    column = damaged_column(data) if name.endswith(".parquet") else None
    return f", damaged in column {column}" if column else ""


def _corrupt(key: str, what: str, remedy: str = "") -> ArtifactCorrupt:
    return ArtifactCorrupt(f"{key} {what}.", remedy=remedy or "Delete that folder and resume: the stage is run again.")
