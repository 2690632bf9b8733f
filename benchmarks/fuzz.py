"""Everything that reads a file of someone else's is given broken and hostile ones, and must refuse each with an error of ours.

    python benchmarks/fuzz.py [--seconds 60] [--seed 0] [--corpus DIR] [--only NAME] [--quick] [--json]

Targets: run.yaml, the data of a run, every table of a workspace, every JSON file, LRFs, requests of stages, and finished runs of which one
file is a stranger's (check sums and manifests made right again). Inputs are mutations of good files: bits, cuts, columns, types, huge
numbers, deep nesting, keys twice, tricks with paths, surrogates, YAML's own. New sorts of outcome and new lines of code make an input a
parent of others.

Columns: inputs tried; distinct errors of ours; lines of optimas_core that ran; longest CPU time and most memory of one input; defects.
A defect is any other exception, a message of more than 2,500 characters or with control characters, more than 5 s of CPU (the report: 30)
or 300 MB for one input, a crash, or two minutes without an answer. With a defect the exit code is 1.

`--corpus` reads earlier inputs from DIR and writes there the smallest input of every distinct error (tests/fixtures/fuzz_corpus, which
tests/unit/artifacts/test_fuzz_corpus.py reads again), beside run.zip, the finished run whose files they break; where that is none of
today's version any more, delete DIR. Inputs of `resumption` are not kept: they belong to a project that is gone. Same seed, same
inputs, but how many fit into the time varies.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from _fuzz import corpus
from _fuzz.hunting import Found, hunt
from _fuzz.readers import targets
from _fuzz.single_files import scratch
from _fuzz.whole_runs import base_run, packed, without_place
from _speed.table import Column, Figure
from _speed.table import Found as Table

_LEFT_OUT = ("calls/", "probe/", "/report/report.html", "/report/report.md", "lease.json")


COLUMNS = (
    Column("target", "target"),
    Column("inputs", "inputs"),
    Column("errors", "errors"),
    Column("lines", "lines"),
    Column("slowest_s", "CPU s", ".2f"),
    Column("peak_mb", "MB"),
    Column("defects", "defects"),
)


def made_run(folder: Path) -> tuple[bytes, Path]:
    """A small run to its end (the scripted system, a backbone with random weights): a zip of its files, and its run.yaml."""
    from _chaos.project import RUN_ID, write_project

    project = write_project(folder / "project")
    workspace = folder / "workspace"
    command = [sys.executable, "-m", "optimas_core.cli", "run", str(project), "--workspace", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the run to be broken could not be made:\n{done.stderr[-3000:]}")
    paths = sorted(path for path in (workspace / "runs" / RUN_ID).rglob("*") if path.is_file())
    files = {path.relative_to(workspace).as_posix(): path.read_bytes() for path in paths}
    kept = {key: data for key, data in files.items() if not any(part in key for part in _LEFT_OUT)}
    return packed(without_place(kept, folder)), project


def warm_up() -> None:
    """Imported before the first fork: what a slice would otherwise import again."""
    import matplotlib.figure  # noqa: F401
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401
    import torch
    from safetensors import torch as _  # noqa: F401

    import optimas_core.cli._app
    import optimas_core.cli._stage
    import optimas_core.reporting._figures
    import optimas_core.rewards  # noqa: F401

    torch.set_num_threads(1)
    scratch()  # before the first fork, so that it is one, and removed at the end


def found_of(found: list[Found], seconds: float, kept_bytes: int | None) -> Table:
    """The table, and every defect as a note."""
    rows: list[dict[str, Any]] = [
        {
            "target": item.target.name,
            "inputs": item.inputs,
            "errors": item.errors,
            "lines": len(item.lines),
            "slowest_s": item.slowest_s,
            "peak_mb": item.peak_mb,
            "defects": len(item.defects),
        }
        for item in found
    ]
    lines = len(set().union(*(item.lines for item in found)))
    sums = {name: sum(row[name] for row in rows) for name in ("inputs", "errors", "defects")}
    rows.append({"target": "all", "lines": lines} | sums)
    notes = [
        f"\n{item.target.name}: {outcome.error} at {outcome.where}\n{outcome.detail}\nof {len(data)} bytes: {data[:400]!r}"
        for item in found
        for outcome, data in item.defects
    ]
    facts = {"seconds": seconds} | ({} if kept_bytes is None else {"bytes of corpus": kept_bytes})
    figure = Figure("defects", "inputs that led to anything but a value or an error of ours", float(sums["defects"]), 0, "lower")
    return Table([figure], COLUMNS, rows, facts=facts, notes=notes)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="time for all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, help="directory of inputs to begin with and to keep new ones in")
    parser.add_argument("--only", action="append", default=[], help="targets whose name holds this; may be given again")
    parser.add_argument("--quick", action="store_true", help="ten seconds: a smoke test")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    asked = parser.parse_args(arguments)
    seconds = 10.0 if asked.quick else asked.seconds
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / corpus.RUN
        packed_run, project = made_run(Path(scratch))
        place.write_bytes(packed_run)
        known = corpus.load(asked.corpus) if asked.corpus and asked.corpus.is_dir() else {}
        warm_up()
        # What is kept names files of the run beside it. Only a run whose project is there can be resumed.
        kept = asked.corpus / corpus.RUN if asked.corpus and (asked.corpus / corpus.RUN).is_file() else place
        everything = targets(base_run(kept), (project, base_run(place)))
        chosen = [item for item in everything if not asked.only or any(part in item.name for part in asked.only)]
        found = hunt(chosen, seconds=seconds, seed=asked.seed, corpus=known)
        kept_bytes = None
        if asked.corpus:
            asked.corpus.mkdir(parents=True, exist_ok=True)
            kept_bytes = corpus.save(asked.corpus, found, kept.read_bytes())
    table = found_of(found, seconds, kept_bytes)
    table.show(as_json=asked.json)
    if table.figures[0].met is not True:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
