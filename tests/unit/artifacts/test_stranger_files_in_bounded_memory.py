"""A stranger's file gives a typed error and never takes more than 300 MB beyond what the program takes anyway.

Each file is read in a forked process of its own, whose peak resident memory is measured; an address-space limit of 3 GB more than it
has keeps a reader that fails this test from taking the machine with it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optimas_core.artifacts import DirectoryStore, Workspace, write_table
from optimas_core.artifacts.tables import VERSIONS
from optimas_core.errors import ArtifactCorrupt

MAX_EXTRA_MB = 300
RUN = {"run_id": "r1", "created_at": "2025-01-01T00:00:00Z"}
DIGEST = "ab" * 16

READER = r"""
import json, os, resource, sys
from pathlib import Path
from optimas_core.artifacts import DirectoryStore, PromotedPointer, Workspace, read_table
from optimas_core.errors import OptimasError
from optimas_core.rewards._files import unpack
from optimas_core.spec import load_run_settings
from optimas_core.system import read_examples
import pyarrow.parquet, numpy, yaml
if any(line.startswith("lrf") for line in sys.argv[1:]):
    import torch, safetensors.numpy, safetensors.torch

def memory(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024

def read(kind, path):
    if kind.startswith("table:"):
        return len(read_table(kind[6:], path.read_bytes(), file=path.name))
    if kind == "manifest":
        return len(Workspace.open(path).run("r").open_artifact("lrf", "ab" * 16).names)
    if kind == "pointer":
        return len(Workspace.open(path).promoted("s").history())
    if kind == "call":
        return str(Workspace.open(path).calls.get("ab" * 16))
    if kind == "lrf":
        return str(unpack({file.name: file.read_bytes() for file in path.iterdir()})[0])
    if kind == "yaml":
        return str(load_run_settings(path))
    return len(read_examples(str(path), base=path.parent))

for line in sys.argv[1:]:
    kind, path = line.split("|")
    sink, source = os.pipe()
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + (3 << 30),) * 2)
        before = memory("VmRSS")
        try:
            said = ["none", str(read(kind, Path(path)))[:300]]
        except OptimasError as error:
            said = [type(error).__name__, str(error)[:2000]]
        except BaseException as error:
            said = ["untyped " + type(error).__name__, str(error)[:300]]
        os.write(source, json.dumps([*said, (memory("VmHWM") - before) >> 20]).encode())
        os._exit(0)
    os.close(source)
    print(os.read(sink, 65536).decode(), flush=True)
    os.wait()
