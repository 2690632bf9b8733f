"""Whole runs over S3 behind a proxy that plays faults: they end as an undisturbed run does, or stop in one sentence and are resumed."""

from __future__ import annotations

import importlib
import os
import random
import signal
from collections.abc import Callable
from typing import Any

import pytest

from optimas_core.artifacts import collect

SeriesIn = Callable[..., Any]


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """What one run alone leaves, and its billed calls; made by the first test that asks."""
    return {}


def whole(series_in: SeriesIn, undisturbed: dict[str, Any]) -> tuple[Any, Any]:
    if not undisturbed:
        alone = series_in(None)
        process = alone.process("whole")
        assert process.wait() == 0
        undisturbed |= {"left": alone.left("whole"), "calls": process.calls}
    return undisturbed["left"], undisturbed["calls"]


def test_a_run_through_a_bad_network_is_the_undisturbed_run(series_in: SeriesIn, undisturbed: dict[str, Any], s3_url: str) -> None:
    """Byte for byte what a run in a directory leaves: the store is no part of the result, and no fault leaves a missing one."""
    left, calls = whole(series_in, undisturbed)
    series = series_in(s3_url)
    faults = importlib.import_module("_chaos.fault_proxy")
    played = [
        faults.Fault("reset before"),
        faults.Fault("reset after"),
        faults.Fault("status before", 500, "InternalError"),
        faults.Fault("status after", 500, "InternalError"),
        faults.Fault("status before", 503, "SlowDown"),
        faults.Fault("status before", 409, "ConditionalRequestConflict"),
        faults.Fault("cut"),
    ]
    rng = random.Random(3)
    met: list[Any] = []

    def plan(seen: Any) -> Any:
        if rng.random() > 0.04:
            return None
        fault = rng.choice(played)
        if (fault.kind == "cut" and seen.method != "GET") or (fault.status == 409 and not seen.conditional):
            return None
        met.append(fault)
        return fault

    with faults.FaultProxy(os.environ["AWS_ENDPOINT_URL"], plan) as proxy:
        proxy.hidden = lambda key: rng.random() < 0.3
        process = series.process("run", environment={"AWS_ENDPOINT_URL": proxy.endpoint_url})
        code = process.wait()
    assert len(met) >= 5
    assert code == 0, process.said[-1500:]
    assert not series.compare.differences(series.left("run"), left, finished=True)
    assert series.compare.repeated_calls([process.calls], calls, 0) == 0


def test_an_outage_stops_the_run_in_one_sentence_and_leaves_no_missing_result(
    series_in: SeriesIn, undisturbed: dict[str, Any], s3_url: str
) -> None:
    """The server answers 503 to everything, first in the middle of paid calls, then in the middle of a commit, then to a state."""
    left, calls = whole(series_in, undisturbed)
    series = series_in(s3_url)
    faults = importlib.import_module("_chaos.fault_proxy")
    billed, flying = [], 0
    for begins in ("calls/", "/manifest.json", "/state/00000", ""):
        down = [False]

        def plan(seen: Any, begins: str = begins, down: list[bool] = down) -> Any:
            down[0] = down[0] or bool(begins and seen.method == "PUT" and begins in seen.key and seen.number > 40)
            return faults.Fault("status before", 503, "SlowDown") if down[0] else None

        with faults.FaultProxy(os.environ["AWS_ENDPOINT_URL"], plan) as proxy:
            environment = {"AWS_ENDPOINT_URL": proxy.endpoint_url}
            process = series.process("run", resume=bool(billed), environment=environment, s3_attempts=1)
            code = process.wait()
        billed.append(process.calls)
        if not begins:
            assert code == 0, process.said[-1500:]
            break
        last = process.said.strip().splitlines()[-1]
        assert code == 1 and last.startswith("optimas: cannot ") and "503" in last and "Traceback" not in process.said, process.said[-1500:]
        flying += series.compare.in_flight(process.points)
        assert not series.compare.differences(series.left("run"), left, finished=False)
    assert not series.compare.differences(series.left("run"), left, finished=True)
    assert series.compare.repeated_calls(billed, calls, flying) == 0


def test_killed_between_data_and_manifest_leaves_orphans_that_nobody_sees(
    series_in: SeriesIn, undisturbed: dict[str, Any], s3_url: str
) -> None:
    left, _ = whole(series_in, undisturbed)
    series = series_in(s3_url)
    process = series.process("run", crash_at="preferences-manifest.before")
    assert process.wait() == -signal.SIGKILL
    found = series.left("run")
    assert found.orphans and not [key for key in found.committed if "/preferences/" in key]
    workspace = series.open("run")
    assert collect(workspace) == [], "they are young: a commit may be in progress"
    assert set(collect(workspace, min_age_s=-3600.0)) == found.orphans
    again = series.process("run", resume=True)
    assert again.wait() == 0
    assert not series.compare.differences(series.left("run"), left, finished=True)
    assert not series.left("run").orphans
