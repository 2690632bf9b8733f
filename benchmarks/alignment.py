"""Is the local reward worth steering by? Losses and rungs of the LRF, then the order of an iteration, against no LRF at all.

    python benchmarks/alignment.py [--rungs frozen,lora] [--seeds 5] [--examples 56] [--orders] [--quick] [--json] [--cache DIR]

Systems: examples/quickstart, every optimizable component; with OPTIMAS_DATA also HotpotQA's retriever and answerer
(`_systems/hotpotqa.py`), on a model that is near its floor there.

Measured once for each component, and kept in `--cache`: every candidate configuration (incumbent; for prompts edits and demonstration
subsets; for discrete knobs all values) on every example of the training split, each distinct output rolled out downstream to its global
reward. The demonstrations come from examples that nothing is judged on. Everything else is fitting and scoring on that matrix.

Table one, over `--seeds` divisions by example (60 % fitted on, 40 % judged on): pairwise accuracy; Spearman of mean local against mean
global reward over the candidates; regret, the share of best minus worst lost by taking the local argmax. `seen`: all candidates were in the
training pairs. `unseen`: a third of them (never the incumbent) was not; accuracy is then over pairs with at least one of those, Spearman
and regret over all candidates, since that is the choice to be made. Mean ± standard deviation over seeds. Two rules without an LRF stand
beside it: random choice, and choosing by the mean measured reward of the very same training examples. The last column says where the LRF
does not win (beyond two standard errors over seeds; the divisions share examples, so this is a low bar).

Table two (`--orders`): `_alignment/orders.py` says what the arms do. `against racing`: mean difference in reward and its
standard error over repetitions, at equal system runs. The frozen rung, loss `--losses` (the first).

Deterministic for given arguments. LoRA fits take minutes each: ask for them with `--rungs frozen,lora`, best with `--components`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _alignment.fits import Row, as_json, compare
from _alignment.matrix import Matrix, measure
from _alignment.orders import OrderRow, play
from _alignment.tables import ALIGNMENT_HEAD, ORDERS_HEAD, alignment_lines, closing, order_lines, rule
from _systems import hotpotqa

from optimas_core.artifacts import Workspace
from optimas_core.canonical import derive_seed
from optimas_core.errors import DataError, OptimasError, SpecError
from optimas_core.models.embedded import cache_directory
from optimas_core.rollouts import Budget, RolloutEngine
from optimas_core.spec import BudgetSettings, LrfSettings
from optimas_core.stages import load_project
from optimas_core.system import CompoundSystem, Example, split_examples

QUICKSTART = Path(__file__).resolve().parents[1] / "examples" / "quickstart" / "run.yaml"
SYSTEMS = ("quickstart", "hotpotqa")
LOSSES = ("soft_gap", "bradley_terry")
RUNGS = ("frozen", "lora")


def load(name: str) -> tuple[CompoundSystem, tuple[Example, ...]]:
    """A system and its training split, in a fixed order.

    Raises:
        UserError: the data are absent or wrong.
    """
    if name == "quickstart":
        project = load_project(QUICKSTART, seed=0)
        return project.system, project.split.train
    questions = hotpotqa.read_questions(hotpotqa.data_file())
    # Nothing is chosen by its result here, so most of the few questions may be measured on.
    return hotpotqa.build_short(), split_examples(questions, train=0.8, validation=0.1, test=0.1, seed=0).train


def divide(train: Sequence[Example], examples: int) -> tuple[list[Example], list[Example]]:
    """(`examples` to measure on, those that demonstrations come from): disjoint, the second a quarter as many but at least 4.

    Raises:
        DataError: fewer than 8 examples would be measured on.
    """
    ordered = sorted(train, key=lambda example: derive_seed("alignment-examples", example.id))
    shown = max(4, min(24, len(ordered) // 4))
    measured = ordered[shown : shown + examples]
    if len(measured) < 8:
        raise DataError(f"{len(measured)} examples are too few to be divided.", remedy="Give --examples 8 or more, and data for it.")
    return measured, ordered[:shown]


async def measure_all(asked: argparse.Namespace) -> list[Matrix]:
    """The matrix of every asked component; calls that the cache directory holds are not made again."""
    calls = Workspace.open(str(asked.cache)).calls
    found = []
    for name in asked.systems:
        system, train = load(name)
        examples, shown = divide(train, asked.examples)
        engine = RolloutEngine(system, Budget(BudgetSettings()), calls=calls, concurrency=64)
        for component in system.optimizable:
            if asked.components and component not in asked.components:
                continue
            started, before = time.monotonic(), engine.budget.spent().system_runs
            matrix = await measure(engine, component, examples, shown, candidates=asked.candidates, seed=0, tell=_progress(name, started))
            runs = engine.budget.spent().system_runs - before
            tell(
                f"{name}.{component}: {len(matrix.candidates)} candidates on {len(matrix.cells)} examples ({matrix.dropped} dropped), "
                f"{runs:.0f} system runs, {time.monotonic() - started:.0f} s"
            )
            if len(matrix.cells) < 4:
                raise DataError(
                    f"{name}.{component} could be measured on {len(matrix.cells)} examples only.",
                    remedy="Call the system yourself on one example to see why.",
                )
            found.append(matrix)
    if not found:
        raise SpecError(f"no system has a component among {asked.components}.", remedy="Name components of the asked systems.")
    return found


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _progress(system: str, started: float) -> Callable[[str, int, int], None]:
    def report(what: str, done: int, total: int) -> None:
        if done == total or done % 200 == 0:
            tell(f"{time.monotonic() - started:6.0f} s  {system}: {what} {done}/{total}")

    return report


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, `--quick` applied.

    Raises:
        SystemExit: an unknown name (argparse, exit code 2).
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", type=_names(SYSTEMS), help="default: quickstart, and hotpotqa where OPTIMAS_DATA is set")
    parser.add_argument("--components", type=_names(), default=(), help="only these")
    parser.add_argument("--losses", type=_names(LOSSES), default=LOSSES)
    parser.add_argument("--rungs", type=_names(RUNGS), default=("frozen",))
    parser.add_argument("--beta", type=float, default=LrfSettings().beta, help="scale of the gap in soft_gap")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=56, help="training examples measured")
    parser.add_argument("--candidates", type=int, default=6, help="demonstration subsets for each prompt, beside all edits")
    parser.add_argument("--pairs", type=int, default=600, help="training pairs of one fit at most")
    parser.add_argument("--lora-epochs", type=int, default=LrfSettings().epochs)
    parser.add_argument("--orders", action="store_true", help="print the second table too")
    parser.add_argument("--fresh", type=_sizes, default=(4, 8, 16), help="sizes of the mini-batch in the second table")
    parser.add_argument("--search", type=int, default=24, help="inputs that candidates are ranked on in the second table")
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--cache", type=Path, default=cache_directory() / "benchmarks", help="where measured calls are kept")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, to see that it works; its figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    asked = parser.parse_args(arguments)
    if asked.systems is None:
        asked.systems = SYSTEMS if os.environ.get("OPTIMAS_DATA") else SYSTEMS[:1]
    if asked.quick:
        asked.examples, asked.candidates, asked.seeds = min(asked.examples, 10), 1, min(asked.seeds, 2)
        asked.pairs, asked.repetitions, asked.fresh, asked.search = 60, min(asked.repetitions, 3), (3,), 4
        asked.lora_epochs = 1
    return asked


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    started = time.monotonic()
    rows: list[Row] = []
    orders: list[OrderRow] = []
    settings = [
        LrfSettings(rung=rung, loss=loss, beta=asked.beta, epochs=asked.lora_epochs) for rung in asked.rungs for loss in asked.losses
    ]
    try:
        matrices = asyncio.run(measure_all(asked))
        _say(asked, [ALIGNMENT_HEAD, rule(ALIGNMENT_HEAD)])
        for matrix in matrices:
            found = list(compare(matrix, settings, asked.seeds, asked.pairs))
            rows += found
            _say(asked, alignment_lines(found))
        if asked.orders:
            _say(asked, ["", ORDERS_HEAD, rule(ORDERS_HEAD)])
            frozen = LrfSettings(rung="frozen", loss=asked.losses[0], beta=asked.beta)
            for matrix in matrices:
                for arms in play(
                    matrix, frozen, fresh=asked.fresh, search=asked.search, repetitions=asked.repetitions, most_pairs=asked.pairs
                ):
                    orders += arms
                    _say(asked, order_lines(arms))
            _say(asked, ["", closing(orders)])
    except OptimasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    seconds = time.monotonic() - started
    _say(asked, ["", f"{asked.examples} examples asked for, {asked.seeds} seeds, {seconds:.0f} s"])
    if asked.json:
        print(json.dumps(as_document(matrices, rows, orders, seconds), indent=1, sort_keys=True))
    return 0


def as_document(matrices: Sequence[Matrix], rows: Sequence[Row], orders: Sequence[OrderRow], seconds: float) -> dict[str, Any]:
    """Everything measured, for a program."""
    return {
        "candidates": [
            {
                "system": matrix.system,
                "component": matrix.component,
                "examples": len(matrix.cells),
                "dropped": matrix.dropped,
                "means": matrix.means(matrix.example_ids),
                "summaries": dict(matrix.summaries),
            }
            for matrix in matrices
        ],
        "alignment": [as_json(row) for row in rows],
        "orders": [
            {
                "system": row.system,
                "component": row.component,
                "loss": row.loss,
                "fresh": row.fresh,
                "order": row.arm,
                "system_runs": row.system_runs,
                "reward": row.reward,
                "incumbent": row.incumbent,
                "best": row.best,
                "gain_share": row.gain_share,
                "rewards": [item.reward for item in row.plays],
            }
            for row in orders
        ],
        "seconds": seconds,
    }


def _say(asked: argparse.Namespace, lines: Sequence[str]) -> None:
    if not asked.json:
        print("\n".join(lines), flush=True)


def _names(known: Sequence[str] = ()) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        found = tuple(part.strip() for part in text.split(",") if part.strip())
        unknown = [name for name in found if known and name not in known]
        if unknown or not found:
            raise argparse.ArgumentTypeError(f"{text!r} names {unknown or 'nothing'}; known are {', '.join(known)}")
        return found

    return names


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of positive numbers, for example 4,8,16")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
