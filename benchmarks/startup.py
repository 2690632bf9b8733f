"""How long `optimas --help` and `import optimas_core` take, beside `python -c pass`.

    python benchmarks/startup.py [--repeats 15] [--quick] [--json]

Each command in a new process, in turns, the fastest of `--repeats`: wall seconds, and the CPU seconds of the process and its
children. The interpreter's own start is in every row. `-X importtime` names the modules that cost most.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _speed.table import Column, Figure, Found

TARGET_S = 0.3
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import optimas_core": ["-c", "import optimas_core"],
    "optimas --help": ["-m", "optimas_core.cli", "--help"],
    "optimas run --help": ["-m", "optimas_core.cli", "run", "--help"],
}
COLUMNS = (
    Column("command", "command"),
    Column("wall_s", "wall s", ".3f"),
    Column("beyond_s", "beyond the interpreter s", ".3f"),
    Column("cpu_s", "CPU s", ".3f"),
    Column("runs", "runs"),
)


def once(arguments: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of one process. Raises: SystemExit: it failed."""
    before, began_s = os.times(), time.monotonic()
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, cwd=Path.home())
    wall_s, after = time.monotonic() - began_s, os.times()
    if done.returncode != 0:
        raise SystemExit(f"{arguments} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return after.children_user + after.children_system - before.children_user - before.children_system, wall_s


def measure(repeats: int) -> list[dict[str, Any]]:
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(repeats + 1):
        for name, arguments in COMMANDS.items():
            taken[name].append(once(arguments))
    bare_s = min(wall_s for _, wall_s in taken["python -c pass"][1:])
    rows = []
    for name, found in taken.items():
        warm = found[1:]  # the first one may have compiled the modules, or read them from the disk
        cpu_s, wall_s = min(item[0] for item in warm), min(item[1] for item in warm)
        rows.append({"command": name, "cpu_s": cpu_s, "wall_s": wall_s, "beyond_s": wall_s - bare_s, "runs": len(warm)})
    return rows


def slowest_modules(code: str, count: int = 5) -> list[str]:
    """The modules that take most of an import by themselves."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True, cwd=Path.home())
    lines = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if line.startswith("import time:")]
    timed = sorted(((int(own), name.strip()) for own, _, name in lines if own.strip().isdigit()), reverse=True)
    return [f"{name} {own / 1000:.0f} ms" for own, name in timed[:count]]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="one repeat: a smoke test")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    asked = parser.parse_args(arguments)
    rows = measure(1 if asked.quick else asked.repeats)
    figures = [
        Figure(str(row["command"]).split()[-1].strip("-"), f"`{row['command']}`", row["wall_s"], TARGET_S, "lower", " s")
        for row in rows
        if row["command"] in ("import optimas_core", "optimas --help")
    ]
    note = f"most of `import optimas_core`: {', '.join(slowest_modules('import optimas_core'))}"
    Found(figures, COLUMNS, rows, notes=[note]).show(as_json=asked.json)


if __name__ == "__main__":
    main()
