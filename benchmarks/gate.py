"""How often does a gate err? The real controller and gate on simulated systems, beside the paper's strict rule.

    python benchmarks/gate.py                      # all rows, 2,000 runs each
    python benchmarks/gate.py --runs 500 --edits "+10 (20/10)" --iterations 5 10 --json
    python benchmarks/gate.py --bound              # what no test whatever can exceed at a gain of 10 points; minutes

A system is deterministic: it answers each of the validation items rightly or wrongly. Items have fixed difficulties
p ~ Beta(7, 13) (true score .35). An edit turns wrong items right (`up`, share of all items) and right items wrong
(`down`), easy items more readily right, hard ones more readily wrong; a null edit leaves the true score as it is. In a row with
a gain one edit of the run, at a random place, is real; the others are null edits of 10 % up and 10 % down. `stochastic`: each
measurement draws anew; the incumbent's scores are reused after a rejection and drawn again after an acceptance.

Three gates see the same kind of runs: ours; the paper's rule on its 20 items; the paper's rule at equal system runs, that is on as
many items as ours used on average for a test of the same row.

Columns: false accept = some null edit of the run was accepted; power = the real edit was accepted; null items = mean
paired items spent on a null edit; real items = on the real one; final bias = the score that the run reports for its final
configuration (200 sealed test items) minus its true score; validation bias = the same for its validation items, which were
selected. Standard errors in brackets.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
from _gate.bound import power_bound
from _gate.population import difficulties
from _gate.simulation import Case, Outcome, build_system, simulate_run

from optimas_core.canonical import derive_seed
from optimas_core.spec import AcceptanceSettings, PairedSequentialAcceptance, StrictAcceptance

EDITS = {
    "null 10/10": None,
    "+3 (13/10)": (0.13, 0.10),
    "+5 (15/10)": (0.15, 0.10),
    "+10 (20/10)": (0.20, 0.10),
    "+20 (30/10)": (0.30, 0.10),
    "+20 (25/5)": (0.25, 0.05),
}
COLUMNS = "edit|iterations|gate|false accept|power|null items|real items|final bias|validation bias"


@dataclass(frozen=True)
class Row:
    """Figures of `runs` runs; `..._se` are standard errors. Shares in [0, 1], items are paired validation items."""

    edit: str
    iterations: int
    gate: str
    gate_items: int
    runs: int
    false_accept: float
    false_accept_se: float
    power: float | None
    power_se: float | None
    null_items: float
    null_items_se: float
    real_items: float | None
    final_bias: float
    final_bias_se: float
    validation_bias: float
    validation_bias_se: float

    @property
    def items_per_test(self) -> float:
        """Paired items of an average test."""
        real = 0.0 if self.real_items is None else self.real_items - self.null_items
        return self.null_items + real / self.iterations

    def line(self) -> str:
        power = "" if self.power is None else f"{self.power:.3f} ({self.power_se:.3f})"
        real = "" if self.real_items is None else f"{self.real_items:.0f}"
        return (
            f"| {self.edit} | {self.iterations} | {self.gate} | {self.false_accept:.3f} ({self.false_accept_se:.3f}) | {power} "
            f"| {self.null_items:.1f} ({self.null_items_se:.1f}) | {real} | {self.final_bias:+.4f} ({self.final_bias_se:.4f}) "
            f"| {self.validation_bias:+.3f} ({self.validation_bias_se:.3f}) |"
        )


@dataclass(frozen=True)
class Bound:
    """No test at this level that uses at most `null_items` on a null edit has more power at (.2, .1) with 350 items."""

    iterations: int
    level: float
    null_items: float
    power: float

    def line(self) -> str:
        return (
            f"{self.iterations} iterations, level {self.level:.4f}, null items at most {self.null_items:g}: power at most {self.power:.3f}"
        )


def simulate(acceptance: AcceptanceSettings, case: Case, seeds: Sequence[int]) -> list[Outcome]:
    """A run for each seed; the grid of difficulties is the same for all."""
    system, grid = build_system(), difficulties(np.random.default_rng(0))
    return [simulate_run(acceptance, case, system, seed, grid) for seed in seeds]


def measure(name: str, acceptance: AcceptanceSettings, edit: str, case: Case, runs: int, seed: int, pool: ProcessPoolExecutor) -> Row:
    """One row, its runs divided over the processes."""
    seeds = [derive_seed("gate benchmark", seed, edit, case.iterations, case.stochastic, run) for run in range(runs)]
    parts = [seeds[start::64] for start in range(min(64, runs))]
    outcomes = [one for part in pool.map(simulate, [acceptance] * len(parts), [case] * len(parts), parts) for one in part]
    false_accept, false_accept_se = _share([one.false_accept for one in outcomes])
    power, power_se = _share([one.found for one in outcomes]) if case.real else (None, None)
    null_items, null_items_se = _mean([items for one in outcomes for items in one.null_items])
    final, final_se = _mean([one.final_bias for one in outcomes])
    validation, validation_se = _mean([one.validation_bias for one in outcomes])
    reached = [one.real_items for one in outcomes if one.real_items is not None]
    return Row(
        edit=edit + (", stochastic" if case.stochastic else ""),
        iterations=case.iterations,
        gate=name,
        gate_items=acceptance.items,
        runs=runs,
        false_accept=false_accept,
        false_accept_se=false_accept_se,
        power=power,
        power_se=power_se,
        null_items=null_items,
        null_items_se=null_items_se,
        real_items=float(np.mean(reached)) if reached else None,
        final_bias=final,
        final_bias_se=final_se,
        validation_bias=validation,
        validation_bias_se=validation_se,
    )


def _share(flags: Sequence[bool]) -> tuple[float, float]:
    p, n = float(np.mean(flags)), len(flags)
    return p, math.sqrt(max(p * (1 - p), 1 / n) / n)


def _mean(values: Sequence[float]) -> tuple[float, float]:
    values = values or [0.0]
    return float(np.mean(values)), float(np.std(values)) / math.sqrt(len(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="simulated runs per row")
    parser.add_argument("--items", type=int, default=350, help="validation items")
    parser.add_argument("--iterations", type=int, nargs="+", default=[5, 10, 30])
    parser.add_argument("--edits", nargs="+", default=list(EDITS), choices=list(EDITS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bound", action="store_true", help="print the upper bound on the power of any test, and end")
    parser.add_argument("--null-items", type=float, default=80.0, help="--bound: mean items that a null edit may use")
    parser.add_argument("--json", action="store_true", help="print one JSON array instead of a table")
    arguments = parser.parse_args()
    if arguments.bound:
        bounds = [Bound(t, 0.05 / t, arguments.null_items, power_bound(0.05 / t, arguments.null_items)) for t in arguments.iterations]
        print(json.dumps([asdict(one) for one in bounds], indent=1) if arguments.json else "\n".join(one.line() for one in bounds))
        return
    started, rows = time.monotonic(), []
    cases = [(edit, t, False) for edit in arguments.edits for t in arguments.iterations]
    cases += [("null 10/10", t, True) for t in arguments.iterations if "null 10/10" in arguments.edits]

    def report(row: Row) -> None:
        rows.append(row)
        print(row.line(), file=sys.stderr if arguments.json else sys.stdout, flush=True)

    if not arguments.json:
        print(f"| {COLUMNS.replace('|', ' | ')} |\n|" + "---|" * (COLUMNS.count("|") + 1))
    with ProcessPoolExecutor(arguments.processes) as pool:
        for edit, iterations, stochastic in cases:
            case = Case(iterations, EDITS[edit], stochastic, arguments.items)

            def row(name: str, acceptance: AcceptanceSettings, edit: str = edit, case: Case = case) -> Row:
                return measure(name, acceptance, edit, case, arguments.runs, arguments.seed, pool)

            ours = row("paired", PairedSequentialAcceptance(items=arguments.items))
            report(ours)
            report(row("strict, 20 items", StrictAcceptance()))
            equal = round(ours.items_per_test)
            report(row(f"strict, {equal} items", StrictAcceptance(items=equal)))
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print(f"\n{arguments.runs} runs a row, {arguments.items} validation items, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
