"""The data of a run. What lies outside the project may change while the run goes on, so the run keeps a copy of it.

A copy is named by the digest of its content and lies at `data/<digest>.jsonl` in the workspace: one line for each example.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimas_core.artifacts import Conflict, Workspace, open_store
from optimas_core.canonical import MAX_DEPTH, canonical_json, digest, parse_json
from optimas_core.errors import ArtifactCorrupt, DataError, SpecError
from optimas_core.spec import DataSettings
from optimas_core.system import Example, Split, checked_split, read_examples, split_examples

_PARTS = ("train", "validation", "test")
_ELSEWHERE = ("s3://", "hf:")


def read_split(data: DataSettings, directory: Path) -> Split:
    """Read and divide the examples that `data` names; relative paths are taken from `directory`.

    Raises:
        DataError: a source that is absent or unreadable, or an example in two parts.
        SpecError: neither one source nor three.
    """
    named = [data.train, data.validation, data.test]
    if data.source and not any(named):
        rows = _examples(data.source, directory, data.id_column)
        parts = data.split
        return split_examples(rows, train=parts.train, validation=parts.validation, test=parts.test, seed=parts.seed)
    if data.source or not (data.train and data.validation and data.test):
        raise SpecError("data needs either `source`, or all of `train`, `validation` and `test`.", remedy="Name one or the three.")
    return checked_split(*(_examples(source, directory, data.id_column) for source in (data.train, data.validation, data.test)))


def data_digest(split: Split) -> str:
    """Digest of every example and of the split it is in."""
    return digest([[[item.id, item.fields] for item in part] for part in (split.train, split.validation, split.test)])


def lies_elsewhere(data: DataSettings) -> bool:
    """Whether a source lies outside the project, where it may change."""
    return any(source.startswith(_ELSEWHERE) for source in (data.source, data.train, data.validation, data.test) if source)


def keep_data(workspace: Workspace, split: Split) -> None:
    """Store the copy, unless it is there. A damaged one is replaced."""
    parts = zip(_PARTS, (split.train, split.validation, split.test), strict=True)
    # Fields as pairs: an object of canonical JSON would lose their order, which a metric may read.
    lines = [canonical_json({"part": name, "id": item.id, "fields": list(item.fields.items())}) for name, part in parts for item in part]
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    key = _key(data_digest(split))
    try:
        workspace.store.put(key, data, if_absent=True)
    except Conflict:
        there = workspace.store.get(key)
        if there is not None and there.data != data:
            with contextlib.suppress(Conflict):  # another process replaces it too
                workspace.store.put(key, data, if_match=there.etag)


def kept_data(workspace: Workspace, name: str) -> Split:
    """The copy of that digest.

    Raises:
        ArtifactCorrupt: it is gone, or not what its name says.
    """
    blob = workspace.store.get(_key(name))
    if blob is None:
        raise ArtifactCorrupt(f"{workspace.url}/{_key(name)} is gone.", remedy="Restore it, or start a new run.")
    parts: dict[str, list[Example]] = {part: [] for part in _PARTS}
    try:
        for line in blob.data.split(b"\n"):  # not splitlines: a text may hold other characters that end a line
            if line:
                row: Any = parse_json(line.decode("utf-8", "surrogatepass"), max_depth=MAX_DEPTH + 3)
                parts[row["part"]].append(Example(row["id"], dict(row["fields"])))
        split = Split(*(tuple(parts[part]) for part in _PARTS))
        whole = data_digest(split) == name
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ArtifactCorrupt(f"{workspace.url}/{_key(name)} is damaged.", remedy="Restore it, or start a new run.")
    return split


def _key(name: str) -> str:
    return f"data/{name}.jsonl"


def _examples(source: str, directory: Path, id_column: str | None) -> Sequence[Example]:
    if not source.startswith("s3://"):
        return read_examples(source, base=directory, id_column=id_column)
    place, _, name = source.rpartition("/")
    if place == "s3:/" or not name:
        raise DataError(f"{source!r} names no object of a bucket.", remedy="Write s3://bucket/path/file.jsonl or file.parquet.")
    try:
        blob = open_store(place).get(name)
    except ValueError:
        raise DataError(
            f"{source!r} has a name that cannot be read.", remedy="Use letters, digits, '.', '-' and '_' in the parts of a name."
        ) from None
    if blob is None:
        raise DataError(f"{source} does not exist.", remedy="Correct the address in run.yaml.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(blob.data)
        try:
            return read_examples(name, base=path.parent, id_column=id_column)
        except DataError as error:  # it speaks of the file here
            raise DataError(error.message.replace(str(path), source), remedy=error.remedy) from None
