"""gc removes what no manifest names, and nothing else."""

from __future__ import annotations

import logging
import os
import time

import pytest

from optimas_core.artifacts import Workspace, collect
from optimas_core.errors import ArtifactCorrupt, SpecError

KEPT, ORPHAN, REFERRED, BROKEN = ("a" * 32, "b" * 32, "c" * 32, "d" * 32)
FACTS = {"inputs": {}, "producer": "code", "created_at": "2025-01-01T00:00:00Z"}
LATER = time.time() + 10 * 24 * 3600


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    workspace = Workspace.open(tmp_path)
    run = workspace.run("r1")
    run.freeze_spec({"n": 1})
    run.append_state(0, {"lrf": {"uri": f"lrf/{REFERRED}"}})
    run.commit_artifact("lrf", KEPT, {"x.bin": b"1"}, **FACTS)
    run.put_configuration({"k": 1})
    run.write_file("report/report.html", b"")
    run.ledger.append(0, b"{}")
    workspace.calls.put("e" * 32, {"n": 1})
    workspace.promoted("qa").promote("f" * 32, run_id="r1", at="t")
    store = workspace.store
    store.put(f"runs/r1/lrf/{KEPT}/x.0123456789ab.bin", b"a dead attempt's")
    store.put(f"runs/r1/lrf/{ORPHAN}/x.bin", b"1")
    store.put(f"runs/r1/lrf/{ORPHAN}/sub/y.bin", b"1")
    store.put(f"runs/r1/adapters/{REFERRED}/x.bin", b"1")
    store.put(f"runs/r1/lrf/{BROKEN}/x.bin", b"1")
    store.put(f"runs/r1/lrf/{BROKEN}/manifest.json", b"{")
    store.put("probe/0123", b"1")
    store.put(f"runs/r2/lrf/{ORPHAN}/x.bin", b"1")
    (tmp_path / "calls" / ".tmp-dead").write_bytes(b"1")
    return workspace


IN_R1 = [f"runs/r1/lrf/{KEPT}/x.0123456789ab.bin", f"runs/r1/lrf/{ORPHAN}/sub/y.bin", f"runs/r1/lrf/{ORPHAN}/x.bin"]
EVERYWHERE = [*IN_R1, f"runs/r2/lrf/{ORPHAN}/x.bin", "probe/0123"]


def test_only_leftovers_go(workspace, tmp_path):
    before = set(workspace.store.list())
    (tmp_path / "calls" / ".tmp-dead").touch()
    os.utime(tmp_path / "calls" / ".tmp-dead", (0, 0))
    expected = [*EVERYWHERE, "calls/.tmp-dead"]
    assert collect(workspace, dry_run=True, now_s=LATER) == expected
    assert set(workspace.store.list()) == before and (tmp_path / "calls" / ".tmp-dead").exists()
    assert collect(workspace, now_s=LATER) == expected
    assert before - set(workspace.store.list()) == set(EVERYWHERE)
    assert not (tmp_path / "calls" / ".tmp-dead").exists()
    assert collect(workspace, now_s=LATER) == []


def test_young_files_may_be_a_commit_in_progress(workspace):
    assert collect(workspace) == []


def test_one_run_only(workspace):
    assert collect(workspace, "r1", now_s=LATER) == IN_R1
    with pytest.raises(SpecError):
        collect(workspace, "../r1")


def test_calls_go_only_when_asked(workspace):
    assert f"calls/ee/{'e' * 32}" in collect(workspace, calls=True, now_s=LATER)
    assert workspace.calls.get("e" * 32) is None


def test_a_run_with_unreadable_states_is_left_alone(workspace, caplog):
    workspace.store.put("runs/r1/state/000000.json", b"{")
    with caplog.at_level(logging.WARNING):
        assert collect(workspace, now_s=LATER) == [f"runs/r2/lrf/{ORPHAN}/x.bin", "probe/0123"]
    assert "r1" in caplog.text
    with pytest.raises(ArtifactCorrupt):
        collect(workspace, "r1", now_s=LATER)


def test_a_leftover_taken_up_by_a_new_attempt_is_young_again(workspace, tmp_path):
    path = tmp_path / "runs" / "r1" / "lrf" / ORPHAN / "x.bin"
    os.utime(path, (0, 0))
    workspace.run("r1").commit_artifact("lrf", ORPHAN, {"x.bin": b"1"}, **FACTS)
    assert time.time() - path.stat().st_mtime < 600
