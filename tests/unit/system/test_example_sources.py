"""Examples from JSONL, Parquet and data sets on disk; splits by example that are disjoint and stable."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimas_core.errors import DataError
from optimas_core.system import Example, checked_split, read_examples, require_columns, split_examples

ROWS = [{"id": "a", "question": "1+1", "tags": ["x"]}, {"id": "b", "question": "2+2", "tags": []}]


def written(path: Path, rows: list[Any]) -> None:
    text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    match path.suffix:
        case ".gz":
            path.write_bytes(gzip.compress(text.encode()))
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        case _:
            path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_every_kind_of_file_gives_the_same_examples(tmp_path: Path, name: str) -> None:
    written(tmp_path / name, ROWS)
    assert read_examples(name, base=tmp_path) == (Example("a", ROWS[0]), Example("b", ROWS[1]))
    assert read_examples(str(tmp_path / name), base=Path("/nowhere"), id_column="question")[0].id == "1+1"


def test_data_sets_on_disk_with_and_without_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"id": "a", "question": "1+1"}])
    rows.save_to_disk(str(tmp_path / "plain"))
    datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "parts"))
    expected = (Example("a", {"id": "a", "question": "1+1"}),)
    assert read_examples("hf:plain", base=tmp_path) == expected
    assert read_examples("hf:parts:train", base=tmp_path) == expected
    for part in ("", ":test"):
        with pytest.raises(DataError, match="train"):
            read_examples(f"hf:parts{part}", base=tmp_path)


def test_without_an_id_the_content_is_the_id(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", [{"q": 1, "r": 2}])
    written(tmp_path / "b.jsonl", [{"r": 2, "q": 1}])
    assert read_examples("a.jsonl", base=tmp_path)[0].id == read_examples("b.jsonl", base=tmp_path)[0].id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no examples"),
        (b'{"id": 1}\n{"id": 2', "line 2"),
        (b'{"id": 1}\n[1]', "line 2 is not an object"),
        (b'{"id": 1, "x": NaN}', "line 1"),
        (b'{"id": 1, "x": 1e999}', "line 1 is not JSON: a number is not finite"),
        (b'{"id": 1, "x": 1, "x": 2}', "line 1 is not JSON: an object has one key twice"),
        (b'{"id": 1}\n{"id": 1}', "twice"),
        (b'{"id": 1}\n{"name": 1}', "row 2 has no column 'id'"),
        (b'{"id": "\xff"}', "cannot be read"),
        (b"[" * 100_000, "line 1"),
    ],
)
def test_unreadable_lines_are_named(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(text)
    with pytest.raises(DataError, match=said):
        read_examples("rows.jsonl", base=tmp_path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_absent_and_broken_files_are_data_errors(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_examples(name, base=tmp_path)
    (tmp_path / name).write_bytes(b"\x1f\x8b\x08 broken")
    with pytest.raises(DataError):
        read_examples(name, base=tmp_path)


def test_a_half_written_gzip_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"id": 1}\n' * 1000)[:-12])
    with pytest.raises(DataError, match="cannot be read"):
        read_examples("rows.jsonl.gz", base=tmp_path)


def test_a_column_json_cannot_hold_is_named(tmp_path: Path) -> None:
    table = pyarrow.table({"id": ["a"], "when": pyarrow.array([0], pyarrow.timestamp("s"))})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="row 1, column 'when'"):
        read_examples("rows.parquet", base=tmp_path)


# Splits


def examples(count: int) -> list[Example]:
    return [Example(f"e{index}", {"id": f"e{index}", "question": str(index)}) for index in range(count)]


@given(st.integers(8, 60), st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_split_is_disjoint_and_stable_under_the_order_of_the_file(count: int, seed: int, random: Any) -> None:
    ordered = examples(count)
    shuffled = list(ordered)
    random.shuffle(shuffled)
    split = split_examples(ordered, train=0.5, validation=0.25, test=0.25, seed=seed)
    assert split == split_examples(shuffled, train=0.5, validation=0.25, test=0.25, seed=seed)
    ids = [example.id for part in (split.train, split.validation, split.test) for example in part]
    assert len(set(ids)) == len(ids) <= count
    assert abs(len(split.train) - count / 2) <= 2


def test_another_seed_is_another_split_and_neither_is_the_file_order() -> None:
    splits = [split_examples(examples(40), train=20, validation=10, test=10, seed=seed) for seed in range(5)]
    parts = {tuple(example.id for example in split.train) for split in splits}
    assert len(parts) == 5 and tuple(example.id for example in examples(20)) not in parts


@given(st.integers(3, 40), st.floats(0.05, 0.9), st.floats(0.05, 0.9))
def test_fractions_never_take_more_than_there_is(count: int, train: float, validation: float) -> None:
    test = 1 - train - validation
    try:
        split = split_examples(examples(count), train=train, validation=validation, test=test, seed=0)
    except DataError:
        return  # a part would be empty, or the fractions are no fractions
    assert len(split.train) + len(split.validation) + len(split.test) <= count


@pytest.mark.parametrize(
    "parts",
    [
        (0.8, 0.3, 0.3),
        (0.5, 0.3, 0.4),
        (0.0, 0.5, 0.5),
        (-5, 10, 10),
        (0.5, 10, 10),
        (30, 10, 10),
        (2.5, 1, 1),
        (0.01, 0.5, 0.4),
    ],
)
def test_impossible_splits_are_refused(parts: tuple[float, float, float]) -> None:
    with pytest.raises(DataError):
        split_examples(examples(10), train=parts[0], validation=parts[1], test=parts[2], seed=0)


def test_an_example_in_two_splits_is_refused_by_id_and_by_content() -> None:
    one, two, three = examples(3)
    with pytest.raises(DataError, match="'e0' is in test and train"):
        checked_split([one], [two], [Example("e0", {"id": "e0", "question": "other"})])
    with pytest.raises(DataError, match="'copy' is in test and train"):
        checked_split([one], [two], [Example("copy", {"id": "copy", "question": "0"})])
    for parts in (([], [two], [three]), ([one], [], [three]), ([one], [two], [])):
        with pytest.raises(DataError, match="is empty"):
            checked_split(*parts)
    split = checked_split([one], [two], [three])
    assert split.of("e2") is three
    with pytest.raises(DataError, match="'e9'"):
        split.of("e9")


def test_a_missing_column_names_split_example_and_column() -> None:
    one, two, three = examples(3)
    split = checked_split([one], [two], [three])
    require_columns(split, ["question"])
    with pytest.raises(DataError, match="train example 'e0' has no column 'context'"):
        require_columns(split, ["question", "context"])
