"""Several controllers on one run, in real processes: one at a time appends, whatever their clocks say and whoever hangs or dies."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

SeriesIn = Callable[..., Any]
HOUR_S = 3600.0


@pytest.fixture
def series(series_in: SeriesIn) -> Any:
    return series_in(None)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """What one run alone leaves, and its billed calls; made by the first test that asks."""
    return {}


def whole(series: Any, undisturbed: dict[str, Any]) -> tuple[Any, Any]:
    if not undisturbed:
        process = series.process("whole")
        assert process.wait() == 0
        undisturbed |= {"left": series.left("whole"), "calls": process.calls}
    return undisturbed["left"], undisturbed["calls"]


def epochs(series: Any, workspace: str) -> list[int]:
    return [state.epoch for state in series.open(workspace).run("chaos").states()]


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_of_four_at_once_with_clocks_two_hours_apart_one_runs_at_a_time(series: Any, undisturbed: dict[str, Any]) -> None:
    left, calls = whole(series, undisturbed)
    skews = (0.0, HOUR_S, -HOUR_S, 0.0)
    processes = [series.process("shared", skew_s=skew, lease_ttl_s=20.0, lease_wait_s=60.0) for skew in skews]
    assert [process.wait() for process in processes] == [0] * 4, [process.said[-500:] for process in processes]
    assert not series.compare.differences(series.left("shared"), left, finished=True)
    assert series.compare.repeated_calls([process.calls for process in processes], calls, 0) == 0
    assert len(set(epochs(series, "shared"))) == 1, "one of them did it all, the others found it done"


def test_a_second_controller_watches_a_live_one_until_it_is_told_to_stop(series: Any, undisturbed: dict[str, Any]) -> None:
    left, calls = whole(series, undisturbed)
    # Hung, but not for longer than its lease: a live holder.
    first = series.process("held", crash_at="lrf-manifest.before", signal=signal.SIGSTOP, lease_ttl_s=60.0)
    wait_until(first.child.is_stopped)
    second = series.process("held", lease_ttl_s=60.0, lease_wait_s=60.0)
    wait_until(lambda: "report.after" in series.compare.reached(second.points))  # the last that it writes before it looks at the lease
    time.sleep(0.2)
    assert not second.child.ended.done(), second.said
    second.child.send(signal.SIGTERM)
    assert second.wait() == 130 and not series.compare.reached(second.calls), "SIGTERM ends the wait"
    first.child.send(signal.SIGCONT)
    assert first.wait() == 0
    assert not series.compare.differences(series.left("held"), left, finished=True)
    assert series.compare.repeated_calls([first.calls], calls, 0) == 0


# Where the first holder hangs: while it pays, before a manifest, and after its last look at the lease but before the state is written.
HANGS = ("paid-call.before:5", "preferences-manifest.before", "state.before:2", "state.unpublished:3", "ledger.before:3")


def hang_and_wake(series: Any, place: str, left: Any, calls: Any) -> None:
    """The first holder is stopped at `place`, a second takes over, the first wakes up and gives way."""
    workspace = place.replace(":", "-")
    hung = series.process(workspace, crash_at=place, signal=signal.SIGSTOP, lease_ttl_s=0.5)
    wait_until(hung.child.is_stopped)
    paid = len(series.compare.reached(hung.calls))
    # The second takes over and stops at once, holding the lease, so that the first wakes in the middle of its reign.
    second = series.process(workspace, resume=True, crash_at="lease.after", signal=signal.SIGSTOP, lease_ttl_s=0.5, lease_wait_s=60.0)
    wait_until(second.child.is_stopped)
    hung.child.send(signal.SIGCONT)
    assert hung.wait() == 4, (place, hung.said[-1500:])
    assert "no longer held" in hung.said or "under lease epoch" in hung.said
    assert len(series.compare.reached(hung.calls)) - paid <= 2, "it paid on after it had lost the run"
    second.child.send(signal.SIGCONT)
    assert second.wait() == 0, (place, second.said[-1500:])
    found = series.left(workspace)
    assert not series.compare.differences(found, left, finished=True), place
    assert series.compare.repeated_calls([hung.calls, second.calls], calls, series.compare.in_flight(hung.points)) == 0, place
    assert epochs(series, workspace) == sorted(epochs(series, workspace))


def test_a_holder_that_hangs_and_wakes_after_its_lease(series: Any, undisturbed: dict[str, Any]) -> None:
    left, calls = whole(series, undisturbed)
    with ThreadPoolExecutor(len(HANGS)) as together:
        list(together.map(lambda place: hang_and_wake(series, place, left, calls), HANGS))


def test_over_s3_it_is_the_same(series: Any, series_in: SeriesIn, undisturbed: dict[str, Any], s3_url: str) -> None:
    left, calls = whole(series, undisturbed)
    far = series_in(s3_url)
    processes = [far.process("shared", skew_s=skew, lease_ttl_s=20.0, lease_wait_s=60.0) for skew in (0.0, 600.0, -600.0)]
    assert [process.wait() for process in processes] == [0] * 3, [process.said[-500:] for process in processes]
    assert not far.compare.differences(far.left("shared"), left, finished=True)
    assert far.compare.repeated_calls([process.calls for process in processes], calls, 0) == 0
    assert len(set(epochs(far, "shared"))) == 1
    with ThreadPoolExecutor(2) as together:
        list(together.map(lambda place: hang_and_wake(far, place, left, calls), ("paid-call.before:5", "state.before:2")))


def test_a_holder_that_wakes_when_all_is_done_changes_nothing(series: Any, undisturbed: dict[str, Any]) -> None:
    left, calls = whole(series, undisturbed)
    hung = series.process("late", crash_at="state.before:3", signal=signal.SIGSTOP, lease_ttl_s=0.5)
    wait_until(hung.child.is_stopped)
    second = series.process("late", resume=True, lease_ttl_s=0.5, lease_wait_s=60.0)
    assert second.wait() == 0
    hung.child.send(signal.SIGCONT)
    assert hung.wait() == 4
    assert not series.compare.differences(series.left("late"), left, finished=True)
    assert series.compare.repeated_calls([hung.calls, second.calls], calls, 0) == 0


@pytest.mark.parametrize("place", ["lease.before:2", "lease.unpublished:2", "lease.after:3"])
def test_killed_while_it_shows_that_it_lives(series: Any, undisturbed: dict[str, Any], place: str) -> None:
    left, calls = whole(series, undisturbed)
    killed = series.process("renewing", crash_at=place, lease_ttl_s=0.15)
    assert killed.wait() == -signal.SIGKILL
    again = series.process("renewing", resume=bool(series.left("renewing").committed))
    assert again.wait() == 0
    assert not series.compare.differences(series.left("renewing"), left, finished=True)
    assert series.compare.repeated_calls([killed.calls, again.calls], calls, series.compare.in_flight(killed.points)) == 0
