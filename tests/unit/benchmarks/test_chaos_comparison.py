"""benchmarks/chaos.py counts what it says: the comparison sees what is lost, repeated and diverged."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
DIGEST = "ab" * 16
FACTS = {"inputs": {}, "producer": "code", "created_at": "2025-01-01T00:00:00Z"}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def compare() -> Any:
    return importlib.import_module("_chaos.compare")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    run = Workspace.open(tmp_path / "whole").run("chaos")
    run.freeze_spec({"n": 1})
    run.put_configuration({"k": 1})
    run.commit_artifact("lrf", DIGEST, {"a.bin": b"1", "b.bin": b"2"}, **FACTS)
    for index in range(3):
        run.append_state(index, {"n": index})
    shutil.copytree(tmp_path / "whole", tmp_path / "other")
    return tmp_path


def difference(compare: Any, workspace: Path, *, finished: bool = True) -> Any:
    whole, other = (compare.what_is_left(Workspace.open(workspace / name), "chaos") for name in ("whole", "other"))
    return compare.differences(other, whole, finished=finished)


def test_equal_runs_do_not_differ(compare: Any, workspace: Path) -> None:
    assert not difference(compare, workspace)
    (workspace / f"other/runs/chaos/lrf/{DIGEST}/c.bin").write_bytes(b"half written")
    assert not difference(compare, workspace), "a file that no manifest names does not exist"
    assert compare.what_is_left(Workspace.open(workspace / "other"), "chaos").orphans == {f"runs/chaos/lrf/{DIGEST}/c.bin"}


def test_what_is_missing_is_lost_at_the_end_only(compare: Any, workspace: Path) -> None:
    run = workspace / "other/runs/chaos"
    (run / "state/000002.json").unlink()
    (run / "state/HEAD").write_text("1")
    (run / f"lrf/{DIGEST}/manifest.json").unlink()
    found = difference(compare, workspace)
    assert "state 2" in found.lost and f"runs/chaos/lrf/{DIGEST}/a.bin" in found.lost and not found.diverged
    assert not difference(compare, workspace, finished=False)


def test_other_bytes_other_states_and_more_of_them_diverge(compare: Any, workspace: Path) -> None:
    run = Workspace.open(workspace / "other").run("chaos")
    shutil.rmtree(workspace / f"other/runs/chaos/lrf/{DIGEST}")
    run.commit_artifact("lrf", DIGEST, {"a.bin": b"1", "b.bin": b"3"}, **FACTS)
    run.append_state(3, {"n": 3})
    run.put_configuration({"k": 2})
    found = difference(compare, workspace, finished=False)
    assert {f"runs/chaos/lrf/{DIGEST}/b.bin", f"runs/chaos/lrf/{DIGEST}/manifest.json", "state 3"} <= found.diverged
    assert len(found.diverged) == 4 and bool(found)


def test_calls_beyond_those_in_flight_are_repeated(compare: Any, tmp_path: Path) -> None:
    def log(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    whole = log("whole", "a", "b", "b", "c")
    killed, resumed = log("killed", "a", "b"), log("resumed", "b", "b", "c")
    assert compare.repeated_calls([killed, resumed], whole, 1) == 0
    assert compare.repeated_calls([killed, resumed], whole, 0) == 1
    points = log("points", "paid-call.before", "proposal-call.before", "paid-call.after", "call-record.before", "call-record.after")
    assert compare.in_flight(points) == 1


def test_rows_add_up_and_leave_out_runs_that_ended_before_their_moment() -> None:
    chaos = importlib.import_module("chaos")
    outcomes = [
        chaos.Outcome(True, "warm-up", 1, 0, 0, 0),
        chaos.Outcome(True, "report", 0, 2, 1, 3),
        chaos.Outcome(False, "report", 0, 0, 0, 0),
    ]
    rows = {row.doing: row for row in chaos.rows_of(outcomes)}
    assert (rows["warm-up"].kills, rows["report"].kills, rows["all"].kills) == (1, 1, 2)
    assert (rows["all"].in_flight, rows["all"].lost, rows["all"].repeated, rows["all"].diverged) == (1, 2, 1, 3)
    assert "| all | 2 | 1 | 2 | 1 | 3 |" in chaos.as_table(list(rows.values()))
