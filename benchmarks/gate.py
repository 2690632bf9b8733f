"""How often does a gate err? The real gate and spending code on simulated systems, beside the paper's strict rule.

    python benchmarks/gate.py [--runs 2000] [--json]

A system is deterministic: it answers each of the validation items rightly or wrongly. Items have fixed difficulties
p ~ Beta(7, 13) (true score .35). An edit turns wrong items right (`up`, share of all items) and right items wrong
(`down`), easy items more readily right, hard ones more readily wrong; a null edit leaves the true score as it is. In a row with
a gain one edit of the run, at a random place, is real; the others are null edits of 10 % up and 10 % down. `stochastic`: each
measurement draws anew; the incumbent's scores are reused after a rejection and drawn again after an acceptance.

Columns: P(false accept) = some null edit of the run was accepted; power = the real edit was accepted; null items = mean
paired items spent on a null edit; real items = on the real one; bias = reported validation score of the final
configuration minus its true score. Standard errors in brackets.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass

import numpy as np

from optimas_core.acceptance import Gate, PairedSequentialGate, StrictGate, TestedLevel, next_level

ALPHA = 0.05
NULL = (0.10, 0.10)
EDITS = {
    "null 10/10": None,
    "+3 (13/10)": (0.13, 0.10),
    "+5 (15/10)": (0.15, 0.10),
    "+10 (20/10)": (0.20, 0.10),
    "+20 (30/10)": (0.30, 0.10),
    "+20 (25/5)": (0.25, 0.05),
}
PAIRS_OF_SCORES = [(float(i), float(j)) for i in (0, 1) for j in (0, 1)]


@dataclass(frozen=True)
class Row:
    edit: str
    iterations: int
    gate: str
    items: int
    runs: int
    false_accept: float
    false_accept_se: float
    power: float | None
    power_se: float | None
    null_items: float
    null_items_se: float
    real_items: float | None
    bias: float
    bias_se: float


class Population:
    """P(right | difficulty) of one configuration, on a grid of difficulties: its true score and its answers."""

    def __init__(self, difficulty: np.ndarray, right: np.ndarray) -> None:
        self.difficulty, self.right = difficulty, right

    @property
    def score(self) -> float:
        return float(self.right.mean())

    def rates(self, up: float, down: float) -> tuple[float, float]:
        """Factors of difficulty and its complement that give the wanted shares of flips."""
        gain = up / float(((1 - self.right) * self.difficulty).mean())
        return gain, down / float((self.right * (1 - self.difficulty)).mean())

    def edited(self, up: float, down: float) -> Population:
        gain, loss = self.rates(up, down)
        q, p = self.right, self.difficulty
        return Population(p, q - q * np.minimum(loss * (1 - p), 1) + (1 - q) * np.minimum(gain * p, 1))


def simulate_run(
    gate: Gate,
    rng: np.random.Generator,
    grid: np.ndarray,
    n: int,
    iterations: int,
    real: tuple[float, float] | None,
    stochastic: bool,
) -> tuple[bool, bool, list[int], int, float]:
    """(a null edit was accepted, the real one was, items of each null test, items of the real test, bias)."""
    population = Population(grid, grid.copy())
    difficulty = rng.choice(grid, size=n)
    truth = difficulty.copy()  # P(right) of each item, for stochastic systems
    incumbent = rng.random(n) < truth
    measured = gate.first_items(n)
    real_at = int(rng.integers(iterations)) if real else -1
    past: list[TestedLevel] = []
    false_accept = found = False
    null_items, real_items = [], 0
    for t in range(iterations):
        up, down = real if real and t == real_at else NULL
        if stochastic:
            challenger = rng.random(n) < truth
        else:
            gain, loss = population.rates(up, down)
            flip = rng.random(n) < np.where(incumbent, loss * (1 - difficulty), gain * difficulty)
            challenger = incumbent ^ flip
        level = next_level(ALPHA, past, iterations - t)
        # All items at once: the verdict is that of the first look that ends the test, as with growing prefixes.
        codes = (2 * incumbent + challenger).tolist()
        decision = gate.decide(
            [PAIRS_OF_SCORES[code] for code in codes],
            alpha=level,
            available=n,
            metric_range=(0.0, 1.0),
            seed=int(rng.integers(2**62)),
        )
        assert decision.verdict is not None
        past.append(TestedLevel(decision.verdict, decision.alpha_spent))
        measured = max(measured, decision.next_items)
        if t == real_at:
            real_items = decision.next_items
        else:
            null_items.append(decision.next_items)
        if decision.verdict == "accept":
            found, false_accept = found or t == real_at, false_accept or t != real_at
            measured = decision.next_items
            if stochastic:
                incumbent = rng.random(n) < truth
            else:
                incumbent, population = challenger, population.edited(up, down)
    return false_accept, found, null_items, real_items, float(incumbent[:measured].mean()) - population.score


def measure(name: str, gate: Gate, edit: str, iterations: int, runs: int, n: int, seed: int, stochastic: bool = False) -> Row:
    rng = np.random.default_rng([seed, iterations, len(edit), n])
    grid = rng.beta(7, 13, size=4000)
    grid *= 0.35 / grid.mean()
    real = EDITS[edit]
    results = [simulate_run(gate, rng, grid, n, iterations, real, stochastic) for _ in range(runs)]
    false_accept = np.mean([r[0] for r in results])
    power = np.mean([r[1] for r in results])
    null_items = np.array([i for r in results for i in r[2]] or [0])
    bias = np.array([r[4] for r in results])

    def se(p: float) -> float:
        return math.sqrt(max(p * (1 - p), 1 / runs) / runs)

    return Row(
        edit=edit + (", stochastic" if stochastic else ""),
        iterations=iterations,
        gate=name,
        items=n,
        runs=runs,
        false_accept=float(false_accept),
        false_accept_se=se(float(false_accept)),
        power=float(power) if real else None,
        power_se=se(float(power)) if real else None,
        null_items=float(null_items.mean()),
        null_items_se=float(null_items.std() / math.sqrt(len(null_items))),
        real_items=float(np.mean([r[3] for r in results])) if real else None,
        bias=float(bias.mean()),
        bias_se=float(bias.std() / math.sqrt(runs)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="False accepts, power and cost of the acceptance gates")
    parser.add_argument("--runs", type=int, default=2000, help="simulated runs per row")
    parser.add_argument("--items", type=int, default=350, help="validation items")
    parser.add_argument("--iterations", type=int, nargs="+", default=[5, 10, 30])
    parser.add_argument("--edits", nargs="+", default=list(EDITS), choices=list(EDITS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON array instead of a table")
    arguments = parser.parse_args()
    started, rows = time.monotonic(), []
    cases = [(edit, t, False) for edit in arguments.edits for t in arguments.iterations]
    cases += [("null 10/10", t, True) for t in arguments.iterations if "null 10/10" in arguments.edits]
    if not arguments.json:
        print("| edit | iterations | gate | P(false accept) | power | null items | real items | bias |\n|" + "---|" * 8)
    for edit, iterations, stochastic in cases:
        for name, gate in (("paired", PairedSequentialGate()), ("strict, 20 items", StrictGate())):
            row = measure(name, gate, edit, iterations, arguments.runs, arguments.items, arguments.seed, stochastic)
            rows.append(row)
            if not arguments.json:
                power = "" if row.power is None else f"{row.power:.3f} ({row.power_se:.3f})"
                real = "" if row.real_items is None else f"{row.real_items:.0f}"
                print(
                    f"| {row.edit} | {iterations} | {name} | {row.false_accept:.3f} ({row.false_accept_se:.3f}) | {power} "
                    f"| {row.null_items:.1f} ({row.null_items_se:.1f}) | {real} | {row.bias:+.3f} ({row.bias_se:.3f}) |",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print(f"\n{arguments.runs} runs a row, {arguments.items} validation items, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
