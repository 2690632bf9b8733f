"""Parquet to rows, trusting nothing: version, columns, types, nulls, numbers, keys and sizes are checked.

A damaged or hostile file gives ArtifactCorrupt and a bounded use of memory, never a crash: sizes are checked in the
footer before anything is read, and the data itself is counted batch by batch, since a footer may lie.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from optimas_core.artifacts import tables
from optimas_core.artifacts._table_writing import arrow_schema, key_digest
from optimas_core.artifacts.tables import COMMON, Row, TableVersion
from optimas_core.errors import ArtifactCorrupt

MAX_ROWS = 20_000_000
MAX_FOOTER_BYTES = 16 << 20
MAX_TABLE_BYTES = 2 << 30
MAX_GROUP_BYTES = 256 << 20
_MAX_COLUMNS = 64
_MAX_ROW_GROUPS = 100_000
_MAX_BATCH_ROWS = 512
_MAX_BATCH_BYTES = 1 << 30
_HEAD = b"PAR1"


def read_table(table: str, data: bytes, *, file: str) -> list[Row]:
    """All rows, in order, lifted to the newest version. `file` is the name errors speak of.

    Raises:
        KeyError: no such table.
        ArtifactCorrupt: the file is damaged, of a newer version, or its content is not the schema's.
    """
    return [row for batch in read_batches(table, data, file=file) for row in batch]


def read_batches(table: str, data: bytes, *, file: str) -> Iterator[list[Row]]:
    """As `read_table`, piece by piece: at most some hundred rows are in memory at once."""
    known = tables.VERSIONS[table]
    try:
        yield from _read(table, known, data, file)
    except ArtifactCorrupt:
        raise
    except (ValueError, OSError, ArithmeticError, MemoryError, RecursionError, TypeError, KeyError) as error:
        # pyarrow's errors derive from these; its text may quote the file's content, so only its kind is told.
        raise _corrupt(file, f"cannot be read as Parquet ({type(error).__name__})") from error


def _read(table: str, known: Any, data: bytes, file: str) -> Iterator[list[Row]]:
    import pyarrow.parquet as pq

    footer_bytes = int.from_bytes(data[-8:-4], "little")
    if len(data) < 12 or data[:4] != _HEAD or data[-4:] != _HEAD or footer_bytes > len(data) - 12:
        raise _corrupt(file, "is not a whole Parquet file")
    if footer_bytes > MAX_FOOTER_BYTES:
        raise _corrupt(file, f"has a footer of {footer_bytes} bytes; at most {MAX_FOOTER_BYTES} are read")
    with pq.ParquetFile(io.BytesIO(data), thrift_string_size_limit=MAX_FOOTER_BYTES, thrift_container_size_limit=1_000_000) as parquet:
        _check_sizes(parquet.metadata, file)
        number = _version_of(table, known, parquet.schema_arrow, file)
        version = known[number]
        _check_columns(table, number, parquet.schema_arrow, file)
        seen: set[bytes] = set()
        rows = total_bytes = 0
        for batch in parquet.iter_batches(batch_size=_batch_rows(parquet.metadata), use_threads=False):
            rows += batch.num_rows
            total_bytes += batch.nbytes
            if total_bytes > MAX_TABLE_BYTES or rows > MAX_ROWS:
                raise _corrupt(file, f"holds more than {MAX_TABLE_BYTES} bytes or {MAX_ROWS} rows")
            _check_values(batch, number, version, file)
            plain = batch.to_pylist()
            _check_keys(plain, version, seen, file)
            yield [_lifted(known, number, row) for row in plain]
        if rows != parquet.metadata.num_rows:
            raise _corrupt(file, f"has {rows} rows where its footer says {parquet.metadata.num_rows}")


def _check_sizes(footer: Any, file: str) -> None:
    if not 0 <= footer.num_rows <= MAX_ROWS:
        raise _corrupt(file, f"claims {footer.num_rows} rows; at most {MAX_ROWS} are read")
    if footer.num_columns > _MAX_COLUMNS or footer.num_row_groups > _MAX_ROW_GROUPS:
        raise _corrupt(file, f"claims {footer.num_columns} columns in {footer.num_row_groups} row groups")
    total = 0
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        if not 0 <= group.total_byte_size <= MAX_GROUP_BYTES:
            raise _corrupt(file, f"claims {group.total_byte_size} bytes in a row group; at most {MAX_GROUP_BYTES}")
        total += group.total_byte_size
    if total > MAX_TABLE_BYTES:
        raise _corrupt(file, f"claims {total} bytes; at most {MAX_TABLE_BYTES} are read")


def _batch_rows(footer: Any) -> int:
    """Rows to decode at once. One long value in a dictionary may stand in every row: assume that it does."""
    groups = (footer.row_group(index) for index in range(footer.num_row_groups))
    largest = max(
        (group.column(index).total_uncompressed_size for group in groups for index in range(footer.num_columns)),
        default=0,
    )
    return max(1, min(_MAX_BATCH_ROWS, _MAX_BATCH_BYTES // max(largest, 1)))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


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
    if schema.names != expected.names:
        raise _corrupt(file, f"has its columns in another order, from {schema.names[0]}")
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
        if column.type == "json":
            for value in values.to_pylist():
                _check_json(value, column.name, file)


def _check_json(value: str | None, column: str, file: str) -> None:
    if value is None:
        return
    try:
        json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _corrupt(file, f"column {column} has a value that is not JSON") from error


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