"""


def outcomes(*cases: tuple[str, Path]) -> list[tuple[str, str, int]]:
    """(error class, text, peak MB beyond the start) of every (kind, path), read one after another."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    lines = [f"{kind}|{path}" for kind, path in cases]
    done = subprocess.run([sys.executable, "-c", READER, *lines], capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(cases), done.stderr[-2000:]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


# Parquet, taken apart and put together again: Thrift compact values as [field id, type, value]

STRUCT, LIST, BINARY, I32, I64 = 12, 9, 8, 5, 6


def _varint(number: int) -> bytes:
    out = bytearray()
    while True:
        out.append(number & 127 | (128 if number > 127 else 0))
        number >>= 7
        if not number:
            return bytes(out)


def _encode(kind: int, value: Any) -> bytes:
    if kind == STRUCT and isinstance(value, bytes):
        return value  # encoded already
    if kind in (1, 2):
        return b""
    if kind in (3, 4, 5, 6):
        return _varint((value << 1) ^ (value >> 63))
    if kind == BINARY:
        return _varint(len(value)) + value
    if kind == LIST:
        inner, items = value
        head = bytes([len(items) << 4 | inner]) if len(items) < 15 else bytes([0xF0 | inner]) + _varint(len(items))
        return head + b"".join(_encode(inner, item) for item in items)
    out, last = b"", 0
    for number, field, content in value:
        out += bytes([(number - last) << 4 | field]) + _encode(field, content)
        last = number
    return out + b"\0"


def _decode(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    def varint(at: int) -> tuple[int, int]:
        number = shift = 0
        while True:
            number |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 128:
                return number, at

    if kind in (1, 2):
        return kind == 1, at
    if kind in (3, 4, 5, 6):
        number, at = varint(at)
        return (number >> 1) ^ -(number & 1), at
    if kind == BINARY:
        size, at = varint(at)
        return data[at : at + size], at + size
    if kind == LIST:
        head, at = data[at], at + 1
        size, inner = head >> 4, head & 15
        if size == 15:
            size, at = varint(at)
        items = []
        for _ in range(size):
            item, at = _decode(data, at, inner)
            items.append(item)
        return [inner, items], at
    fields, number = [], 0
    while data[at]:
        head, at = data[at], at + 1
        number += head >> 4
        value, at = _decode(data, at, head & 15)
        fields.append([number, head & 15, value])
    return fields, at + 1


def field(fields: list[Any], number: int) -> list[Any]:
    return next(item for item in fields if item[0] == number)


def parts_of(data: bytes) -> tuple[bytes, list[Any]]:
    """(everything before the footer, the footer's fields)."""
    size = int.from_bytes(data[-8:-4], "little")
    return data[: -8 - size], _decode(data, len(data) - 8 - size, STRUCT)[0]


def joined(pages: bytes, footer: list[Any] | bytes) -> bytes:
    raw = footer if isinstance(footer, bytes) else _encode(STRUCT, footer)
    return pages + raw + struct.pack("<I", len(raw)) + b"PAR1"


def zstd_of_zeros(size: int) -> bytes:
    """A frame of run-length blocks: four bytes for each 128 KB."""
    blocks, rest = [], size
    while rest:
        block = min(rest, 128 << 10)
        rest -= block
        blocks.append(struct.pack("<I", (not rest) | 1 << 1 | block << 3)[:3] + b"\0")
    return b"\x28\xb5\x2f\xfd" + b"\xa0" + struct.pack("<I", size) + b"".join(blocks)


def columns_of(footer: list[Any]) -> list[Any]:
    """ColumnMetaData of every column of the first row group."""
    return [field(chunk, 3)[2] for chunk in field(field(footer, 4)[2][1][0], 1)[2][1]]


def good(rows: int = 20) -> bytes:
    examples = {"text": "x", "json": '{"a":1}', "int": 1, "float": 0.5, "bool": True}
    row = {item.name: item.allowed[0] if item.allowed else examples[item.type] for item in VERSIONS["rollouts"][1].columns}
    return write_table("rollouts", [{**row, "repeat": index} for index in range(rows)], **RUN)


def inflating_page(size: int, *, says: int | None = None) -> bytes:
    """The first column's pages give way to one that unfolds to `size` bytes; its header says so, or `says`."""
    pages, footer = parts_of(good())
    column = columns_of(footer)[0]
    body = zstd_of_zeros(size)
    header = [[1, I32, 0], [2, I32, says or size], [3, I32, len(body)]]
    header.append([5, STRUCT, [[1, I32, 20], [2, I32, 0], [3, I32, 3], [4, I32, 3]]])
    page = _encode(STRUCT, header) + body
    field(column, 9)[2] = len(pages)
    field(column, 7)[2] = len(page)
    column[:] = [item for item in column if item[0] not in (11, 12)]
    return joined(pages + page, footer)


def with_footer(change: Callable[[list[Any]], Any], data: bytes | None = None) -> bytes:
    pages, footer = parts_of(data or good())
    change(footer)
    return joined(pages, footer)


def set_rows(footer: list[Any], rows: int) -> None:
    field(footer, 3)[2] = rows
    field(field(footer, 4)[2][1][0], 3)[2] = rows
    for column in columns_of(footer):
        field(column, 5)[2] = rows


def set_column(footer: list[Any], value: int, *numbers: int) -> None:
    for number in numbers:
        field(columns_of(footer)[0], number)[2] = value


def more_columns(count: int) -> bytes:
    """`count` columns in the schema, none of them with data."""
    element = _encode(STRUCT, [[1, I32, 6], [3, I32, 0], [4, BINARY, b"x"]])
    schema = [STRUCT, [[[4, BINARY, b"schema"], [5, I32, count]], *[element] * count]]
    return joined(b"PAR1", [[1, I32, 2], [2, LIST, schema], [3, I64, 0], [4, LIST, [STRUCT, []]]])


def more_key_values(count: int) -> bytes:
    return with_footer(lambda footer: field(footer, 5)[2][1].extend([b"\0"] * count))


def more_column_chunks(count: int) -> bytes:
    """A row group of column chunks without metadata: three bytes each in the file, hundreds in memory."""
    chunks = [STRUCT, [_encode(STRUCT, [[2, I64, 0]])] * count]
    groups = [STRUCT, [[[1, LIST, chunks], [2, I64, 0], [3, I64, 0]]]]
    return joined(b"PAR1", [[1, I32, 2], [2, LIST, [STRUCT, [[[4, BINARY, b"s"], [5, I32, 0]]]]], [3, I64, 0], [4, LIST, groups]])


def repeated_value(size: int, rows: int) -> bytes:
    """One long text in a dictionary, in every row: the file holds it once."""
    table = pq.read_table(io.BytesIO(good(rows)))
    index = table.schema.get_field_index("example_id")
    long = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * size]))
    sink = io.BytesIO()
    pq.write_table(table.set_column(index, "example_id", long), sink, compression="zstd", store_schema=False)
    pages, footer = parts_of(sink.getvalue())
    pairs = [[[1, BINARY, b"optimas.table"], [2, BINARY, b"rollouts"]], [[1, BINARY, b"optimas.schema_version"], [2, BINARY, b"1"]]]
    footer.insert([item[0] for item in footer].index(4) + 1, [5, LIST, [STRUCT, pairs]])
    return joined(pages, footer)


