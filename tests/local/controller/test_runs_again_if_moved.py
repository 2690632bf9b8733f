"""`optimas run --if-moved`, and the task that a schedule begins with: a look at the promoted configuration, then a run or none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimas_core.artifacts import Workspace, pack_bundle, put_bundle
from optimas_core.controller import RunState
from optimas_core.launchers.tasks import check_drift
from optimas_core.reporting import report_of

Command = Callable[..., Any]
SECTIONS: dict[str, Any] = {"name": "first", "schedule": {"iterations": 2, "selection": {"kind": "round_robin"}}}


@pytest.fixture
def first(scripted_project: Callable[..., Path], optimas: Command) -> Path:
    """A finished run; its answerer was changed."""
    path = scripted_project(**SECTIONS)
    done = optimas("run", path, "--skip-checks")
    assert done.code == 0 and "Improved" in done.out, done.err
    return path


def model_changes_behind_its_name(path: Path) -> None:
    """From now on it mostly does not know; its name, prompts and parameters are what they were."""
    system = path.parent / "system.py"
    before = system.read_text()
    after = before.replace("seed % 8 == 0", "seed % 8 > 1")
    assert after != before
    system.write_text(after)
    sys.modules.pop("system", None)  # a new process would read it anew


def runs(path: Path) -> Workspace:
    return Workspace.open(path.parent / "workspace")


def states(path: Path, name: str) -> list[RunState]:
    return [RunState.from_json(stored.data) for stored in runs(path).run(name).states()]


def test_where_nothing_moved_the_run_ends_before_it_changes_anything(first: Path, optimas: Command) -> None:
    done = optimas("run", first, "--if-moved", "--name", "second", "--skip-checks")
    assert done.code == 0, done.err
    assert done.out.startswith("Nothing moved: f1 ") and "not optimized again" in done.out
    assert "drift check against run first" in done.err and "is what later checks compare with" in done.err
    assert [state.phase for state in states(first, "second")] == ["created", "finished"]
    report = report_of(runs(first).run("second"))
    assert report["drift"]["score"]["kind"] == "same" and not report["drift"]["alignment"], "only the sealed test was there to compare with"
    assert report["spend"]["system_runs"] > 0, "measured anew: the first run's recorded calls did not answer"
    spent = report["spend"]["system_runs"]
    again = optimas("run", first, "--if-moved", "--name", "second", "--skip-checks")
    assert again.out == done.out and report_of(runs(first).run("second"))["spend"]["system_runs"] == spent, "nothing is paid twice"

    third = optimas("run", first, "--if-moved", "--name", "third", "--skip-checks")
    assert third.code == 0 and third.out.startswith("Nothing moved"), third.err
    drift = report_of(runs(first).run("third"))["drift"]
    assert drift["run"] == "first" and drift["score"]["difference"] == 0.0, "item by item with the second: same seeds, same answers"
    assert drift["score"]["n"] >= 10 and set(drift["alignment"]) == {"lookup", "answerer"}


def test_the_check_can_be_run_alone(first: Path, optimas: Command, tmp_path: Path) -> None:
    ended = states(first, "first")[-1]
    request = {"run": "first", "configuration": ended.configuration, "lrf": ended.lrf, "test": ended.record["test"]}
    (tmp_path / "request.json").write_text(json.dumps(request))
    done = optimas("stage", "drift-check", first, "--request", tmp_path / "request.json")
    assert done.code == 0, done.err
    decision = json.loads((first.parent / "workspace/runs/first/validations" / done.out.strip() / "decision.json").read_text())
    assert not decision["moved"] and decision["score"]["n_pairs"] == 16


def test_a_change_after_the_first_check_is_seen_item_by_item(first: Path, optimas: Command) -> None:
    assert optimas("run", first, "--if-moved", "--name", "second", "--skip-checks").code == 0
    model_changes_behind_its_name(first)
    done = optimas("run", first, "--if-moved", "--name", "third", "--skip-checks")
    assert done.code == 0, done.err
    report = report_of(runs(first).run("third"))
    assert (
        report["drift"]["moved"] and report["drift"]["reason"].startswith("the score fell: f1 ") and " then, " in report["drift"]["reason"]
    )


def test_where_the_score_fell_a_whole_run_starts_from_what_was_promoted(first: Path, optimas: Command) -> None:
    ended = states(first, "first")[-1]
    model_changes_behind_its_name(first)
    done = optimas("run", first, "--if-moved", "--name", "second", "--skip-checks")
    assert done.code == 0, done.err
    second = runs(first).run("second")
    report = report_of(second)
    assert report["drift"]["moved"] and report["drift"]["score"]["kind"] == "fell"
    assert report["digests"]["start"] == ended.configuration and report["iterations"], "warm: from where the first run ended"
    assert second.open_artifact("lrf", str(ended.lrf)) is not None
    initial = states(first, "second")[1].record["lrf"]
    trained = second.open_artifact("lrf", initial)
    assert trained is not None and trained.read_json("metrics.json")["started_from"] == ended.lrf, (
        "its reward functions are trained further"
    )


def test_without_anything_to_compare_with_the_run_goes_on(scripted_project: Callable[..., Path], optimas: Command) -> None:
    path = scripted_project(**SECTIONS)
    done = optimas("run", path, "--if-moved", "--name", "second", "--skip-checks")
    assert done.code == 0 and "Improved" in done.out, done.err
    assert report_of(runs(path).run("second"))["drift"] is None


@pytest.mark.parametrize("point", ["validations-manifest.before:1", "validations-manifest.after:1", "state.after:1"])
def test_a_check_that_was_killed_is_gone_on_with(first: Path, optimas: Command, tmp_path: Path, point: str) -> None:
    apart = Path(shutil.copytree(first.parent, tmp_path / "apart")) / "run.yaml"  # else one would be compared with the other
    whole = optimas("run", apart, "--if-moved", "--name", "second", "--skip-checks")
    spec = runs(apart).run("second").read_spec()
    assert spec is not None
    runs(first).run("second").freeze_spec(spec)
    command = [sys.executable, "-m", "optimas_core.cli", "run", str(first), "--if-moved", "--name", "second", "--skip-checks"]
    killed = subprocess.run(command, env=os.environ | {"OPTIMAS_CRASH_AT": point}, capture_output=True, text=True, timeout=240)
    assert killed.returncode < 0, killed.stderr[-2000:]
    done = optimas("resume", first, "--name", "second")
    assert done.code == 0, done.err
    assert done.out.split("Report")[0] == whole.out.split("Report")[0], "the same figures at the same cost"
    assert [state.phase for state in states(first, "second")] == ["created", "finished"]


def test_the_task_of_a_schedule_says_which_run_goes_on_the_same_at_every_try(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIMAS_CODE_FOLDER", str(tmp_path / "code"))
    workspace = runs(first)
    place = workspace.url
    bundle = put_bundle(workspace, pack_bundle(first.parent, exclude=[first.parent / "workspace"]))
    figures: dict[str, Any] = {}
    shown = tmp_path / "manifest.json"
    assert check_drift(place, "first", bundle, "0123456789", figures, str(shown)) == ("first-01234567", "no")
    manifest = json.loads(shown.read_text())
    assert manifest["uri"].startswith(f"{place}/runs/first-01234567/validations/") and len(manifest["manifest"]["files"]) == 2
    assert figures["reason"].startswith("nothing moved") and {"then", "now"} <= figures.keys()
    assert check_drift(place, "first", bundle, "0123456789", {}) == ("first-01234567", "no")

    model_changes_behind_its_name(first)
    changed = put_bundle(workspace, pack_bundle(first.parent, exclude=[first.parent / "workspace"]))
    assert check_drift(place, "first", changed, "9876543210", {}) == ("first-98765432", "yes")
    assert [state.phase for state in states(first, "first-98765432")] == ["created"]
