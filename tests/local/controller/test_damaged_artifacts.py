"""A damaged artifact stops the stage that reads it, with the file and the column; deleted as the error says, it is derived again."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optimas_core.artifacts import Workspace

PAIRS, ROLLOUTS = "pairs.parquet", "rollouts.parquet"


def table(data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data))


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def swapped(data: bytes) -> bytes:
    """The values of the two reward columns exchanged, everything else as it was."""
    found = table(data)
    columns = {name: found.column(name) for name in found.column_names}
    columns["reward_chosen"], columns["reward_rejected"] = columns["reward_rejected"], columns["reward_chosen"]
    return parquet(pa.table(columns, schema=found.schema))


def other_order(data: bytes) -> bytes:
    found = table(data)
    names = found.column_names
    first, second = names.index("reward_chosen"), names.index("reward_rejected")
    names[first], names[second] = names[second], names[first]
    return parquet(found.select(names))


def newer(data: bytes) -> bytes:
    found = table(data)
    return parquet(found.replace_schema_metadata({**found.schema.metadata, b"optimas.schema_version": b"7"}))


def twice(data: bytes) -> bytes:
    found = table(data)
    return parquet(pa.concat_tables([found, found.slice(0, 1)]))


def no_number(data: bytes) -> bytes:
    found = table(data)
    index = found.column_names.index("reward")
    return parquet(found.set_column(index, found.schema.field("reward"), pa.array([float("nan")] * found.num_rows)))


def flipped(data: bytes) -> bytes:
    """One bit in the last value of the rewards."""
    group = pq.read_metadata(io.BytesIO(data)).row_group(0)
    chunk = next(group.column(index) for index in range(group.num_columns) if group.column(index).path_in_schema == "reward")
    position = (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 1
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


# file, damage, whether the manifest is made to agree (a stranger's artifact), what is said
DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], bool, str]] = {
    "cut": (PAIRS, lambda data: data[: len(data) // 2], False, "bytes where its manifest says"),
    "flipped": (ROLLOUTS, flipped, False, "damaged in column reward"),
    "flipped, and the manifest agrees": (ROLLOUTS, flipped, True, "in column reward "),
    "cut, and the manifest agrees": (PAIRS, lambda data: data[: len(data) // 2], True, "is not a whole Parquet file"),
    "swapped values": (PAIRS, swapped, True, "column reward_chosen"),
    "swapped columns": (PAIRS, other_order, True, "another order, from column reward_rejected"),
    "newer version": (PAIRS, newer, True, "schema_version '7'"),
    "a row twice": (PAIRS, twice, True, "two rows with the same (component, example_id"),
    "a reward that is no number": (ROLLOUTS, no_number, True, "column reward"),
    "a manifest cut": ("manifest.json", lambda data: data[: len(data) // 2], False, "is not a manifest"),
}


def damage(workspace: Path, file: str, change: Callable[[bytes], bytes], agree: bool) -> list[Path]:
    """Damage that file in every preference artifact; returns their folders."""
    run = Workspace.open(workspace).run("chaos")
    folders = [path.parent for path in (workspace / "runs/chaos/preferences").glob("*/manifest.json")]
    for folder in folders:
        artifact = run.open_artifact("preferences", folder.name)
        assert artifact is not None
        path = folder / file
        changed = change(path.read_bytes())
        path.write_bytes(changed)
        if agree:
            files = {name: changed if name == file else artifact.read(name) for name in artifact.names}
            recommit(run, "preferences", folder, files)
    return folders


def recommit(run: Any, kind: str, folder: Path, files: Mapping[str, bytes]) -> None:
    body = json.loads((folder / "manifest.json").read_bytes())
    shutil.rmtree(folder)
    facts = {name: body[name] for name in ("inputs", "producer", "created_at", "schemas")}
    run.commit_artifact(kind, folder.name, files, **facts)


@pytest.fixture
def half_way(series_in: Callable[..., Any]) -> tuple[Any, Any, Any]:
    """A series, what an undisturbed run leaves and its calls; in workspace "half" the first iteration is done.

    The undisturbed run ends at once if anything is unpickled.
    """
    series = series_in(None)
    undisturbed = series.process("whole", refuse_pickle=True)
    assert undisturbed.wait() == 0, undisturbed.said[-1500:]
    killed = series.process("half", crash_at="state.after:3")
    assert killed.wait() == -signal.SIGKILL
    return series, series.left("whole"), undisturbed.calls


def test_damaged_tables_are_named_and_never_scored(half_way: tuple[Any, Any, Any]) -> None:
    series, whole, _ = half_way
    states = series.left("half").states

    def one(name: str) -> None:
        file, change, agree, said = DAMAGES[name]
        workspace = name.replace(" ", "-").replace(",", "")
        place = Path(series.where(workspace))
        shutil.copytree(series.where("half"), place)
        folders = damage(place, file, change, agree)
        process = series.process(workspace, resume=True)
        assert process.wait() == 1, (name, process.said[-1500:])
        last = process.said.strip().splitlines()[-1]
        assert last.startswith("optimas: ") and said in last and "Traceback" not in process.said, last
        assert any(f"preferences/{folder.name}" in last for folder in folders) and file in last, last
        run = Workspace.open(place).run("chaos")
        assert tuple(state.data for state in run.states()) == states, "nothing was concluded from it"
        if name in ("cut", "swapped values", "a manifest cut"):
            for folder in folders:
                shutil.rmtree(folder)
            again = series.process(workspace, resume=True)
            assert again.wait() == 0, again.said[-1500:]
            assert not series.compare.differences(series.left(workspace), whole, finished=True), name

    with ThreadPoolExecutor(2) as both:
        list(both.map(one, DAMAGES))


def test_reward_functions_with_a_pickle_in_them_are_refused_and_derived_again(half_way: tuple[Any, Any, Any], tmp_path: Path) -> None:
    series, whole, calls = half_way
    place = Path(series.where("half"))
    run = Workspace.open(place).run("chaos")
    mark = tmp_path / "unpickled"
    latest = run.latest_state()
    assert latest is not None
    folder = place / "runs/chaos/lrf" / latest.data["lrf"]
    artifact = run.open_artifact("lrf", folder.name)
    assert artifact is not None
    files = {name: artifact.read(name) for name in artifact.names} | {"heads.safetensors": pickle.dumps(Bomb(mark))}
    recommit(run, "lrf", folder, files)
    process = series.process("half", resume=True, refuse_pickle=True)
    assert process.wait() == 1 and "heads.safetensors" in process.said and not mark.exists(), process.said[-1500:]
    for path in place.glob("runs/chaos/lrf/*"):
        shutil.rmtree(path)
    again = series.process("half", resume=True)
    assert again.wait() == 0, again.said[-1500:]
    assert not series.compare.differences(series.left("half"), whole, finished=True)
    assert series.compare.repeated_calls([again.calls], calls, 0) == 0
