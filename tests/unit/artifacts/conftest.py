"""What tests of the code bundle share: a small project, and a git that only the test sets up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = {
    "run.yaml": "system: app.system:build\n",
    "app/system.py": "WHERE = __file__\n",
    "app/__init__.py": "",
    "data/train.jsonl": "{}\n",
}


@pytest.fixture
def no_git_but_the_test_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither settings of whoever runs the tests nor a repository that their folder may lie in."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


@pytest.fixture
def project(tmp_path: Path, no_git_but_the_test_s: None) -> Path:
    """The folder of a small system, outside git."""
    root = tmp_path / "project"
    for name, text in PROJECT.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def git(project: Path) -> Callable[..., None]:
    """`git("add", "run.yaml")` in the project, which is a repository now."""
    if shutil.which("git") is None:
        pytest.skip("there is no program git")

    def run(*words: str, at: Path = project) -> None:
        settings = ("user.name=t", "user.email=t@example.org", "init.defaultBranch=main", "protocol.file.allow=always")
        options = [word for setting in settings for word in ("-c", setting)]
        subprocess.run(["git", *options, "-C", str(at), *words], check=True, capture_output=True)

    run("init")
    return run
