"""Processes of one project over one place, each with a log of the places it reached and of the calls it was billed for."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _chaos import compare
from _chaos.forks import Child, Zygote
from _chaos.project import RUN_ID
from optimas_core.artifacts import Workspace

# Every run of a series was created at this second, so that two of them can be compared byte by byte.
STARTED_AT_S = 1_750_000_000


@dataclass(frozen=True)
class Process:
    """A started process; `points` and `calls` are its logs."""

    child: Child
    points: Path
    calls: Path

    def wait(self, timeout_s: float = 120.0) -> int:
        """Its exit code, negative for a signal."""
        return self.child.wait(timeout_s)

    @property
    def said(self) -> str:
        return self.child.said


@dataclass(frozen=True)
class Series:
    """Runs of `project` in workspaces below `place` (a directory or s3://bucket/prefix)."""

    zygote: Zygote
    project: Path
    place: str
    logs: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    compare: Any = compare
    _opened: dict[str, Workspace] = field(default_factory=dict)

    def process(
        self,
        workspace: str,
        *,
        resume: bool = False,
        crash_at: str = "",
        environment: Mapping[str, str] | None = None,
        report: bool = False,
        **options: Any,
    ) -> Process:
        """Start one; `options` as in zygote.py."""
        logs = Path(tempfile.mkdtemp(dir=self.logs))
        points, calls = logs / "points", logs / "calls"
        variables = {"OPTIMAS_CRASH_LOG": str(points), "SCRIPTED_CALL_LOG": str(calls), "OPTIMAS_CRASH_AT": crash_at}
        child = self.zygote.start(
            ["resume" if resume else "run", self.project, "--workspace", self.where(workspace)],
            output=logs / "output",
            environment={**self.environment, **variables, **(environment or {})},
            started_at_s=STARTED_AT_S,
            report=report,
            **options,
        )
        return Process(child, points, calls)

    def where(self, workspace: str) -> str:
        return f"{self.place}/{workspace}"

    def open(self, workspace: str) -> Workspace:
        """The workspace; an S3 client is dear, so one is kept for each."""
        if workspace not in self._opened:
            self._opened[workspace] = Workspace.open(self.where(workspace))
        return self._opened[workspace]

    def left(self, workspace: str) -> compare.Left:
        return compare.what_is_left(self.open(workspace), RUN_ID)

    def read(self, workspace: str, key: str) -> bytes:
        """The bytes of one key; b"" where there is none."""
        blob = self.open(workspace).store.get(key)
        return b"" if blob is None else blob.data
