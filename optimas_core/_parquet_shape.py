"""What reading a Parquet file would cost, found out before any library allocates memory for it.

A few kilobytes of Parquet may promise gigabytes: pages that inflate, a dictionary value that stands in every row, a
footer of a million columns. So the footer and the header of every page are walked here, with a parser of the Thrift
compact protocol that keeps only what is asked for. Nothing is decompressed.

Format: https://github.com/apache/parquet-format (parquet.thrift), https://github.com/apache/thrift (compact protocol).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_FOOTER_BYTES = 16 << 20
# pyarrow keeps about 100 bytes of memory for each value of a footer, of which one byte may stand in the file.
MAX_FOOTER_VALUES = 1_000_000
_MAX_KEPT = 500_000
_MAX_DEPTH = 12
_MAGIC = b"PAR1"

# What is kept of each struct: field id -> int, bytes, bool, a struct (mapping) or a list of one of them.
_PAGE_HEADER: Mapping[int, Any] = {1: int, 2: int, 3: int, 5: {1: int, 2: int}, 7: {1: int, 2: int}, 8: {1: int, 4: int}}
_COLUMN: Mapping[int, Any] = {4: int, 5: int, 6: int, 7: int, 9: int, 11: int}
_ROW_GROUP: Mapping[int, Any] = {1: [{1: bytes, 3: _COLUMN, 8: {}, 9: bytes}], 3: int}
_FOOTER: Mapping[int, Any] = {2: [{3: int, 4: bytes, 5: int}], 3: int, 4: [_ROW_GROUP], 8: {}}

_DATA, _INDEX, _DICTIONARY, _DATA_V2 = 0, 1, 2, 3
_REPEATED, _DELTA_BYTE_ARRAY = 2, 7


class ColumnDamaged(ValueError):
    """Something is wrong inside the pages of one column, whose name is `column`."""

    def __init__(self, what: str, name: bytes) -> None:
        self.column = name[:80].decode("ascii", "backslashreplace")
        super().__init__(f"{what}: column {self.column}")


@dataclass(frozen=True, slots=True)
class ParquetShape:
    """Sizes in bytes after decompression, taken from the headers of the pages themselves.

    `largest_group_bytes`: all pages of one row group. `largest_repeat_bytes`: the largest page whose values may stand in
    many rows without being stored again (a dictionary, a delta of byte arrays). `encodings`, `codecs`: Parquet's numbers.
    """

    rows: int
    columns: int
    row_groups: int
    pages_bytes: int
    largest_group_bytes: int
    largest_repeat_bytes: int
    encodings: frozenset[int]
    codecs: frozenset[int]
    flat: bool

    def batch_rows(self, max_rows: int, max_bytes: int) -> int:
        """Rows to decode at once, if the largest repeated value stood in every one of them."""
        return max(1, min(max_rows, max_bytes // max(self.largest_repeat_bytes, 1)))


def parquet_shape(data: bytes | memoryview, *, max_footer_bytes: int = MAX_FOOTER_BYTES) -> ParquetShape:
    """Walk footer and page headers.

    Raises:
        ValueError: not Parquet, damaged, encrypted, or its parts contradict each other; says what in a few words.
        ColumnDamaged: as that, and it is known where.
    """
    view = memoryview(data)
    footer_bytes = int.from_bytes(view[-8:-4], "little")
    if len(view) < 12 or view[:4] != _MAGIC or view[-4:] != _MAGIC or footer_bytes > len(view) - 12:
        raise ValueError("is not a whole Parquet file")
    if footer_bytes > max_footer_bytes:
        raise ValueError(f"has a footer of {footer_bytes} bytes; at most {max_footer_bytes} are read")
    end = len(view) - 8 - footer_bytes
    footer = _Thrift(view[end:-8]).struct(_FOOTER, 0)
    if 8 in footer:
        raise ValueError("is encrypted")
    schema, groups = footer.get(2, []), footer.get(4, [])
    names = [element.get(4, b"") for element in schema[1:] if not element.get(5)]
    columns = len(names)
    pages_bytes = largest_group = largest_repeat = rows = 0
    encodings: set[int] = set()
    codecs: set[int] = set()
    for group in groups:
        chunks = group.get(1, [])
        if len(chunks) != columns:
            raise ValueError(f"has a row group of {len(chunks)} columns where its schema has {columns}")
        if group.get(3, -1) < 0:
            raise ValueError("claims a negative number of rows")
        rows += group[3]
        group_bytes = 0
        for name, chunk in zip(names, chunks, strict=True):
            try:
                chunk_bytes, repeat = _walk(view[:end], chunk, encodings)
            except ValueError as error:
                raise ColumnDamaged(str(error), name) from None
            group_bytes += chunk_bytes
            largest_repeat = max(largest_repeat, repeat)
            codecs.add(chunk[3].get(4, -1))
        pages_bytes += group_bytes
        largest_group = max(largest_group, group_bytes)
    if rows != footer.get(3):
        raise ValueError(f"claims {footer.get(3)} rows, and its row groups {rows}")
    flat = all(not element.get(5) and element.get(3) != _REPEATED for element in schema[1:])
    return ParquetShape(
        rows, columns, len(groups), pages_bytes, largest_group, largest_repeat, frozenset(encodings), frozenset(codecs), flat
    )


def _walk(pages: memoryview, chunk: dict[int, Any], encodings: set[int]) -> tuple[int, int]:
    """(bytes of all pages, largest page whose values may be repeated) of one column chunk, after decompression."""
    column = chunk.get(3)
    if column is None or 1 in chunk or 8 in chunk or 9 in chunk:
        raise ValueError("keeps a column in another file, or encrypted")
    if column.get(5) == 0:
        return 0, 0  # no page of it is ever read
    start = column.get(9, -1)
    if 0 < column.get(11, 0) < start:
        start = column[11]
    size = column.get(7, -1)
    if start < len(_MAGIC) or size < 0 or start + size > len(pages):
        raise ValueError("has a column outside the file")
    position, end = start, start + size
    total = largest_repeat = values = 0
    while position < end:
        thrift = _Thrift(pages[position:end])
        header = thrift.struct(_PAGE_HEADER, 0)
        plain, stored = header.get(2, -1), header.get(3, -1)
        position += thrift.position + stored
        if plain < 0 or stored < 0 or position > end:
            raise ValueError("has a page outside its column")
        total += plain
        kind, about = _about(header)
        if kind in (_DATA, _DATA_V2):
            encodings.add(about[1])
            values += about[0]
        if kind == _DICTIONARY or about[1] == _DELTA_BYTE_ARRAY:
            largest_repeat = max(largest_repeat, plain)
    if values != column.get(5):
        raise ValueError(f"has a column of {values} values that claims {column.get(5)}")
    return total, largest_repeat


def _about(header: dict[int, Any]) -> tuple[int, tuple[int, int]]:
    """(kind of page, (values, encoding))."""
    kind = header.get(1, -1)
    fields = {_DATA: (5, 1, 2), _DICTIONARY: (7, 1, 2), _DATA_V2: (8, 1, 4)}.get(kind)
    if fields is None:
        if kind == _INDEX:
            return kind, (0, -1)
        raise ValueError("has a page of an unknown kind")
    inner = header.get(fields[0], {})
    values, encoding = inner.get(fields[1], -1), inner.get(fields[2], -1)
    if values < 0 or encoding < 0:
        raise ValueError("has a page that does not say what it holds")
    return kind, (values, encoding)


class _Thrift:
    """One value after another of the compact protocol; `position` is where the last one ended."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._left, self._kept = MAX_FOOTER_VALUES, _MAX_KEPT
        self.position = 0

    def struct(self, wanted: Mapping[int, Any], depth: int) -> dict[int, Any]:
        """The wanted fields of a struct; each of the others is skipped.

        Raises:
            ValueError: cut short, of too many values, too deep, or a wanted field of another type.
        """
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            number = number + step if step else self._signed()
            if number in wanted and number not in found:
                found[number] = self._value(kind, wanted[number], depth)
            else:
                self._skip(kind, depth)
        return found

    def _value(self, kind: int, wanted: Any, depth: int) -> Any:
        self._count(depth)
        self._kept -= 1
        if wanted is int and kind in (4, 5, 6):
            return self._signed()
        if wanted is bytes and kind == 8:
            return bytes(self._take(self._unsigned()))
        if isinstance(wanted, Mapping) and kind == 12:
            return self.struct(wanted, depth + 1)
        if isinstance(wanted, list) and kind == 9:
            size, inner = self._list_head()
            return [self._value(inner, wanted[0], depth + 1) for _ in range(size)]
        raise ValueError("has a footer or page header of another form")

    def _skip(self, kind: int, depth: int) -> None:
        self._count(depth)
        match kind:
            case 1 | 2:  # a boolean field: its value is its type
                return
            case 3:
                self._take(1)
            case 4 | 5 | 6:
                self._unsigned()
            case 7:
                self._take(8)
            case 8:
                self._take(self._unsigned())
            case 9 | 10:
                size, inner = self._list_head()
                for _ in range(size):
                    if inner in (1, 2):  # in a list a boolean takes a byte
                        self._take(1)
                    self._skip(inner, depth + 1)
            case 12:
                self.struct({}, depth + 1)
            case _:  # a map: Parquet has none
                raise ValueError("has a footer or page header of another form")

    def _count(self, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or self._kept < 0:
            raise ValueError(f"has more values in its footer than the {MAX_FOOTER_VALUES} that are read")
        if depth > _MAX_DEPTH:
            raise ValueError(f"has a footer of more than {_MAX_DEPTH} levels")

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        size = head >> 4
        return (self._unsigned() if size == 15 else size), head & 15

    def _signed(self) -> int:
        number = self._unsigned()
        return (number >> 1) ^ -(number & 1)

    def _unsigned(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift > 63:
                raise ValueError("has a number of more than 64 bits")

    def _byte(self) -> int:
        if self.position >= len(self._data):
            raise ValueError("has a footer or page header that is cut short")
        self.position += 1
        return self._data[self.position - 1]

    def _take(self, size: int) -> memoryview:
        if size > len(self._data) - self.position:
            raise ValueError("has a footer or page header that is cut short")
        self.position += size
        return self._data[self.position - size : self.position]
