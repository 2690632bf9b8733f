"""Going on with a run that has nothing left to do costs the same however many iterations it had; its report is made anew when it must."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from optimas_core.artifacts import Workspace
from optimas_core.artifacts._directory import DirectoryStore
from optimas_core.cli._inspect import _states_from
from optimas_core.errors import EnvironmentNotReady
from optimas_core.models.embedded import embedded_path

Command = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def prepared() -> None:
    try:
        embedded_path("all-minilm-l6-v2")
    except EnvironmentNotReady as error:
        pytest.skip(str(error))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys read of any directory store."""
    keys: list[str] = []
    get = DirectoryStore.get

    def noted(self: DirectoryStore, key: str, **options: Any) -> Any:
        keys.append(key)
        return get(self, key, **options)

    monkeypatch.setattr(DirectoryStore, "get", noted)
    return keys


def test_a_finished_run_is_told_from_its_standing_report(optimas: Command, scripted_project: Write, read: list[str]) -> None:
    path = scripted_project(name="colours", schedule={"iterations": 1})
    assert (first := optimas("run", path, "--json")).code == 0, first.err
    report = path.parent / "workspace/runs/colours/report"
    written = (report / "report.html").stat().st_mtime_ns

    read.clear()
    again = optimas("resume", path, "--json")
    assert json.loads(again.out) == json.loads(first.out)
    assert not [key for key in read if key.endswith("manifest.json")], "no iteration's artifact is opened"
    assert (report / "report.html").stat().st_mtime_ns == written

    # A part of it is gone, damaged or of another version: it is made anew, and says the same.
    for damage in (
        lambda: (report / "report.html").unlink(),
        lambda: (report / "report.json").write_text("[]"),
        lambda: (report / "report.json").write_text((report / "report.json").read_text().replace('"optimas": "', '"optimas": "0.0.')),
    ):
        damage()
        read.clear()
        assert json.loads(optimas("resume", path, "--json").out) == json.loads(first.out)
        assert [key for key in read if key.endswith("manifest.json")] and (report / "report.html").is_file()

    # Caps are part of the report.
    spec = yaml.safe_load(path.read_text()) | {"budget": {"hours": 5}}
    path.write_text(yaml.safe_dump(spec))
    assert optimas("resume", path).code == 0
    assert json.loads((report / "report.json").read_text())["budget"]["hours"] == 5


def test_a_look_at_a_run_reads_only_what_is_new(tmp_path: Path, read: list[str]) -> None:
    run = Workspace.open(tmp_path).run("r")
    for index in range(40):
        run.append_state(index, {"n": index})
    read.clear()
    assert [state.index for state in _states_from(run, 38)] == [38, 39] and len(read) == 3
    read.clear()
    assert list(_states_from(run, 40)) == [] and len(read) == 1
    assert [state.index for state in _states_from(run, 0)] == list(range(40))
