"""Share of a run's wall time outside model calls and training: what Optimas itself takes of the quickstart.

    python benchmarks/overhead.py [--system-runs 500] [--quick] [--json]

The quickstart's system and data with a small budget (`--system-runs`), as `optimas run` in a process of its own whose local
model and reward-function work are traced. Many calls are in progress at once, so their latencies add up to more than the wall
time; what counts is the *union*: the moments at which at least one model call, one training or one scoring by a reward
function was in progress. All else is ours: starting the interpreter, reading and checking, planning, the gate, the workspace,
the report. Loading a model is part of its first call. The run ends as every run does, with the sealed test and the report.

A call in progress may also wait for its batch. The row "outside, by batches" counts only the moments at which the model itself
was at work (or loading), the stricter reading: waiting for company and encoding prompts are then ours too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from _speed.table import Column, Figure, Found

QUICKSTART = Path(__file__).resolve().parents[1] / "examples" / "quickstart"
TRACED = Path(__file__).parent / "_speed" / "traced_run.py"
COLUMNS = (Column("what", "what"), Column("seconds", "seconds", ".2f"), Column("share", "share of wall", ".4f"), Column("count", "times"))
MODEL_WORK = ("model call", "training", "local rewards")
NAMES = {"model call": "model calls in progress", "batch": "batches of the model", "local rewards": "scoring by reward functions"}
STRICTER = ("batch", "training", "local rewards")


def union_s(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds covered by at least one span."""
    covered, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


def gaps(spans: Iterable[tuple[float, float]], begin: float, end: float) -> list[tuple[float, float]]:
    """The parts of [begin, end] that no span covers, in order."""
    found, until = [], begin
    for start, stop in sorted(spans):
        if start > until:
            found.append((until, start))
        until = max(until, stop)
    return [*found, (until, end)] if end > until else found


def project(directory: Path, system_runs: int) -> Path:
    """A copy of the quickstart with a small budget; returns its run.yaml."""
    shutil.copytree(QUICKSTART, directory, ignore=shutil.ignore_patterns("workspace", "__pycache__"))
    spec = yaml.safe_load((directory / "run.yaml").read_text())
    spec["budget"] = {"system_runs": system_runs}
    # The caps of single steps shrink with it, or the warm-up alone would take it all.
    spec["data"]["split"] |= {"train": 60, "validation": 60, "test": 16}
    spec["preferences"] |= {"examples": 6 if system_runs < 150 else 16}
    spec["optimizers"] |= {"search_inputs": 12, "fresh_inputs": 8}
    (directory / "run.yaml").write_text(yaml.safe_dump(spec))
    return directory / "run.yaml"


def measured(system_runs: int) -> tuple[list[tuple[str, float, float]], float, float, dict[str, Any]]:
    """Spans, begin and end of the process, and what the command printed. Raises: SystemExit: the run failed."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as place:
        run_yaml = project(Path(place) / "quickstart", system_runs)
        trace = Path(place) / "trace.json"
        began_s = time.monotonic()
        command = [sys.executable, str(TRACED), str(trace), "run", str(run_yaml), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        ended_s = time.monotonic()
        if done.returncode != 0:
            raise SystemExit(f"the run failed:\n{done.stderr[-2000:]}")
        spans = [(what, begin, end) for what, begin, end in json.loads(trace.read_text())]
        return spans, began_s, ended_s, json.loads(done.stdout.splitlines()[-1])


def rows_of(spans: Sequence[tuple[str, float, float]], began_s: float, ended_s: float) -> list[dict[str, Any]]:
    wall_s = ended_s - began_s
    parts = {what: [(begin, end) for name, begin, end in spans if name == what] for what in {*MODEL_WORK, *STRICTER}}
    bare, strict = ([span for what in kinds for span in parts[what]] for kinds in (MODEL_WORK, STRICTER))
    apart = gaps(bare, began_s, ended_s)
    first, last = min(bare)[0], max(end for _, end in bare)
    lines: list[tuple[str, float, int]] = [
        (NAMES.get(what, what), union_s(parts[what]), len(parts[what])) for what in ("model call", "batch", "training", "local rewards")
    ]
    lines += [
        ("calls, training or scoring (union)", union_s(bare), len(bare)),
        ("outside: before the first call", first - began_s, 1),
        ("outside: after the last call", ended_s - last, 1),
        ("outside: between", sum(end - begin for begin, end in apart if first < begin < last), sum(first < b < last for b, _ in apart)),
        ("outside, all", sum(end - begin for begin, end in apart), len(apart)),
        ("outside, by batches", wall_s - union_s(strict), len(gaps(strict, began_s, ended_s))),
        ("wall", wall_s, 1),
    ]
    return [{"what": what, "seconds": seconds, "share": seconds / wall_s, "count": count} for what, seconds, count in lines]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system-runs", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="the smallest budget that reaches the sealed test")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    asked = parser.parse_args(arguments)
    spans, began_s, ended_s, said = measured(100 if asked.quick else asked.system_runs)
    rows = rows_of(spans, began_s, ended_s)
    outside = next(row["share"] for row in rows if row["what"] == "outside, all")
    figure = Figure("outside", "share of wall time outside model calls and training", outside, 0.05, "lower")
    Found([figure], COLUMNS, rows, {"verdict": said["verdict"]["line"]}).show(as_json=asked.json)


if __name__ == "__main__":
    main()