def long_deltas(size: int, rows: int) -> bytes:
    """Values that share a long beginning are stored by their ends only."""
    table = pq.read_table(io.BytesIO(good(rows)))
    index = table.schema.get_field_index("example_id")
    values = pa.array([("x" * size) + str(row) for row in range(rows)])
    sink = io.BytesIO()
    changed = table.set_column(index, table.schema.field(index), values)
    pq.write_table(changed, sink, use_dictionary=False, column_encoding={"example_id": "DELTA_BYTE_ARRAY"})
    return sink.getvalue()


DEEP = b"\x1c" * 60_000  # a struct in a struct in a struct
TABLES: dict[str, Callable[[], bytes]] = {
    "two gigabytes in one page": lambda: inflating_page((2 << 30) - 1),
    "a page of 250 MB of a file of 15 kB": lambda: inflating_page(250 << 20),
    "a page that unfolds to more than it says": lambda: inflating_page(1 << 30, says=100),
    "a trillion rows": lambda: with_footer(lambda footer: set_rows(footer, 1 << 40)),
    "a negative number of rows": lambda: with_footer(lambda footer: set_rows(footer, -5)),
    "two billion values in a column": lambda: with_footer(lambda footer: set_column(footer, (1 << 31) - 1, 5)),
    "a column outside the file": lambda: with_footer(lambda footer: set_column(footer, 1 << 40, 9, 11)),
    "a column of negative size": lambda: with_footer(lambda footer: set_column(footer, -8, 7)),
    "a column in the footer": lambda: with_footer(lambda footer: set_column(footer, 1 << 20, 7)),
    "70 columns": lambda: more_columns(70),
    "a million columns": lambda: more_columns(1_000_000),
    "a million column chunks": lambda: more_column_chunks(1_000_000),
    "two million keys in the footer": lambda: more_key_values(2_000_000),
    "a footer of a list of 2^60 items": lambda: joined(b"PAR1", b"\x29\xfc" + _varint(1 << 60)),
    "a footer nested without end": lambda: joined(b"PAR1", b"\x1c" * 60_000),  # a struct in a struct in a struct
    "a footer of 20 MB": lambda: joined(b"PAR1", b"\0" * (20 << 20)),
    "long common beginnings": lambda: long_deltas(1 << 16, 400),
    "a text of 40 MB in 50 rows": lambda: repeated_value(40 << 20, 50),
}
# Which of them any Parquet file of a user may be.
HARMLESS = {"70 columns", "long common beginnings"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("strangers")
    paths = {name: folder / f"{number}.parquet" for number, name in enumerate(TABLES)}
    for name, path in paths.items():
        path.write_bytes(TABLES[name]())
    (folder / "good.parquet").write_bytes(with_footer(lambda footer: None))
    (folder / "long.parquet").write_bytes(repeated_value(16 << 20, 40))
    return paths | {"good": folder / "good.parquet", "a text of 16 MB in 40 rows": folder / "long.parquet"}


def test_tables(files: dict[str, Path]) -> None:
    found = dict(zip(files, outcomes(*(("table:rollouts", path) for path in files.values())), strict=True))
    assert found.pop("good")[:2] == ("none", "20"), "taken apart and put together again it is a table"
    kind, said, extra_mb = found.pop("a text of 16 MB in 40 rows")
    assert (kind, said) == ("none", "40") and extra_mb <= MAX_EXTRA_MB, "640 MB of text, which is one text"
    for name, (kind, said, extra_mb) in found.items():
        assert kind == "ArtifactCorrupt" and files[name].name in said and len(said) < 400, (name, kind, said)
        assert extra_mb <= MAX_EXTRA_MB, (name, extra_mb)
    assert "claims 2147484" in found["two gigabytes in one page"][1]
    assert "at most 33554432 are read" in found["a page of 250 MB of a file of 15 kB"][1]
    assert "values that claims 1099511627776" in found["a trillion rows"][1]
    assert "claims 70 columns" in found["70 columns"][1] and "more values in its footer" in found["a million columns"][1]
    assert "of a form that no table of ours has" in found["long common beginnings"][1]
    assert "footer of 20971520 bytes" in found["a footer of 20 MB"][1]


def test_data_of_a_run(files: dict[str, Path], tmp_path: Path) -> None:
    """What run.yaml names may be anywhere and of any kind of Parquet; it is bounded all the same."""
    with gzip.open(tmp_path / "zeros.jsonl.gz", "wb", 6) as packed:
        for _ in range(80):
            packed.write(b" " * (1 << 20) + b"\n")
    (tmp_path / "line.jsonl").write_bytes(b'"' + b"x" * (40 << 20))
    (tmp_path / "values.jsonl").write_bytes(b"[" + b"[]," * 2_000_000 + b"[]]")
    paths = {name: path for name, path in files.items() if name in TABLES} | {path.name: path for path in tmp_path.iterdir()}
    for name, (kind, said, extra_mb) in zip(paths, outcomes(*(("examples", path) for path in paths.values())), strict=True):
        assert (kind == "none" and name in HARMLESS) or (kind == "DataError" and paths[name].name in said), (name, kind, said)
        assert extra_mb <= MAX_EXTRA_MB and len(said) < 500, (name, extra_mb, said)


# JSON: manifests, pointers, call records


JSON_BOMBS: dict[str, bytes | int] = {
    "a million brackets": b"[" * 1_000_000,
    "a million empty lists": b"[" + b"[]," * 1_000_000 + b"[]]",
    "three million numbers": b"[" + b"1," * 3_000_000 + b"1]",
    "a number of a million digits": b'{"format": ' + b"9" * 1_000_000 + b"}",
    "a manifest of a million files": b'{"files":[' + b'{"name":"f","path":"f","size":1,"sha256":""},' * 1_000_000 + b"{}]}",
    "a terabyte": 1 << 40,
}


def test_manifests_pointers_and_call_records(tmp_path: Path) -> None:
    """A damaged call record is not an error: the call is made again."""
    places = {"manifest": f"runs/r/lrf/{DIGEST}/manifest.json", "pointer": "current/s", "call": f"calls/ab/{DIGEST}"}
    cases = []
    for number, (name, content) in enumerate(JSON_BOMBS.items()):
        for kind, key in places.items():
            path = tmp_path / f"{number}-{kind}" / key
            path.parent.mkdir(parents=True)
            with path.open("wb") as file:
                file.truncate(content) if isinstance(content, int) else file.write(content)
            cases.append((name, kind, tmp_path / f"{number}-{kind}"))
    for (name, kind, _), (error, said, extra_mb) in zip(cases, outcomes(*((kind, path) for _, kind, path in cases)), strict=True):
        expected = ("none", "None") if kind == "call" else ("ArtifactCorrupt", said)
        assert (error, said) == expected, (name, kind, error, said)
        assert extra_mb <= MAX_EXTRA_MB, (name, kind, extra_mb)


def test_a_file_larger_than_its_manifest_says_is_not_read(tmp_path: Path) -> None:
    run = Workspace.open(tmp_path).run("r")
    facts = {"inputs": {}, "producer": "p", "created_at": "t"}
    artifact = run.commit_artifact("lrf", DIGEST, {"a.json": b"1"}, **facts)
    with (tmp_path / artifact.folder / "a.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtifactCorrupt, match="has 1099511627776 bytes"):
        artifact.read("a.json")
    assert DirectoryStore(tmp_path).get(f"{artifact.folder}/manifest.json", max_bytes=10_000) is not None
    with pytest.raises(ArtifactCorrupt, match="at most 10 are read"):
        DirectoryStore(tmp_path).get(f"{artifact.folder}/manifest.json", max_bytes=10)


# Safetensors


def tensors(header: bytes, body: bytes = b"", *, says: int | None = None) -> bytes:
    return struct.pack("<Q", says if says is not None else len(header)) + header + body


def lrf_config(**changes: Any) -> bytes:
    config = {"rung": "frozen", "backbone": "b", "backbone_digest": "d", "max_tokens": 64, "precision": "fp32", "lora_rank": 4}
    return json.dumps(config | {"lora_alpha": 4, "components": ["a"], "format": 1, "head_l2": {"a": 1.0}} | changes).encode()


def head(shape: str = "[2]", *, dtype: str = "F64", end: int = 16, body: bytes = bytes(16)) -> bytes:
    return tensors(b'{"a":{"dtype":"%s","shape":%s,"data_offsets":[0,%d]}}' % (dtype.encode(), shape.encode(), end), body)


def test_reward_functions(tmp_path: Path) -> None:
    empty = tensors(b"{}")
    million = b"{" + b",".join(b'"t%d":{"dtype":"F64","shape":[0],"data_offsets":[0,0]}' % n for n in range(300_000)) + b"}"
    cases: dict[str, dict[str, bytes]] = {
        "good": {"heads.safetensors": head()},
        "a header of 2^63 bytes": {"heads.safetensors": tensors(b"{}", says=1 << 63)},
        "a header of 90 MB": {"heads.safetensors": tensors(b'{"a":"' + b"x" * (90 << 20) + b'"}')},
        "300,000 tensors": {"adapter.safetensors": tensors(million)},
        "a shape of 2^62": {"heads.safetensors": head("[4611686018427387904]")},
        "a shape that overflows": {"heads.safetensors": head("[4294967296,4294967296,4294967296]")},
        "bytes outside the file": {"heads.safetensors": head(end=1 << 40)},
        "a matrix": {"heads.safetensors": head("[1,2]")},
        "half precision": {"heads.safetensors": head(dtype="F16", shape="[8]")},
        "not a number": {"heads.safetensors": head(body=struct.pack("<dd", float("nan"), 1.0))},
        "no head": {"heads.safetensors": empty},
        "nested header": {"heads.safetensors": tensors(b"[" * 100_000)},
        "nested config": {"config.json": b"[" * 100_000},
        "a config that is a text": {"config.json": b'"format"'},
        "a rank of 10^9": {"config.json": lrf_config(lora_rank=10**9, rung="lora")},
        "a rank that is a text": {"config.json": lrf_config(lora_rank="4")},
        "an unknown key": {"config.json": lrf_config(surprise=1)},
        "a component that is a number": {"config.json": lrf_config(components=[1])},
        "l2 of 10^400": {"config.json": lrf_config().replace(b"1.0", b"1" + b"0" * 400)},
    }
    whole = {"heads.safetensors": head(), "adapter.safetensors": empty, "config.json": lrf_config()}
    paths = []
    for number, files in enumerate(cases.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, data in (whole | files).items():
            (folder / name).write_bytes(data)
        paths.append(("lrf", folder))
    found = outcomes(*paths)
    assert found[0][0] == "none", found[0]
    for name, (kind, said, extra_mb) in list(zip(cases, found, strict=True))[1:]:
        assert kind == "ArtifactCorrupt" and len(said) < 300, (name, kind, said)
        assert extra_mb <= MAX_EXTRA_MB, (name, extra_mb)


def test_run_yaml(tmp_path: Path) -> None:
    start = "system: a:b\ndata: {source: x}\n"
    merges = [f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}\n" for level in range(1, 9)]
    chain = [f"b{n}: &b{n} {{<<: *b{n - 1}, k{n}: 1}}\n" for n in range(1, 3000)]
    texts = {
        "merges": "a0: &a0 {x: 1}\n" + "".join(merges) + start,
        "a chain of merges": "b0: &b0 {x: 1}\n" + "".join(chain) + start,
        "aliases": start + "prices: {m: [&a [1], " + "*a, " * 20_000 + "*a]}\n",
        "brackets": "[" * 100_000,
        "a long number": start + "seed: 0x" + "f" * 100_000,
        "too long": start + "#" * 1_000_000,
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    paths = [("yaml", tmp_path / f"{name}.yaml") for name in texts]
    for (_, path), (kind, said, extra_mb) in zip(paths, outcomes(*paths), strict=True):
        assert kind == "SpecError" and path.name in said and len(said) < 500, (path.name, kind, said)
        assert extra_mb <= 100, (path.name, extra_mb)
