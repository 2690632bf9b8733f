"""Crash points: named, counted, and nothing at all without the variables."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from optimas_core.artifacts import Workspace
from optimas_core.artifacts import _write_points as points

WRITER = """
import sys
from optimas_core.artifacts import DirectoryStore, Workspace
run = Workspace.open(sys.argv[1]).run("r")
for index in range(3):
    run.append_state(index, {"n": index})
print("ended")
"""
PROMOTER = """
import sys
from optimas_core.artifacts import Workspace
pointer = Workspace.open(sys.argv[1]).promoted("qa")
for index in range(2):
    pointer.promote(f"{index}{index}" * 16, run_id="r", at="t", expected_serial=index)
print("ended")
"""


def process(tmp_path: Path, script: str = WRITER, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, str(tmp_path / "w")], capture_output=True, text=True, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("place", "states"), [("state.before", 0), ("state.unpublished:2", 1), ("state.after:2", 2), ("state-hint.before:3", 3)]
)
def test_dies_at_the_named_place_and_occurrence(tmp_path: Path, place: str, states: int) -> None:
    done = process(tmp_path, OPTIMAS_CRASH_AT=place)
    assert done.returncode == -signal.SIGKILL and "ended" not in done.stdout
    assert len(list((tmp_path / "w/runs/r/state").glob("*.json"))) == states


@pytest.mark.parametrize(("place", "serial"), [("promotion.before:2", 1), ("promotion.unpublished:2", 1), ("promotion.after:2", 2)])
def test_a_promotion_is_whole_or_was_not_made(tmp_path: Path, place: str, serial: int) -> None:
    done = process(tmp_path, PROMOTER, OPTIMAS_CRASH_AT=place)
    assert done.returncode == -signal.SIGKILL
    current = Workspace.open(tmp_path / "w").promoted("qa").current()
    assert current is not None and current.serial == serial


def test_without_the_variables_or_at_a_place_never_reached_nothing_happens(tmp_path: Path) -> None:
    log = tmp_path / "log"
    settings = [{}, {"OPTIMAS_CRASH_AT": "promotion.before"}, {"OPTIMAS_CRASH_AT": "state.before:4", "OPTIMAS_CRASH_LOG": str(log)}]
    for environment in settings:
        done = process(tmp_path / str(len(environment)), **environment)
        assert done.returncode == 0 and done.stdout == "ended\n", done.stderr
    whole = ["state.before", "state.unpublished", "state.after", "state-hint.before", "state-hint.unpublished", "state-hint.after"]
    assert log.read_text().split() == whole * 3


@pytest.mark.parametrize("text", ["state.before:0", "state.before:x", "state.before:-1"])
def test_a_place_that_cannot_be_read_is_one_sentence(tmp_path: Path, text: str) -> None:
    done = process(tmp_path, OPTIMAS_CRASH_AT=text)
    assert done.returncode == 1 and f"EnvironmentNotReady: OPTIMAS_CRASH_AT='{text}' names no place." in done.stderr


@pytest.mark.parametrize(
    ("key", "role"),
    [
        ("runs/r/spec.json", "spec"),
        ("runs/r/lease.json", "lease"),
        ("runs/r/state/000000.json", "state"),
        ("runs/r/state/HEAD", "state-hint"),
        ("runs/r/ledger/000001.json", "ledger"),
        ("runs/r/configurations/ab.json", "configuration"),
        ("runs/r/report/report.html", "report"),
        ("runs/r/lrf/abcdef01/heads.safetensors", "lrf-file"),
        ("runs/r/lrf/abcdef01/manifest.json", "lrf-manifest"),
        ("runs/r/lrf/abcdef01/deeper/manifest.json", "lrf-file"),
        ("calls/ab/abcdef01", "call-record"),
        ("bundles/abcdef01", "bundle"),
        ("current/qa", "promotion"),
        ("probe/00", "probe"),
        ("elsewhere", "other"),
    ],
)
def test_a_write_is_named_after_what_it_keeps(key: str, role: str) -> None:
    assert points.role_of(key) == role
