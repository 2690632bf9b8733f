"""Whether a file is old is decided on the clock that dated it, not on this machine's."""

from __future__ import annotations

import time

import pytest

from optimas_core.artifacts import Workspace, collect

LEFTOVER = f"runs/r1/lrf/{'b' * 32}/x.bin"


@pytest.mark.parametrize("skew_s", [-48 * 3600.0, -3600.0, 3600.0, 48 * 3600.0])
def test_a_wrong_wall_clock_makes_nothing_old_or_young(tmp_path, monkeypatch, skew_s):
    workspace = Workspace.open(tmp_path)
    workspace.store.put(LEFTOVER, b"a commit in progress")
    plain = time.time
    monkeypatch.setattr(time, "time", lambda: plain() + skew_s)
    assert collect(workspace, min_age_s=600.0) == []
    assert collect(workspace, min_age_s=-600.0) == [LEFTOVER]
    assert list(workspace.store.list()) == []
