"""Tables: what is written comes back, the same rows give the same bytes, and damaged or hostile files are named."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core.artifacts import (
    TableWriter,
    _table_reading,
    current_version,
    read_batches,
    read_table,
    tables,
    write_table,
)
from optimas_core.artifacts.tables import VERSIONS, Column, TableVersion
from optimas_core.errors import ArtifactCorrupt

FIXTURES = Path(__file__).parents[2] / "fixtures" / "tables"
RUN = {"run_id": "r1", "created_at": "2025-01-01T00:00:00Z"}


def _values(column: Column) -> st.SearchStrategy[Any]:
    match column.type:
        case "text" if column.allowed:
            plain: st.SearchStrategy[Any] = st.sampled_from(column.allowed)
        case "text":
            plain = st.text(max_size=8)
        case "json":
            plain = st.recursive(st.text(st.characters(), max_size=8) | st.integers(), st.lists, max_leaves=4).map(
                lambda value: json.dumps(value, ensure_ascii=False)
            )
        case "int":
            plain = st.integers(-(2**63) + 1, 2**63 - 1)
        case "float":
            plain = st.floats(allow_nan=False, allow_infinity=False)
        case "bool":
            plain = st.booleans()
    return plain | st.none() if column.nullable else plain


def _rows(table: str, max_size: int = 8) -> st.SearchStrategy[list[dict[str, Any]]]:
    version = VERSIONS[table][current_version(table)]
    row = st.fixed_dictionaries({column.name: _values(column) for column in version.columns})
    unique = (lambda one: tuple(one[name] for name in version.key)) if version.key else None
    return st.lists(row, max_size=max_size, unique_by=unique)


def _one_row(table: str) -> dict[str, Any]:
    examples = {"text": "x", "json": '{"a":1}', "int": 1, "float": 0.5, "bool": True}
    columns = VERSIONS[table][1].columns
    return {column.name: column.allowed[0] if column.allowed else examples[column.type] for column in columns}


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(VERSIONS)))
def test_rows_come_back_in_order_and_bytes_are_a_function_of_rows(data, table):
    rows = data.draw(_rows(table))
    written = write_table(table, rows, **RUN)
    back = read_table(table, written, file="f.parquet")
    assert [{name: row[name] for name in rows[0]} for row in back] == [_without_surrogates(row) for row in rows] if rows else not back
    assert all(row["run_id"] == "r1" and row["schema_version"] == current_version(table) for row in back)
    assert write_table(table, back and [{name: row[name] for name in rows[0]} for row in back], **RUN) == written


def _without_surrogates(row: dict[str, Any]) -> dict[str, Any]:
    """JSON text may come back with a lone surrogate escaped; its meaning is the same."""
    text = {name: value.encode("utf-8", "backslashreplace").decode() for name, value in row.items() if isinstance(value, str)}
    for name, value in text.items():
        if name.endswith("_json"):
            assert json.loads(value) == json.loads(row[name])
    return {**row, **text}


def test_how_rows_are_appended_does_not_change_the_bytes():
    rows = [{**_one_row("rollouts"), "repeat": index, "reward": index / 7} for index in range(9000)]
    whole = write_table("rollouts", rows, **RUN)
    sink = io.BytesIO()
    with TableWriter("rollouts", sink, **RUN) as writer:
        for start in range(0, 9000, 700):
            writer.append(iter(rows[start : start + 700]))
    assert sink.getvalue() == whole
    batches = list(read_batches("rollouts", whole, file="f"))
    assert len(batches) > 10 and [row["repeat"] for batch in batches for row in batch] == list(range(9000))


def test_committed_tables_hold_no_wall_clock_facts():
    observed = {"latency_s", "cached", "attempts"}
    for table in ("preferences", "rollouts", "validations"):
        assert not observed & {column.name for column in VERSIONS[table][current_version(table)].columns}


def test_a_missing_reward_is_null_never_a_number():
    for table in ("rollouts", "validations"):
        row = {**_one_row(table), "reward": None, "status": "missing"}
        assert read_table(table, write_table(table, [row], **RUN), file="f")[0]["reward"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reward": math.nan}, "column reward"),
        ({"reward": math.inf}, "column reward"),
        ({"reward": True}, "column reward"),
        ({"reward": "1"}, "column reward"),
        ({"repeat": 1.0}, "column repeat"),
        ({"repeat": True}, "column repeat"),
        ({"repeat": 2**63}, "column repeat"),
        ({"repeat": None}, "column repeat"),
        ({"status": "failed"}, "one of ok, missing, format_error"),
        ({"example_id": "\ud800"}, "column example_id"),
        ({"surprise": 1}, "unknown column surprise"),
    ],
)
def test_a_wrong_row_is_refused_before_it_is_written(change, said):
    with pytest.raises(ArtifactCorrupt, match=said):
        write_table("rollouts", [{**_one_row("rollouts"), **change}], **RUN)


def test_a_row_without_a_column_or_with_a_used_key_is_refused():
    row = _one_row("rollouts")
    with pytest.raises(ArtifactCorrupt, match="repeats the key"):
        write_table("rollouts", [row, {**row, "reward": 0.1}], **RUN)
    del row["reward"]
    with pytest.raises(ArtifactCorrupt, match="lacks reward"):
        write_table("rollouts", [row], **RUN)


# Reading what others wrote


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _good(rows: int = 2) -> pa.Table:
    return pq.read_table(io.BytesIO(write_table("rollouts", [{**_one_row("rollouts"), "repeat": i} for i in range(rows)], **RUN)))


def _with(table: pa.Table, name: str, values: list[Any], kind: pa.DataType | None = None) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(
        index,
        pa.field(name, kind or table.schema.field(name).type),
        pa.array(values, kind or table.schema.field(name).type),
    )


def _meta(good: pa.Table, **change: str) -> pa.Table:
    return good.replace_schema_metadata({**good.schema.metadata, **{f"optimas.{k}".encode(): v.encode() for k, v in change.items()}})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda t: t.drop_columns(["reward"]), "lacks column reward"),
        (lambda t: t.append_column("extra", pa.array([1, 2])), "unknown column 'extra'"),
        (lambda t: t.select(t.column_names[::-1]), "another order"),
        (lambda t: _with(t, "reward", ["a", "b"], pa.string()), "column reward is string, not double"),
        (lambda t: _with(t, "repeat", [1, 2], pa.int32()), "column repeat is int32"),
        (lambda t: _with(t, "reward", [1.0, math.nan]), "column reward has a NaN"),
        (lambda t: _with(t, "reward", [-math.inf, None]), "column reward has a NaN or infinite"),
        (lambda t: _with(t, "example_id", ["a", None]), "column example_id has an empty value"),
        (lambda t: _with(t, "status", ["ok", "great"]), "column status has the value 'great'"),
        (lambda t: _with(t, "inputs_json", ["{", "{}"]), "column inputs_json has a value that is not JSON"),
        (lambda t: _with(t, "inputs_json", ["NaN", "{}"]), "column inputs_json has a value that is not JSON"),
        (lambda t: _with(t, "repeat", [1, 1]), "two rows with the same"),
        (lambda t: _with(t, "schema_version", [1, 2]), "schema_version disagrees"),
        (lambda t: _meta(t, schema_version="2"), "newer optimas-kube: upgrade"),
        (lambda t: _meta(t, schema_version="0"), "known are 1 to 1"),
        (lambda t: _meta(t, schema_version="9" * 5000), "known are 1 to 1"),
        (lambda t: _meta(t, table="ledger"), "holds table 'ledger'"),
        (lambda t: t.replace_schema_metadata(None), "holds table ''"),
    ],
)
def test_wrong_content_is_named(damage: Callable[[pa.Table], pa.Table], said: str):
    with pytest.raises(ArtifactCorrupt, match=said) as caught:
        read_table("rollouts", _parquet(damage(_good())), file="runs/r1/x.parquet")
    assert "runs/r1/x.parquet" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"PAR1", b"PAR1" * 3, b"x" * 100, b"PAR1" + b"\xff" * 50 + b"\xff\xff\xff\x7fPAR1", b"PAR1\0\0\0\0PAR1"],
)
def test_what_is_not_parquet(data):
    with pytest.raises(ArtifactCorrupt, match="f.parquet"):
        read_table("rollouts", data, file="f.parquet")


@settings(deadline=None)
@given(st.data())
def test_any_damage_gives_our_error_or_valid_rows(data):
    good = write_table("rollouts", [{**_one_row("rollouts"), "repeat": i} for i in range(20)], **RUN)
    position = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "drop", "insert"]))
    junk = data.draw(st.binary(min_size=1, max_size=4))
    bad = {
        "flip": good[:position] + junk + good[position + len(junk) :],
        "cut": good[:position],
        "drop": good[:position] + good[position + len(junk) :],
        "insert": good[:position] + junk + good[position:],
    }[kind]
    try:
        rows = read_table("rollouts", bad, file="f.parquet")
    except ArtifactCorrupt as error:
        assert "f.parquet" in str(error)
    else:  # the manifest's SHA-256 notices the rest
        assert len(rows) == 20 and all(row["reward"] is None or math.isfinite(row["reward"]) for row in rows)


def test_sizes_are_checked_before_anything_is_read(monkeypatch):
    data = _parquet(_good(1000))
    for limit, value, said in (
        ("MAX_ROWS", 999, "claims 1000 rows"),
        ("MAX_GROUP_BYTES", 100, "bytes in a row group"),
        ("MAX_TABLE_BYTES", 100, "claims"),
        ("MAX_FOOTER_BYTES", 100, "footer of"),
        ("_MAX_COLUMNS", 3, "columns in"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(_table_reading, limit, value)
            with pytest.raises(ArtifactCorrupt, match=said):
                read_table("rollouts", data, file="f")


def test_a_long_value_repeated_in_every_row_is_counted_while_reading(monkeypatch):
    """A few kilobytes of file that would be sixty megabytes of text: the footer does not show it."""
    rows = 2000
    long = _with(_good(rows), "example_id", ["x" * 30_000] * rows)
    data = _parquet(long)
    assert len(data) < 100_000
    monkeypatch.setattr(_table_reading, "MAX_TABLE_BYTES", 8 << 20)
    monkeypatch.setattr(_table_reading, "_MAX_BATCH_BYTES", 2 << 20)
    with pytest.raises(ArtifactCorrupt, match="holds more than"):
        read_table("rollouts", data, file="f")


# Every released version stays readable


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("v*/*.parquet")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_released_table_is_still_readable(path):
    expected = json.loads((path.parent / f"{path.stem}.json").read_text())
    assert read_table(path.stem, path.read_bytes(), file=path.name) == expected


def test_every_version_has_a_fixture():
    for table, versions in VERSIONS.items():
        for number in versions:
            assert (FIXTURES / f"v{number}" / f"{table}.parquet").is_file()


def test_older_rows_are_lifted_step_by_step(monkeypatch):
    old = write_table("validations", [_one_row("validations")], **RUN)
    first = VERSIONS["validations"][1]
    second = TableVersion((*first.columns, Column("seed", "int")), first.key, lift=lambda row: {**row, "seed": 0})
    third = TableVersion(second.columns, first.key, lift=lambda row: {**row, "seed": row["seed"] + 7})
    monkeypatch.setattr(tables, "VERSIONS", {**VERSIONS, "validations": {1: first, 2: second, 3: third}})
    (row,) = read_table("validations", old, file="old.parquet")
    assert (row["seed"], row["schema_version"], row["arm"]) == (7, 3, "incumbent")
    new = write_table("validations", [{**_one_row("validations"), "seed": 3}], **RUN)
    assert read_table("validations", new, file="new.parquet")[0]["seed"] == 3
