"""The rollout engine at 256 calls in flight, beside DSPy's Evaluate and the bare openai SDK, on one loopback endpoint.

    python benchmarks/rollout_engine.py [--peer-python PATH] [--calls 5120] [--latency-s 1.0] [--repeats 2] [--quick] [--json]

The endpoint answers every call `latency` seconds after it came in, from a process of its own. *Efficiency* is
(latency x calls / in flight) / wall: 1 is the limit, and sending the first wave is part of it. *Calls per CPU second* counts the
client's process only. Every client asks the same questions; each row is a fresh process that is warm (imports done, a few calls
made), the best of `--repeats` taken in turns. `--peer-python` (or the environment variable OPTIMAS_PEER_PYTHON) names an interpreter
that has DSPy, in an environment of its own because it pins other versions of our libraries; without it the peer's rows are left out:

    python -m venv peer && peer/bin/pip install dspy
    python benchmarks/rollout_engine.py --peer-python peer/bin/python

Rows: ours as in a run (call cache and ledger in a workspace directory) and with both in memory only; DSPy as it comes (its
cache in memory and on disk), without its cache, and with a module that only calls the model (no signature, no adapter, no
parsing); the openai SDK alone in a loop with a semaphore.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _speed.endpoint import Endpoint, endpoint
from _speed.table import Column, Figure, Found

LOAD = Path(__file__).parent / "_speed" / "load.py"
WAYS = {
    "engine": "RolloutEngine, workspace on disk",
    "engine-memory": "RolloutEngine, in memory",
    "sdk": "openai SDK alone",
    "dspy": "DSPy Evaluate(Predict), its cache on",
    "dspy-uncached": "DSPy Evaluate(Predict), no cache",
    "dspy-bare": "DSPy Evaluate, bare model call, no cache",
}
# Ours against the peer's way that does the same work.
AGAINST = {"engine": "dspy", "engine-memory": "dspy-uncached"}
COLUMNS = (
    Column("way", "client"),
    Column("latency_s", "latency s", ".2f"),
    Column("calls", "calls"),
    Column("most_in_flight", "in flight"),
    Column("wall_s", "wall s", ".2f"),
    Column("efficiency", "efficiency", ".3f"),
    Column("cpu_ms_per_call", "CPU ms a call", ".2f"),
    Column("calls_per_cpu_s", "calls a CPU s", ".0f"),
    Column("peak_mb", "peak MB", ".0f"),
)


@dataclass(frozen=True, slots=True)
class Load:
    calls: int
    in_flight: int
    latency_s: float


def measured(client: str, python: str, server: Endpoint, load: Load) -> dict[str, Any]:
    """One run of one client. Raises: SystemExit: it failed."""
    server.reset()
    command = [python, str(LOAD), "--client", client, "--base-url", server.base_url]
    command += ["--calls", str(load.calls), "--in-flight", str(load.in_flight)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{client} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"most_in_flight": server.stats()["most_in_flight"]}


def row(client: str, load: Load, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The best of the runs: whatever else the machine does only adds time."""
    wall_s, cpu_s = min(run["wall_s"] for run in runs), min(run["cpu_s"] for run in runs)
    return {
        "client": client,
        "way": WAYS[client],
        "latency_s": load.latency_s,
        "calls": load.calls,
        "most_in_flight": max(run["most_in_flight"] for run in runs),
        "wall_s": wall_s,
        "efficiency": load.latency_s * load.calls / load.in_flight / wall_s,
        "cpu_ms_per_call": 1000 * cpu_s / load.calls,
        "calls_per_cpu_s": load.calls / cpu_s,
        "peak_mb": max(run["peak_mb"] for run in runs),
        "runs": len(runs),
    }


def compare(load: Load, clients: list[str], peer: str | None, repeats: int) -> list[dict[str, Any]]:
    """A row for each client, measured in turns."""
    loads = {client: load if client.startswith("engine") else replace(load, calls=load.calls // 2) for client in clients}
    runs: dict[str, list[dict[str, Any]]] = {client: [] for client in clients}
    with endpoint(load.latency_s) as server:
        for _ in range(repeats):
            for client in clients:
                python = peer if client.startswith("dspy") and peer else sys.executable
                runs[client].append(measured(client, python, server, loads[client]))
    return [row(client, loads[client], found) for client, found in runs.items()]


def peer_version(python: str) -> str:
    """DSPy's version under that interpreter. Raises: SystemExit: it has none."""
    asked = "import importlib.metadata as m; print(m.version('dspy'))"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{python} has no DSPy: pip install dspy there, or leave --peer-python out.")
    return done.stdout.strip()


def figures(rows: list[dict[str, Any]], load: Load) -> list[Figure]:
    main = {item["client"]: item for item in rows if item["latency_s"] == load.latency_s}
    name = f"efficiency at {load.in_flight} in flight, latency {load.latency_s:g} s"
    found = [Figure("efficiency", name, main["engine"]["efficiency"], 0.95, "higher")]
    for ours, theirs in AGAINST.items():
        name = f"calls per CPU second: {WAYS[ours]}, over {WAYS[theirs]}"
        ratio = main[ours]["calls_per_cpu_s"] / main[theirs]["calls_per_cpu_s"] if theirs in main else None
        found.append(Figure(f"over-{theirs}", name, ratio, 3.0, "higher", why="no --peer-python"))
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=os.environ.get("OPTIMAS_PEER_PYTHON"), help="an interpreter that has DSPy")
    parser.add_argument("--calls", type=int, default=5120, help="of ours; the others make half as many")
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--latency-s", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="four waves, once: a smoke test")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    asked = parser.parse_args(arguments)
    load = Load(asked.calls, asked.in_flight, asked.latency_s)
    if asked.quick:
        load = Load(4 * asked.in_flight, asked.in_flight, min(asked.latency_s, 0.5))
    repeats = 1 if asked.quick else asked.repeats
    version = peer_version(asked.peer_python) if asked.peer_python else None
    clients = [name for name in WAYS if version or not name.startswith("dspy")]
    rows = compare(load, clients, asked.peer_python, repeats)
    for shorter_s in [] if asked.quick else [load.latency_s / 2, load.latency_s / 4]:
        rows += compare(Load(load.calls, load.in_flight, shorter_s), ["engine"], None, repeats)
    notes = [] if version else ["DSPy's rows are left out: no --peer-python was given."]
    Found(figures(rows, load), COLUMNS, rows, {"DSPy": version} if version else {}, notes).show(as_json=asked.json)


if __name__ == "__main__":
    main()
