"""SIGTERM in the middle of each stage: the calls in flight end and are kept, the process says how to go on, and nothing is paid twice."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

# One place or more in each stage, in the order a run reaches them; counts are of the process that is told to stop.
PLACES = (
    ("generate-preferences, paying", "paid-call.before:3"),
    ("generate-preferences, committing", "preferences-file.before"),
    ("train-lrf", "lrf-file.before"),
    ("the state after the warm-up", "state.unpublished"),
    ("propose", "proposals-file.before"),
    ("generate-preferences of an iteration", "preferences-manifest.before"),
    ("adapt-lrf", "lrf-manifest.before"),
    ("local-optimize, racing", "paid-call.after:2"),
    ("local-optimize, committing", "proposals-manifest.before"),
    ("propose, the proposing model", "proposal-call.before"),
    ("validate-accept, paying", "configuration.after"),
    ("validate-accept, committing", "validations-manifest.before"),
    ("sealed-test, paying", "paid-call.before"),
    ("sealed-test, committing", "validations-file.before"),
)


def test_sigterm_in_each_stage_ends_cleanly_and_is_resumed(series_in: Callable[..., Any]) -> None:
    series = series_in(None)
    undisturbed = series.process("whole")
    assert undisturbed.wait() == 0
    whole = series.left("whole")
    billed, begun = [], False
    for stage, place in PLACES:
        process = series.process("stopped", resume=begun, crash_at=place, signal=signal.SIGTERM)
        code, begun = process.wait(), True
        billed.append(process.calls)
        assert code == 130, (stage, code, process.said[-1500:])
        assert "SIGTERM" in process.said and "optimas resume" in process.said and "Traceback" not in process.said
        assert not series.compare.differences(series.left("stopped"), whole, finished=False), stage
        places = series.compare.reached(process.points)
        after = places[places.index(place.partition(":")[0]) :]
        assert after.count("paid-call.before") + after.count("proposal-call.before") <= 1 + 2 + 3, f"{stage}: it went on paying"
        assert series.compare.in_flight(process.points) == 0, f"{stage}: a call in flight was not kept"
        lease = json.loads(series.read("stopped", "runs/chaos/lease.json"))
        assert lease["released"] is True, stage
    last = series.process("stopped", resume=True)
    assert last.wait() == 0
    assert not series.compare.differences(series.left("stopped"), whole, finished=True)
    assert series.compare.repeated_calls([*billed, last.calls], undisturbed.calls, 0) == 0
