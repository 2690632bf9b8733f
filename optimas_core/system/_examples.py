"""Examples: rows of data with an id; read from JSONL, Parquet or Hugging Face `datasets`; split by seed, example by example.

Data may come from anyone: what a small compressed file may unfold to is bounded, before it fills the memory.
"""

from __future__ import annotations

import gzip
import mmap
import os
import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimas_core._parquet_shape import MAX_FOOTER_BYTES, parquet_shape
from optimas_core.canonical import MAX_JSON_BYTES, canonical_json, derive_seed, digest, parse_json
from optimas_core.errors import DataError

# A compressed file may unfold to this many bytes, or to so many times its own size.
_ANY_RATIO_BYTES = 64 << 20
_GZIP_RATIO = 128
_PARQUET_RATIO = 1024
_BATCH_ROWS, _BATCH_BYTES = 1024, 32 << 20


@dataclass(frozen=True, slots=True)
class Example:
    """One row. `fields` holds every column: inputs, the expected answer and whatever the metric reads."""

    id: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Split:
    """Three disjoint lists. `test` is sealed: read once, at the end."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    def of(self, example_id: str) -> Example:
        for part in (self.train, self.validation, self.test):
            for example in part:
                if example.id == example_id:
                    return example
        raise DataError(f"no example has the id {example_id!r}.", remedy="Use the data the run was started with.")


def read_examples(source: str, *, base: Path, id_column: str | None = None) -> tuple[Example, ...]:
    """Read a source: a .jsonl (.gz) or .parquet file (relative to `base`), or `hf:<name or path>[:split]`.

    An example's id is its `id_column` (default `id` where there is one), else the digest of its content.

    Raises:
        DataError: absent or unreadable, not rows, empty, two rows with one id; names file and line.
    """
    rows = list(_rows(source, base))
    if not rows:
        raise DataError(f"{source} holds no examples.", remedy="Give a file with at least one row.")
    column = id_column or ("id" if "id" in rows[0] else None)
    examples = []
    for number, row in enumerate(rows, 1):
        if column and column not in row:
            raise DataError(f"{source} row {number} has no column {column!r}.", remedy="Add it or name another id_column.")
        _require_plain(row, f"{source} row {number}")
        examples.append(Example(str(row[column]) if column else digest(row), row))
    _require_unique(examples, source)
    return tuple(examples)


def split_examples(examples: Sequence[Example], *, train: float, validation: float, test: float, seed: int) -> Split:
    """Shuffle with `seed` and divide by example. Fractions (sum at most 1) or counts.

    Raises:
        DataError: a part would be empty, more examples are asked for than there are, or fractions and counts are mixed.
    """
    wanted = {"train": train, "validation": validation, "test": test}
    for name, value in wanted.items():
        if value <= 0 or (value > 1 and value != int(value)):
            raise DataError(f"the {name} split is {value:g}.", remedy="Give a fraction between 0 and 1, or a count.")
    if any(value < 1 for value in wanted.values()) and any(value >= 1 for value in wanted.values()):
        raise DataError(f"the split {wanted} mixes fractions and counts.", remedy="Give three fractions or three counts.")
    fractions = all(0 < value < 1 for value in wanted.values())
    counts = {name: round(value * len(examples)) if fractions else int(value) for name, value in wanted.items()}
    excess = sum(counts.values()) - len(examples)
    if fractions and sum(wanted.values()) <= 1 + 1e-9 and excess > 0:
        counts["train"] -= excess  # each part was rounded by itself
    if sum(counts.values()) > len(examples):
        raise DataError(
            f"the split asks for {sum(counts.values())} of {len(examples)} examples.",
            remedy="Lower train, validation or test.",
        )
    order = sorted(examples, key=lambda example: example.id)
    random.Random(derive_seed("split", seed)).shuffle(order)
    first, second = counts["train"], counts["train"] + counts["validation"]
    return checked_split(order[:first], order[first:second], order[second : second + counts["test"]])


def checked_split(train: Iterable[Example], validation: Iterable[Example], test: Iterable[Example]) -> Split:
    """Raises DataError for an empty part and for an example that stands in two parts (by id or by content)."""
    split = Split(tuple(train), tuple(validation), tuple(test))
    seen: dict[str, tuple[str, str]] = {}
    for name, part in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        if not part:
            raise DataError(f"the {name} split is empty.", remedy="Give it at least one example.")
        for example in part:
            content = digest({key: value for key, value in example.fields.items() if key != "id"})
            for key in (f"id {example.id}", f"content {content}"):
                other = seen.setdefault(key, (name, example.id))
                if other[0] != name:
                    raise DataError(
                        f"example {example.id!r} is in {name} and {other[0]} (as {other[1]!r}).",
                        remedy="Each example may stand in one split only.",
                    )
    return split


def require_columns(split: Split, columns: Sequence[str]) -> None:
    """Raises DataError if an example lacks a column the system reads; names split, example and column."""
    for name, part in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        for example in part:
            for column in columns:
                if column not in example.fields:
                    raise DataError(
                        f"{name} example {example.id!r} has no column {column!r}.",
                        remedy=f"The system's inputs are {list(columns)}; rename the column or the input.",
                    )


def _rows(source: str, base: Path) -> Iterable[dict[str, Any]]:
    if source.startswith("hf:"):
        return _hugging_face_rows(source[3:], base)
    path = Path(source) if Path(source).is_absolute() else base / source
    if not os.path.isfile(path):  # unlike Path.is_file it also knows a name that is too long
        raise DataError(f"{source} does not exist (looked in {base}).", remedy="Correct the path in run.yaml.")
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    return _jsonl_rows(path)


def _jsonl_rows(path: Path) -> Iterable[dict[str, Any]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise DataError(f"{path} line {number} is not JSON: {error}.", remedy="Write one JSON object a line.") from None
        if not isinstance(row, dict):
            raise DataError(f"{path} line {number} is not an object.", remedy="Write one JSON object a line.")
        yield row


def _lines(path: Path) -> Iterable[str]:
    packed = path.suffix == ".gz"
    try:
        allowed = max(_ANY_RATIO_BYTES, _GZIP_RATIO * path.stat().st_size)
        with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8") as lines:
            while line := lines.readline(MAX_JSON_BYTES + 1):
                allowed -= len(line)
                if len(line) > MAX_JSON_BYTES:
                    raise DataError(f"{path} has a line of more than {MAX_JSON_BYTES} characters.", remedy="Write one JSON object a line.")
                if packed and allowed < 0:
                    raise _unfolds(path, f"{_GZIP_RATIO} times its size")
                yield line
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}.", remedy="Give a whole UTF-8 file.") from None


def _parquet_rows(path: Path) -> Iterable[dict[str, Any]]:
    import pyarrow.lib
    import pyarrow.parquet

    rows: list[dict[str, Any]] = []
    try:
        with path.open("rb") as file:  # the mapping lives on without it, as long as someone looks into it
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        shape, allowed = parquet_shape(view), max(_ANY_RATIO_BYTES, _PARQUET_RATIO * len(view))
        if shape.pages_bytes > allowed:
            raise _unfolds(path, f"{allowed} bytes")
        with pyarrow.parquet.ParquetFile(path, thrift_string_size_limit=MAX_FOOTER_BYTES) as parquet:
            for batch in parquet.iter_batches(shape.batch_rows(_BATCH_ROWS, _BATCH_BYTES)):
                allowed -= batch.nbytes
                if allowed < 0:
                    raise _unfolds(path, f"{_PARQUET_RATIO} times its size")
                rows += batch.to_pylist()
    except (pyarrow.lib.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200].rstrip(".")  # pyarrow's text may have several lines
        raise DataError(f"{path} is not a readable Parquet file: {said}.", remedy="Write it again.") from None
    return rows


def _unfolds(path: Path, size: str) -> DataError:
    return DataError(f"{path} unfolds to more than {size}.", remedy="Give it uncompressed, if you trust it.")


def _hugging_face_rows(name: str, base: Path) -> Iterable[dict[str, Any]]:
    where, _, part = name.partition(":")
    try:
        import datasets

        if (base / where).is_dir():
            loaded = datasets.load_from_disk(str(base / where))
            if isinstance(loaded, datasets.DatasetDict):
                if part not in loaded:
                    raise KeyError(f"it has the splits {sorted(loaded)}, write hf:{where}:{min(loaded)}")
                loaded = loaded[part]
        else:
            loaded = datasets.load_dataset(where, split=part or "train")
    except Exception as error:  # the library raises many kinds; the user needs one sentence
        raise DataError(f"the data set {name!r} cannot be loaded: {error}.", remedy="Check the name, the split and the network.") from None
    return (dict(row) for row in loaded)


def _require_plain(row: Mapping[str, Any], where: str) -> None:
    for column, value in row.items():
        try:
            canonical_json(value)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{where}, column {column!r}: {error}.", remedy="Columns hold text, finite numbers, lists and objects."
            ) from None


def _require_unique(examples: Sequence[Example], source: str) -> None:
    seen: set[str] = set()
    for example in examples:
        try:
            example.id.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{source} holds the id {example.id!a}, which is no text that a table can hold.", remedy="Name another id_column."
            ) from None
        if example.id in seen:
            raise DataError(f"{source} holds the id {example.id!r} twice.", remedy="Give each example its own id.")
        seen.add(example.id)
