"""Fixtures of every tier: a scripted project in a directory of the test's own, and the command line in this process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

SCRIPTED = Path(__file__).parent / "fixtures" / "scripted"


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def scripted_project(tmp_path: Path) -> Callable[..., Path]:
    """Writes the scripted project; keyword arguments replace sections of run.yaml. Returns the path of run.yaml."""

    def write(folder: str = "project", **sections: Any) -> Path:
        directory = tmp_path / folder
        shutil.copytree(SCRIPTED, directory, ignore=shutil.ignore_patterns("__pycache__"))
        spec = yaml.safe_load((directory / "run.yaml").read_text()) | sections
        (directory / "run.yaml").write_text(yaml.safe_dump({key: value for key, value in spec.items() if value is not None}))
        return directory / "run.yaml"

    return write


@pytest.fixture
def optimas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`optimas(*arguments)` as the entry point runs it, in this process."""

    def run(*arguments: object) -> Outcome:
        from optimas_core.cli import main

        monkeypatch.setattr(sys, "argv", ["optimas", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return run


@pytest.fixture(autouse=True)
def own_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Projects are imported by name from a directory of the test's own: no test sees another's."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "system", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
