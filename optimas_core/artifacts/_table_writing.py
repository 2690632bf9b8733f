"""Rows to Parquet, with the same bytes for the same rows."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, Self

from optimas_core.artifacts import tables
from optimas_core.artifacts.tables import COMMON, Column, Row
from optimas_core.errors import ArtifactCorrupt

ROW_GROUP_ROWS = 4096
_MAX_INT = 2**63 - 1


def write_table(table: str, rows: Iterable[Mapping[str, Any]], *, run_id: str, created_at: str) -> bytes:
    """The Parquet bytes of `rows` in the order given, in the table's newest version.

    The same rows, run id and (frozen) time give the same bytes with the same pyarrow. `schema_version`, `run_id` and
    `created_at` are added here.

    Raises:
        KeyError: no such table.
        ArtifactCorrupt: a row has a missing or unknown column, a wrong type, NaN or infinity, or repeats a key;
            nothing is written then.
    """
    sink = io.BytesIO()
    with TableWriter(table, sink, run_id=run_id, created_at=created_at) as writer:
        writer.append(rows)
    return sink.getvalue()


class TableWriter:
    """Writes a large table piece by piece. How rows are cut into `append` calls does not change the bytes."""

    def __init__(self, table: str, sink: BinaryIO, *, run_id: str, created_at: str) -> None:
        import pyarrow.parquet as pq

        self._table = table
        self._number = tables.current_version(table)
        self._version = tables.VERSIONS[table][self._number]
        self._common = {"schema_version": self._number, "run_id": run_id, "created_at": created_at}
        self._columns = (*COMMON, *self._version.columns)
        self._names = {column.name for column in self._version.columns}
        self._schema = arrow_schema(table, self._number)
        self._waiting: list[Row] = []
        self._keys: set[bytes] = set()
        self._rows = 0
        # With the checksum of each page a damaged file can say which of its columns is damaged.
        self._writer = pq.ParquetWriter(
            sink, self._schema, compression="zstd", compression_level=3, version="2.6", use_dictionary=True, write_page_checksum=True
        )

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Raises: ArtifactCorrupt: as `write_table`."""
        for row in rows:
            self._waiting.append(self._checked(row))
            self._rows += 1
            if len(self._waiting) == ROW_GROUP_ROWS:
                self._flush()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        arrays = []
        for column, field in zip(self._columns, self._schema, strict=True):
            arrays.append(pa.array([row[column.name] for row in self._waiting], type=field.type))
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=ROW_GROUP_ROWS)
        self._waiting = []

    def _checked(self, row: Mapping[str, Any]) -> Row:
        if row.keys() != self._names:
            missing = ", ".join(sorted(self._names - row.keys()))
            unknown = ", ".join(sorted(row.keys() - self._names))
            what = f"lacks {missing}" if missing else f"has the unknown column {unknown}"
            raise ArtifactCorrupt(f"row {self._rows} for table {self._table} {what}.")
        checked = {name: value for name, value in self._common.items()}
        for column in self._version.columns:
            checked[column.name] = self._value(column, row[column.name])
        if self._version.key:
            key = key_digest(checked, self._version.key)
            if key in self._keys:
                raise ArtifactCorrupt(f"row {self._rows} for table {self._table} repeats the key ({', '.join(self._version.key)}).")
            self._keys.add(key)
        return checked

    def _value(self, column: Column, value: Any) -> Any:
        if value is None:
            if column.nullable:
                return None
            raise self._wrong(column, value)
        match column.type:
            case "text" if isinstance(value, str):
                if column.allowed and value not in column.allowed:
                    raise self._wrong(column, value)
                try:
                    value.encode()
                except UnicodeEncodeError:
                    raise self._wrong(column, value) from None
                return value
            case "json" if isinstance(value, str):
                # A lone surrogate has no UTF-8; inside JSON text its escape \udc80 means the same character.
                return value.encode("utf-8", "backslashreplace").decode()
            case "bool" if isinstance(value, bool):
                return value
            case "int" if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INT:
                return value
            case "float" if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        raise self._wrong(column, value)

    def _wrong(self, column: Column, value: Any) -> ArtifactCorrupt:
        expected = f"one of {', '.join(column.allowed)}" if column.allowed else f"a {column.type}"
        return ArtifactCorrupt(
            f"row {self._rows} for table {self._table}: column {column.name} must be {expected}"
            f"{' or null' if column.nullable else ''}, not {ascii(value)[:80]}."
        )


def key_digest(row: Row, names: tuple[str, ...]) -> bytes:
    """16 bytes that stand for the row's key: a key may hold long JSON, and millions of them are remembered."""
    text = repr([row[name] for name in names]).encode("utf-8", "backslashreplace")
    return hashlib.blake2b(text, digest_size=16).digest()


def arrow_schema(table: str, version: int) -> Any:
    """The pyarrow.Schema of one version, with the table's name and version in its metadata."""
    import pyarrow as pa

    types = {"text": pa.string(), "json": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    fields = [
        pa.field(column.name, types[column.type], nullable=column.nullable)
        for column in (*COMMON, *tables.VERSIONS[table][version].columns)
    ]
    return pa.schema(fields, metadata={"optimas.table": table, "optimas.schema_version": str(version)})
