"""Parquet tables gone wrong: other columns, types, values, metadata, encodings, and broken bytes where they hurt most."""

from __future__ import annotations

import io
import random
from typing import Any

from _fuzz.mutations import HOSTILE, broken_bytes

_TEXTS = (
    *tuple(item for item in HOSTILE if isinstance(item, str) and item.isprintable()),
    "\x00",
    "{",
    "[]",
    "[" * 200,
    "1e999",
    '{"a":1,"a":2}',
)
_NUMBERS = tuple(item for item in HOSTILE if isinstance(item, int | float) and not isinstance(item, bool) and abs(item) < 2**63)
_CODECS = ("none", "snappy", "gzip", "zstd", "lz4", "brotli")


def broken_table(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Half the time another valid Parquet file of other content, else damaged bytes of this one."""
    if rng.random() < 0.5:
        return _broken_file(data, rng, other)
    try:
        made = _rewritten(data, rng, other)
    except Exception:  # what pyarrow refuses to read or to write is no input
        return _broken_file(data, rng, other)
    return _broken_file(made, rng, other) if rng.random() < 0.1 else made


def _broken_file(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Damage in the pages or in the footer, the frame around them mostly left whole: else nothing is read at all."""
    size = int.from_bytes(data[-8:-4], "little")
    if rng.random() < 0.1 or not 0 < size < len(data) - 12:
        return broken_bytes(data, rng, other)
    pages, footer = data[4 : -8 - size], data[-8 - size : -8]
    if rng.random() < 0.6:
        footer = broken_bytes(footer, rng)
    else:
        pages = broken_bytes(pages, rng)
    length = len(footer) if rng.random() < 0.95 else rng.choice((0, 1, len(footer) - 1, 2**31, 2**32 - 1))
    return data[:4] + pages + footer + length.to_bytes(4, "little") + data[-4:]


def _rewritten(data: bytes, rng: random.Random, other: bytes) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    for _ in range(rng.choice((1, 1, 2, 3))):
        table = _changed(table, rng, other, pa, pq)
    sink = io.BytesIO()
    with_dictionary = rng.random() < 0.7
    options: dict[str, Any] = {"compression": rng.choice(_CODECS), "use_dictionary": with_dictionary, "store_schema": rng.random() < 0.8}
    options |= {"version": rng.choice(("1.0", "2.4", "2.6")), "data_page_version": rng.choice(("1.0", "2.0"))}
    options |= {"row_group_size": rng.choice((1, 2, 1000)), "data_page_size": rng.choice((1, 100, 1 << 20))}
    options |= {"write_statistics": rng.random() < 0.5}
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _changed(table: Any, rng: random.Random, other: bytes, pa: Any, pq: Any) -> Any:
    index = rng.randrange(table.num_columns) if table.num_columns else 0
    field: Any = table.schema.field(index) if table.num_columns else None
    values: list[Any] = table.column(index).to_pylist() if table.num_columns else []
    match rng.randrange(11):
        case 0:
            return table.remove_column(index)
        case 1:
            order = list(range(table.num_columns))
            rng.shuffle(order)
            return table.select(order)
        case 2:  # two columns change places and keep their names
            second = rng.randrange(table.num_columns)
            names = table.column_names
            names[index], names[second] = names[second], names[index]
            return table.rename_columns(names)
        case 3:
            name = rng.choice((*table.column_names, "", "x" * 500, "\0", "../x", "\x1b[31m", "reward "))
            return table.append_column(name, pa.array([rng.choice(HOSTILE[:12]) is None] * table.num_rows))
        case 4:
            kinds = (pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.int32(), pa.float32(), pa.bool_(), pa.null(), pa.date32())
            return table.set_column(index, field.name, pa.array([None] * table.num_rows, rng.choice(kinds)))
        case 5 | 6 if values:
            pool: Any = _TEXTS if pa.types.is_string(field.type) else (None, *_NUMBERS, float("nan"), float("inf"))
            values[rng.randrange(len(values))] = rng.choice((None, *pool))
            return table.set_column(index, pa.field(field.name, field.type), pa.array(values, field.type))
        case 7:
            rows = [rng.randrange(max(table.num_rows, 1)) for _ in range(rng.choice((0, 1, 3, 700)))]
            return table.take(rows)
        case 8:
            about = dict(table.schema.metadata or {})
            about[rng.choice((b"optimas.table", b"optimas.schema_version", b"ARROW:schema", b"pandas", b"x"))] = rng.choice(
                (b"", b"0", b"2", b"-1", b"9" * 30, b"\xff", b"rollouts", b"ledger", b"\xd9\xa1", b"{", b"1\0")
            )
            return table.replace_schema_metadata(about)
        case 9 if other:
            return pq.read_table(io.BytesIO(other))
        case _:
            nested: tuple[Any, ...] = ([[1]], [{"a": 1}], [{}], [[[]]])
            return table.append_column("x", pa.array(rng.choice(nested) * table.num_rows))
