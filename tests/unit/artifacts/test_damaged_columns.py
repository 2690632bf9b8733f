"""A damaged table is named with the column that is damaged, wherever its footer can still tell."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from optimas_core.artifacts import Workspace, read_table, write_table
from optimas_core.errors import ArtifactCorrupt

DIGEST = "ab" * 16
FACTS = {"inputs": {}, "producer": "code", "created_at": "2025-01-01T00:00:00Z"}
ROWS = [{"example_id": f"e{n}", "arm": "incumbent", "repeat": 0, "reward": n / 7, "status": "ok"} for n in range(60)]


@pytest.fixture(scope="module")
def good() -> bytes:
    return write_table("validations", ROWS, run_id="r", created_at="t")


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def last_byte_of(data: bytes, column: str) -> int:
    """Where the last value of a column is stored."""
    group = pq.read_metadata(io.BytesIO(data)).row_group(0)
    chunk = next(group.column(index) for index in range(group.num_columns) if group.column(index).path_in_schema == column)
    return (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 1


@pytest.mark.parametrize("column", ["example_id", "arm", "reward", "run_id"])
def test_one_bit_in_a_column(tmp_path: Path, good: bytes, column: str) -> None:
    bad = flipped(good, last_byte_of(good, column))
    with pytest.raises(ArtifactCorrupt, match=rf"^x\.parquet cannot be read as Parquet in column {column} \("):
        read_table("validations", bad, file="x.parquet")
    run = Workspace.open(tmp_path).run("r")
    artifact = run.commit_artifact("validations", DIGEST, {"x.parquet": good}, **FACTS)
    (tmp_path / f"runs/r/validations/{DIGEST}/x.parquet").write_bytes(bad)
    with pytest.raises(ArtifactCorrupt, match=rf"{DIGEST}/x\.parquet has SHA-256 .*…, damaged in column {column}\."):
        artifact.read("x.parquet")


def test_a_page_that_is_no_page(good: bytes) -> None:
    group = pq.read_metadata(io.BytesIO(good)).row_group(0)
    start = group.column(4).dictionary_page_offset or group.column(4).data_page_offset
    bad = good[:start] + b"\xff" * 8 + good[start + 8 :]
    with pytest.raises(ArtifactCorrupt, match=rf"^x\.parquet has .*: column {group.column(4).path_in_schema}\."):
        read_table("validations", bad, file="x.parquet")


def test_a_bit_that_flips_anywhere_gives_our_error_or_the_rows_as_they_were(good: bytes) -> None:
    """Footer included: pyarrow answers some of it with errors of a kind of their own."""
    rows = read_table("validations", good, file="x.parquet")
    for position in range(0, len(good), 3):
        try:
            assert read_table("validations", flipped(good, position), file="x.parquet") == rows, position
        except ArtifactCorrupt as error:
            assert "x.parquet" in str(error)


def test_a_table_written_without_checksums_is_read(good: bytes) -> None:
    sink = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(good)), sink)
    assert read_table("validations", sink.getvalue(), file="x.parquet") == read_table("validations", good, file="x.parquet")


def test_columns_in_another_order_name_the_first_that_is_out_of_place(good: bytes) -> None:
    table = pq.read_table(io.BytesIO(good))
    names = table.column_names
    first, second = names.index("reward"), names.index("status")
    names[first], names[second] = names[second], names[first]
    sink = io.BytesIO()
    pq.write_table(table.select(names), sink)
    with pytest.raises(ArtifactCorrupt, match=r"twice or in another order, from column status\."):
        read_table("validations", sink.getvalue(), file="x.parquet")
