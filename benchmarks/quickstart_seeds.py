"""The quickstart on several seeds (of the run and of the data split): what the sealed test says, failures included.

    python benchmarks/quickstart_seeds.py [--seeds 5] [--workspace DIR] [--quick] [--json]

Each seed is a run of its own, in a process of its own, as `optimas run examples/quickstart/run.yaml --seed N` does it; the call cache
is shared, so a call that two seeds have in common is made once. Prints one table; `--json` the rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_seed(seed: int, workspace: str) -> dict[str, object]:
    """One run; returns the figures of its report."""
    began = time.monotonic()
    command = [sys.executable, "-m", "optimas_core.cli", "run", str(ROOT / "examples/quickstart/run.yaml")]
    done = subprocess.run(
        [*command, "--seed", str(seed), "--workspace", workspace, "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        return {"seed": seed, "verdict": f"exit code {done.returncode}", "minutes": (time.monotonic() - began) / 60}
    run_id = json.loads(done.stdout.splitlines()[-1])["run_id"]
    report = json.loads((Path(workspace) / "runs" / run_id / "report" / "report.json").read_text())
    return {
        "seed": seed,
        "verdict": report["verdict"]["kind"],
        "baseline": report["baseline"]["mean"],
        "final": report["final"]["mean"],
        "difference": report["difference"]["mean"],
        "ci": report["difference"]["ci"],
        "n": report["difference"]["n"],
        "accepted": [f"{row['component']}.{row['knob']}" for row in report["iterations"] if row["verdict"] == "accept"],
        "steered_by_lrf": sum(row["steered_by"] == "lrf" for row in report["iterations"]),
        "iterations": len(report["iterations"]),
        "system_runs": report["spend"]["system_runs"],
        "minutes": (time.monotonic() - began) / 60,
    }


def as_table(rows: list[dict[str, object]]) -> str:
    """A Markdown table, one row a seed."""
    lines = [
        "| seed | sealed test before | after | difference (95 % interval), n | accepted | steps the LRF steered | system runs | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "baseline" not in row:
            lines.append(f"| {row['seed']} | {row['verdict']} | | | | | | {row['minutes']:.1f} |")
            continue
        ci = row["ci"]
        interval = f"{ci[0]:+.3f} to {ci[1]:+.3f}" if isinstance(ci, list) else "no interval"
        accepted = ", ".join(row["accepted"]) if isinstance(row["accepted"], list) and row["accepted"] else "none"
        lines.append(
            f"| {row['seed']} | {row['baseline']:.3f} | {row['final']:.3f} | {row['difference']:+.3f} ({interval}), {row['n']} |"
            f" {accepted} | {row['steered_by_lrf']} of {row['iterations']} | {row['system_runs']:.0f} | {row['minutes']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="run seeds 0 … N-1")
    parser.add_argument("--workspace", help="keep the runs here; default: a temporary directory")
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--json", action="store_true", help="print one JSON array instead of the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = [run_seed(seed, options.workspace or temporary) for seed in range(1 if options.quick else options.seeds)]
    print(json.dumps(rows) if options.json else as_table(rows))


if __name__ == "__main__":
    main()
