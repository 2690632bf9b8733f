"""Kills runs at random moments and counts what that cost: lost, repeated, diverged. All three must be 0.

    python benchmarks/chaos.py                       100 moments, in a directory
    python benchmarks/chaos.py --moments 20 --seed 7 --json
    python benchmarks/chaos.py --exhaustive          every place a run reaches, at each of its occurrences (many minutes)
    AWS_ENDPOINT_URL=… python benchmarks/chaos.py --place s3://bucket/prefix

A run of the scripted system (no network, no weights; two iterations, a gate, a sealed test, a report; 20 ms a call) is killed with
SIGKILL at a moment drawn from its undisturbed duration, in a process of its own; another process resumes it. Then its files are compared
with those of the undisturbed run:

    lost       artifacts, files, configurations and states that are missing, or no report
    repeated   model calls that were billed more often than in the undisturbed run, beyond those in flight at the kill
    diverged   committed bytes or states that differ, or that the undisturbed run does not have

A row is where the run was when it died; `in flight` counts calls that were paid for and not kept yet, which are paid again. Ends with
exit code 1 if a count is not 0.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _chaos import compare
from _chaos.forks import Zygote
from _chaos.project import RUN_ID, write_project
from _chaos.series import Process, Series

# What a run is doing when so many states are written.
DOING = ("start", "warm-up", "iteration 1", "iteration 2", "end of the loop", "sealed test", "report")


@dataclass(frozen=True)
class Outcome:
    """One kill. `killed`: False where the run had ended before its moment."""

    killed: bool
    doing: str
    in_flight: int
    lost: int
    repeated: int
    diverged: int


@dataclass(frozen=True)
class Row:
    """All kills while the run was doing one thing."""

    doing: str
    kills: int
    in_flight: int
    lost: int
    repeated: int
    diverged: int


@dataclass(frozen=True)
class Undisturbed:
    """The run that nobody kills: what it leaves, its billed calls, the places it reached and how long it took."""

    left: compare.Left
    calls: Path
    places: Sequence[str]
    seconds: float
    calls_made: int


def undisturbed_run(series: Series) -> Undisturbed:
    """Raises RuntimeError if it does not end well."""
    began = time.monotonic()
    process = series.process("undisturbed", report=True)
    if process.wait() != 0:
        raise RuntimeError(f"the undisturbed run failed:\n{process.said[-2000:]}")
    seconds = time.monotonic() - began
    places, calls = compare.reached(process.points), compare.reached(process.calls)
    return Undisturbed(series.left("undisturbed"), process.calls, places, seconds, len(calls))


def killed_after(series: Series, workspace: str, seconds: float) -> Process:
    """A process that was killed so many seconds after its start, unless it ended before."""
    process = series.process(workspace, report=True)
    try:
        process.wait(seconds)
    except TimeoutError:
        process.child.send(signal.SIGKILL)
    process.wait()
    return process


def outcome(series: Series, workspace: str, killed: Process, whole: Undisturbed) -> Outcome:
    """Resume the run and compare."""
    code = killed.wait()
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"exit code {code} before the kill:\n{killed.said[-2000:]}")
    flying = compare.in_flight(killed.points) if code else 0
    begun = bool(series.read(workspace, f"runs/{RUN_ID}/spec.json"))
    again = series.process(workspace, resume=begun, report=True)
    if again.wait() != 0:
        raise RuntimeError(f"the resumed run failed:\n{again.said[-2000:]}")
    found = compare.differences(series.left(workspace), whole.left, finished=True)
    if not all(series.read(workspace, f"runs/{RUN_ID}/report/report.{kind}") for kind in ("html", "md", "json")):
        found.lost.add("report")
    repeated = compare.repeated_calls([killed.calls, again.calls], whole.calls, flying)
    states = compare.reached(killed.points).count("state.after")
    return Outcome(code != 0, DOING[min(states, len(DOING) - 1)], flying, len(found.lost), repeated, len(found.diverged))


def rows_of(outcomes: Iterable[Outcome]) -> list[Row]:
    """One row for each thing a run does, and a last one with the sums."""
    kills = [item for item in outcomes if item.killed]
    named = [(doing, [item for item in kills if item.doing == doing]) for doing in DOING]
    return [
        Row(doing, len(some), *(sum(getattr(item, name) for item in some) for name in ("in_flight", "lost", "repeated", "diverged")))
        for doing, some in [*named, ("all", kills)]
    ]


def random_moments(series: Series, whole: Undisturbed, count: int, seed: int, jobs: int) -> list[Outcome]:
    """`count` kills; a moment that the run did not live to see is drawn anew."""
    rng = random.Random(seed)
    found: list[Outcome] = []
    while (left := count - sum(item.killed for item in found)) > 0:
        moments = [(f"moment-{len(found)}-{index}", rng.uniform(0, whole.seconds)) for index in range(left)]

        def one(moment: tuple[str, float]) -> Outcome:
            return outcome(series, moment[0], killed_after(series, *moment), whole)

        found += in_parallel(one, moments, jobs)
    return found


def every_place(series: Series, whole: Undisturbed, jobs: int) -> list[Outcome]:
    """A kill at each occurrence of each place."""
    counts: Counter[str] = Counter()
    places = []
    for name in whole.places:
        counts[name] += 1
        places.append(f"{name}:{counts[name]}")

    def one(place: str) -> Outcome:
        workspace = place.replace(":", "-")
        return outcome(series, workspace, series.process(workspace, crash_at=place, report=True), whole)

    return in_parallel(one, places, jobs)


def in_parallel(work: Callable[[Any], Outcome], items: Sequence[Any], jobs: int) -> list[Outcome]:
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(work, items))


def as_table(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = ["| killed during | kills | calls in flight | lost | repeated | diverged |", "|---|---|---|---|---|---|"]
    lines += [f"| {row.doing} | {row.kills} | {row.in_flight} | {row.lost} | {row.repeated} | {row.diverged} |" for row in rows]
    return "\n".join(lines)


def _without_progress_bars() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=100, help="kills; default: %(default)s")
    parser.add_argument("--exhaustive", action="store_true", help="every occurrence of every place instead of random moments")
    parser.add_argument("--place", help="where the workspaces go, a directory or s3://bucket/prefix; default: a temporary directory")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON array instead of a table")
    arguments = parser.parse_args()
    if arguments.moments < 1 or arguments.jobs < 1:
        parser.error("--moments and --jobs must be at least 1")
    began = time.monotonic()
    _without_progress_bars()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, Zygote() as zygote:
        project = write_project(Path(folder) / "project")
        series = Series(zygote, project, arguments.place or folder, Path(folder), {"SCRIPTED_LATENCY_S": "0.02"})
        whole = undisturbed_run(series)
        if arguments.exhaustive:
            rows = rows_of(every_place(series, whole, arguments.jobs))
        else:
            rows = rows_of(random_moments(series, whole, arguments.moments, arguments.seed, arguments.jobs))
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print(as_table(rows))
        print(f"\nundisturbed: {whole.seconds:.1f} s, {whole.calls_made} model calls; {time.monotonic() - began:.0f} s in all")
    total = rows[-1]
    return int(total.lost + total.repeated + total.diverged > 0)


if __name__ == "__main__":
    sys.exit(main())
