"""A task that fails says why, also where the store cannot take its word."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimas_core.artifacts import Workspace
from optimas_core.errors import SpecError
from optimas_core.launchers._tasks import read_outcome, run_task


async def fails() -> None:
    raise SpecError("the data has no column 'answer'.", remedy="Add it.")


def test_what_a_task_said_is_read_again(tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        run_task(str(tmp_path), "colours", "0-train-lrf", fails)
    said = read_outcome(Workspace.open(tmp_path).run("colours"), "0-train-lrf")
    assert isinstance(said, SpecError) and said.message == "the data has no column 'answer'."


def test_a_store_that_cannot_be_written_does_not_hide_the_reason(tmp_path: Path) -> None:
    (tmp_path / "runs" / "colours").mkdir(parents=True)
    (tmp_path / "runs" / "colours" / "report").write_text("a file where a folder belongs")
    with pytest.raises(SpecError, match="no column 'answer'"):
        run_task(str(tmp_path), "colours", "0-train-lrf", fails)
