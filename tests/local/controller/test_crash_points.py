"""Every commit and every paid call has a place to die before and after it; killed at each of them, a run goes on as if nothing had been.

The places are those that an undisturbed run of the scripted system reaches. A run is killed at one place, resumed in a new process that is
killed at the next, and so on; at every death what is there must be a beginning of the undisturbed run, at the end all of it, byte by byte.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from optimas_core.artifacts import collect

SeriesIn = Callable[[str | None], Any]
# Renewals of the lease come with time, not with the run: tests/local/controller/test_two_controllers.py kills there.
ROLES = {
    "call-record", "configuration", "lease", "ledger", "ledger-hint", "lrf-file", "lrf-manifest", "model-call", "paid-call",
    "preferences-file", "preferences-manifest", "probe", "proposal-call", "proposals-file", "proposals-manifest", "report", "spec",
    "state", "state-hint", "validations-file", "validations-manifest",
}  # fmt: skip

CALLS = ("model-call", "paid-call", "proposal-call")


def kill_at(series: Any, names: Sequence[str], whole: Any, whole_calls: Path) -> list[str]:
    """Be killed at each name in turn, starting anew where a run ended before it; returns the names not met even then."""
    workspaces = (f"{names[0]}-{number}".replace(":", "-") for number in count())
    workspace, begun = next(workspaces), False
    billed, flying, not_met = list[Path](), 0, []
    for name in [*names, ""]:
        while True:
            fresh = not begun
            process = series.process(workspace, resume=begun, crash_at=name, report=name.startswith("report."))
            code = process.wait()
            assert code in (0, -signal.SIGKILL), process.said[-3000:]
            billed.append(process.calls)
            left = series.left(workspace)
            assert not series.compare.differences(left, whole, finished=code == 0), name
            if code != 0:
                lost = series.compare.in_flight(process.points)
                assert 0 <= lost <= 2, f"{name}: two calls at once is the run's concurrency"
                flying += lost
                begun = bool(left.committed)
                break
            assert series.compare.repeated_calls(billed, whole_calls, flying) == 0, name
            tidy_up(series, workspace, whole)
            workspace, begun, billed, flying = next(workspaces), False, [], 0
            if fresh or not name:
                not_met += [name] if name else []
                break
    return not_met


def tidy_up(series: Any, workspace: str, whole: Any) -> None:
    """What all those deaths left lying about is collected, and nothing else."""
    opened = series.open(workspace)
    before = series.left(workspace).orphans
    collected = set(collect(opened, min_age_s=-3600.0))
    assert before <= collected and all(key in before or ".tmp-" in key or key.startswith("probe/") for key in collected), collected
    found = series.left(workspace)
    assert not found.orphans and not series.compare.differences(found, whole, finished=True)


def in_order(places: Sequence[str], occurrence: int) -> list[str]:
    """Each place that is reached so often, in the order of that occurrence."""
    counts: Counter[str] = Counter()
    found: list[str] = []
    for place in places:
        counts[place] += 1
        if counts[place] == occurrence:
            found.append(place if occurrence == 1 else f"{place}:{occurrence}")
    return found


def test_every_place_in_a_directory_at_its_first_and_a_later_occurrence(series_in: SeriesIn) -> None:
    series = series_in(None)
    process = series.process("whole", report=True)
    assert process.wait() == 0
    whole, places = series.left("whole"), series.compare.reached(process.points)
    assert whole.states[-1]["phase"] == "finished" and '"accept"' in series.compare.verdicts(whole)
    assert {place.partition(".")[0] for place in places} == ROLES, "a write without a name, or a role that this run lacks"
    wanted = {f"{role}.{when}" for role in ROLES for when in ("before", "after", "unpublished")}
    assert set(places) == wanted - {f"{role}.unpublished" for role in CALLS}
    halves = [in_order(places, 1), in_order(places, 2)]
    with ThreadPoolExecutor(2) as both:
        assert list(both.map(lambda names: kill_at(series, names, whole, process.calls), halves)) == [[], []]


def test_every_place_over_s3(series_in: SeriesIn, s3_url: str) -> None:
    series = series_in(s3_url)
    process = series.process("whole", report=True)
    assert process.wait() == 0
    whole, places = series.left("whole"), series.compare.reached(process.points)
    assert {place.partition(".")[0] for place in places} == ROLES
    names = in_order(places, 1)
    with ThreadPoolExecutor(2) as both:
        assert list(both.map(lambda half: kill_at(series, half, whole, process.calls), [names[::2], names[1::2]])) == [[], []]
