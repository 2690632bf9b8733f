"""Parquet to rows, trusting nothing: version, columns, types, nulls, numbers, keys and sizes are checked.

A damaged or hostile file gives ArtifactCorrupt and a bounded use of memory, never a crash: what its pages unfold to is
read from their own headers before anything is decompressed, and what comes out of them is counted batch by batch. A file
below `_ANY_RATIO_BYTES` of content may be compressed as much as it likes, a larger one `MAX_RATIO` times.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from optimas_core._parquet_shape import MAX_FOOTER_BYTES, ColumnDamaged, ParquetShape, parquet_shape
from optimas_core.artifacts import tables
from optimas_core.artifacts._table_writing import arrow_schema, key_digest
from optimas_core.artifacts.tables import COMMON, Row, TableVersion
from optimas_core.canonical import parse_json
from optimas_core.errors import ArtifactCorrupt

MAX_ROWS = 4_000_000
MAX_TABLE_BYTES = 2 << 30
MAX_GROUP_BYTES = 256 << 20
MAX_RATIO = 1024
_ANY_RATIO_BYTES = 32 << 20
_MAX_COLUMNS = 64
_MAX_ROW_GROUPS = 4096
_MAX_BATCH_ROWS = 512
_MAX_BATCH_BYTES = 32 << 20
# About what a value costs as an item of a dict, its text not counted.
_VALUE_BYTES = 32
# Delta encodings, which we never write: a value may be longer than what is stored of it.
_DELTAS = frozenset({5, 6, 7})
# What pyarrow's errors derive from.
_PYARROW_ERRORS = (ValueError, OSError, ArithmeticError, MemoryError, RuntimeError, TypeError, KeyError)


def read_table(table: str, data: bytes, *, file: str) -> list[Row]:
    """All rows, in order, lifted to the newest version. `file` is the name errors speak of.

    A text that stands in many rows is one object in memory.

    Raises:
        KeyError: no such table.
        ArtifactCorrupt: the file is damaged, of a newer version, or its content is not the schema's.
    """
    texts: dict[str, str] = {}
    rows: list[Row] = []
    allowed, held = _allowed_bytes(data), 0
    for batch in read_batches(table, data, file=file):
        for row in batch:
            held += len(row) * _VALUE_BYTES
            for name, value in row.items():
                if isinstance(value, str):
                    row[name] = texts.setdefault(value, value)
                    held += len(value) if row[name] is value else 0
        rows += batch
        if held > allowed:
            raise _corrupt(file, f"unfolds to more than {allowed} bytes of rows")
    return rows


def read_batches(table: str, data: bytes, *, file: str) -> Iterator[list[Row]]:
    """As `read_table`, piece by piece: at most some hundred rows are in memory at once."""
    known = tables.VERSIONS[table]
    try:
        yield from _read(table, known, data, file)
    except ArtifactCorrupt:
        raise
    except _PYARROW_ERRORS as error:
        # Their text may quote the file's content, so only the kind is told.
        column = damaged_column(data)
        where = f" in column {column}" if column else ""
        raise _corrupt(file, f"cannot be read as Parquet{where} ({type(error).__name__})") from error


def damaged_column(data: bytes) -> str | None:
    """The first column whose pages are not what was written; None where none can be told, as in a file that was cut."""
    try:
        shape = parquet_shape(data, max_footer_bytes=MAX_FOOTER_BYTES)
        _check_sizes(shape, data, "it")
        with _opened(data) as parquet:
            for name in parquet.schema_arrow.names:
                try:
                    for _ in parquet.iter_batches(batch_size=_rows_at_once(shape), columns=[name], use_threads=False):
                        pass
                except _PYARROW_ERRORS:
                    return str(name).encode("ascii", "backslashreplace").decode()[:80]
    except ColumnDamaged as error:
        return error.column
    except (ArtifactCorrupt, *_PYARROW_ERRORS):
        return None
    return None


def _read(table: str, known: Any, data: bytes, file: str) -> Iterator[list[Row]]:
    try:
        shape = parquet_shape(data, max_footer_bytes=MAX_FOOTER_BYTES)
    except ValueError as error:
        raise _corrupt(file, str(error)) from None
    _check_sizes(shape, data, file)
    with _opened(data) as parquet:
        number = _version_of(table, known, parquet.schema_arrow, file)
        version = known[number]
        _check_columns(table, number, parquet.schema_arrow, file)
        seen: set[bytes] = set()
        rows = total_bytes = 0
        for batch in parquet.iter_batches(batch_size=_rows_at_once(shape), use_threads=False):
            rows += batch.num_rows
            total_bytes += batch.nbytes
            if total_bytes > MAX_TABLE_BYTES or rows > MAX_ROWS:
                raise _corrupt(file, f"holds more than {MAX_TABLE_BYTES} bytes or {MAX_ROWS} rows")
            _check_values(batch, number, version, file)
            plain = batch.to_pylist()
            _check_json(plain, version, file)
            _check_keys(plain, version, seen, file)
            yield [_lifted(known, number, row) for row in plain]
        if rows != shape.rows:
            raise _corrupt(file, f"has {rows} rows where its footer says {shape.rows}")


def _opened(data: bytes) -> Any:
    """The pyarrow.parquet.ParquetFile; what its pages hold is checked against their checksums where they have one."""
    import pyarrow.parquet as pq

    limits = {"thrift_string_size_limit": MAX_FOOTER_BYTES, "thrift_container_size_limit": 1_000_000}
    return pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True, **limits)


def _rows_at_once(shape: ParquetShape) -> int:
    return shape.batch_rows(_MAX_BATCH_ROWS, _MAX_BATCH_BYTES)


def _check_sizes(shape: ParquetShape, data: bytes, file: str) -> None:
    if shape.rows > MAX_ROWS:
        raise _corrupt(file, f"claims {shape.rows} rows; at most {MAX_ROWS} are read")
    if shape.columns > _MAX_COLUMNS or shape.row_groups > _MAX_ROW_GROUPS:
        raise _corrupt(file, f"claims {shape.columns} columns in {shape.row_groups} row groups")
    if shape.largest_group_bytes > MAX_GROUP_BYTES:
        raise _corrupt(file, f"claims {shape.largest_group_bytes} bytes in a row group; at most {MAX_GROUP_BYTES}")
    allowed = _allowed_bytes(data)
    if shape.pages_bytes > allowed:
        raise _corrupt(file, f"claims {shape.pages_bytes} bytes; of a file of {len(data)} at most {allowed} are read")
    if not shape.flat or shape.encodings & _DELTAS:
        raise _corrupt(file, "has columns of a form that no table of ours has")


def _allowed_bytes(data: bytes) -> int:
    """What a file of this size may unfold to."""
    return min(MAX_TABLE_BYTES, max(_ANY_RATIO_BYTES, MAX_RATIO * len(data)))


def _version_of(table: str, known: Any, schema: Any, file: str) -> int:
    metadata = schema.metadata or {}
    name = metadata.get(b"optimas.table", b"").decode("utf-8", "replace")
    text = metadata.get(b"optimas.schema_version", b"").decode("utf-8", "replace")
    if name != table:
        raise _corrupt(file, f"holds table {name[:40]!r}, not {table!r}")
    if not text.isdecimal() or len(text) > 6 or int(text) not in known:
        newest = max(known)
        newer = text.isdecimal() and len(text) <= 6 and int(text) > newest
        remedy = "It was written by a newer optimas-kube: upgrade." if newer else ""
        raise _corrupt(file, f"has schema_version {text[:20]!r}; known are 1 to {newest}", remedy)
    return int(text)


def _check_columns(table: str, number: int, schema: Any, file: str) -> None:
    expected = arrow_schema(table, number)
    for name in expected.names:
        if name not in schema.names:
            raise _corrupt(file, f"lacks column {name}")
    for name in schema.names:
        if name not in expected.names:
            raise _corrupt(file, f"has the unknown column {name[:80]!r}")
    for index, name in enumerate(schema.names):
        if index >= len(expected.names) or name != expected.names[index]:
            raise _corrupt(file, f"has its columns twice or in another order, from column {name}")
    for field in expected:
        found = schema.field(field.name)
        if found.type != field.type:
            raise _corrupt(file, f"column {field.name} is {str(found.type)[:40]}, not {field.type}")


def _check_values(batch: Any, number: int, version: TableVersion, file: str) -> None:
    import pyarrow.compute as pc

    for column in (*COMMON, *version.columns):
        values = batch.column(column.name)
        if values.null_count and not column.nullable:
            raise _corrupt(file, f"column {column.name} has an empty value")
        if column.type == "float" and not pc.all(pc.is_finite(values), min_count=0).as_py():
            raise _corrupt(file, f"column {column.name} has a NaN or infinite number")
        if column.allowed:
            for value in pc.unique(values).to_pylist():
                if value not in column.allowed and value is not None:
                    raise _corrupt(file, f"column {column.name} has the value {ascii(value)[:60]}")
        if column.name == "schema_version" and any(value != number for value in pc.unique(values).to_pylist()):
            raise _corrupt(file, "column schema_version disagrees with the file's metadata")


def _check_json(rows: list[Row], version: TableVersion, file: str) -> None:
    for name in (column.name for column in version.columns if column.type == "json"):
        for value in (row[name] for row in rows if row[name] is not None):
            try:
                parse_json(value, max_bytes=MAX_GROUP_BYTES)
            except ValueError:  # its text may quote the value
                raise _corrupt(file, f"column {name} has a value that is not JSON") from None


def _check_keys(rows: list[Row], version: TableVersion, seen: set[bytes], file: str) -> None:
    if not version.key:
        return
    for row in rows:
        key = key_digest(row, version.key)
        if key in seen:
            raise _corrupt(file, f"has two rows with the same ({', '.join(version.key)})")
        seen.add(key)


def _lifted(known: Any, number: int, row: Row) -> Row:
    for following in range(number + 1, max(known) + 1):
        lift = known[following].lift
        row = {**lift(row), "schema_version": following}
    return row


def _corrupt(file: str, what: str, remedy: str = "") -> ArtifactCorrupt:
    return ArtifactCorrupt(f"{file} {what}.", remedy=remedy or "Delete its artifact folder and resume the run.")
