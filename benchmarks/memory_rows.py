"""Peak memory while generating 100,000 preference rows through the real stage: flat, whatever their number.

    python benchmarks/memory_rows.py [--rows 100000] [--quick] [--json]

Each row of the table is a process of its own (`_speed/row_load.py`): upstream, candidate outputs, rollouts through call cache and
ledger in a workspace directory, labels, both Parquet tables, the commit. A row holds about 1,600 characters
of random letters, of which a context and an output stand in several rows of their example.
*Beyond the start* is the peak of the resident size less that before the stage, when the libraries are loaded and the examples in
memory; a model would come on top of it. The call cache in memory is full after 20,000 results, so compare sizes above that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from _speed.table import Column, Figure, Found

LOAD = Path(__file__).parent / "_speed" / "row_load.py"
COLUMNS = (
    Column("rows", "preference rows"),
    Column("before_mb", "before MB", ".0f"),
    Column("peak_mb", "peak MB", ".0f"),
    Column("beyond_mb", "beyond the start MB", ".0f"),
    Column("file_mb", "pairs.parquet MB", ".1f"),
)


def measured(rows: int) -> dict[str, Any]:
    """One process. Raises: SystemExit: it failed."""
    done = subprocess.run([sys.executable, str(LOAD), "--rows", str(rows)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{rows} rows failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"beyond_mb": found["peak_mb"] - found["before_mb"]}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="4,000 rows: a smoke test")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    asked = parser.parse_args(arguments)
    most = 4_000 if asked.quick else asked.rows
    rows = [measured(most // 2), measured(most)]
    figures = [
        Figure("peak", f"peak memory beyond the start, {most:,} rows", rows[-1]["beyond_mb"], 500.0, "lower", " MB"),
        Figure("flat", "the same, over that of half as many rows", rows[-1]["beyond_mb"] / rows[0]["beyond_mb"], 1.25, "lower"),
    ]
    Found(figures, COLUMNS, rows).show(as_json=asked.json)


if __name__ == "__main__":
    main()
