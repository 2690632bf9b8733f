"""Part two: at equal system runs, which order of one iteration reaches the higher reward? Played on the matrix, many times.

Each repetition divides the examples anew: a pool that the arms may spend on, and held-out examples whose mean global reward says
what the chosen configuration is worth. What an arm spends is counted as the engine counts it: upstream once for each example, one call
for each candidate, downstream once for each distinct output (a fraction of the components each, as in the paper's Table 3).

- proposals first: on `fresh` pool examples the incumbent's sampled outputs and every proposal's are measured; an LRF is fitted on
  them; all candidates then run alone on `search` pool examples and the highest mean local reward is chosen.
- paper's order: the LRF is fitted on the incumbent's sampled outputs only, on as many pool examples as the first arm's runs pay for;
  then the same search.
- racing: no LRF; successive halving on measured rollouts in rounds, until the first arm's runs are spent; the highest
  measured mean is chosen.

LRFs start from nothing in every repetition: what an earlier warm-up or replay would add is not in it, for either order. The alignment
gate is not in it either: an LRF steers here whether or not it may be trusted.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from _alignment.fits import HELD_OUT, Models, local_rewards, pairs_of
from _alignment.matrix import Cell, Matrix, Output
from optimas_core.canonical import canonical_json, derive_seed
from optimas_core.preferences import INCUMBENT
from optimas_core.rewards import split_by_example
from optimas_core.spec import LrfSettings

PROPOSALS_FIRST, PAPER, RACING = "proposals first", "paper's order", "racing, no LRF"
ARMS = (PROPOSALS_FIRST, PAPER, RACING)
_ROUND = 4


@dataclass(frozen=True)
class Play:
    """One arm in one repetition: what it chose is worth `reward` on the held-out examples, and it spent `system_runs`."""

    reward: float
    system_runs: float


@dataclass(frozen=True)
class OrderRow:
    """One arm over all repetitions, beside the incumbent's and the best candidate's reward on the same held-out examples."""

    system: str
    component: str
    loss: str
    fresh: int
    arm: str
    plays: tuple[Play, ...]
    incumbent: float
    best: float

    @property
    def reward(self) -> float:
        return math.fsum(play.reward for play in self.plays) / len(self.plays)

    @property
    def system_runs(self) -> float:
        return math.fsum(play.system_runs for play in self.plays) / len(self.plays)

    @property
    def gain_share(self) -> float | None:
        """(reached - incumbent) / (best - incumbent); None where no candidate is better than the incumbent."""
        return None if self.best <= self.incumbent else (self.reward - self.incumbent) / (self.best - self.incumbent)

    def difference(self, other: OrderRow) -> tuple[float, float]:
        """(mean, standard error over repetitions) of this arm's reward minus the other's, repetition by repetition.

        The repetitions share examples, so the error is that of the resampling, not that of other questions.
        """
        gaps = [left.reward - right.reward for left, right in zip(self.plays, other.plays, strict=True)]
        mean = math.fsum(gaps) / len(gaps)
        spread = math.sqrt(math.fsum((gap - mean) ** 2 for gap in gaps) / max(1, len(gaps) - 1))
        return mean, spread / math.sqrt(len(gaps))


def play(
    matrix: Matrix, settings: LrfSettings, *, fresh: Sequence[int], search: int, repetitions: int, most_pairs: int
) -> Iterator[list[OrderRow]]:
    """The three arms' rows for each size of `fresh`. A size the pool cannot pay for is cut to the pool."""
    models = Models([matrix.component])
    for size in fresh:
        found: dict[str, list[Play]] = {arm: [] for arm in ARMS}
        incumbent: list[float] = []
        best: list[float] = []
        for repetition in range(repetitions):
            training, held = split_by_example(matrix.example_ids, HELD_OUT, derive_seed("orders", repetition))
            pool = [cell for cell in matrix.cells if cell.example_id in training]
            random.Random(derive_seed("pool", repetition)).shuffle(pool)
            truth = matrix.means(sorted(held))
            incumbent.append(truth[INCUMBENT])
            best.append(max(truth.values()))
            seed = derive_seed("play", repetition)
            search_cells = random.Random(derive_seed("search", repetition)).sample(pool, min(search, len(pool)))
            measured = pool[:size]
            searching = {cell.example_id for cell in search_cells} - {cell.example_id for cell in measured}
            # Candidates already ran on the fresh examples: those calls are served from the cache.
            ranking = matrix.runs(upstream=len(searching), calls=len(searching) * len(matrix.candidates), rollouts=0)
            spent = math.fsum(_cost(matrix, _all(cell)) for cell in measured) + ranking

            def choose(cells: Sequence[Cell], everything: bool, seed: int = seed, search_cells: Sequence[Cell] = search_cells) -> str:
                outputs = _all if everything else _sampled
                pairs = pairs_of(matrix.component, cells, outputs, most=most_pairs, seed=seed)
                local = local_rewards(models.fitted(settings, pairs, seed), matrix.component, search_cells, matrix.candidates)
                return best_of({name: math.fsum(rewards.values()) / len(rewards) for name, rewards in local.items()})

            found[PROPOSALS_FIRST].append(Play(truth[choose(measured, True)], spent))
            full = matrix.runs(upstream=len(search_cells), calls=len(search_cells) * len(matrix.candidates), rollouts=0)
            affordable, cost = _affordable(matrix, pool, spent - full)
            found[PAPER].append(Play(truth[choose(affordable, False)], cost + full))
            winner, raced = race(matrix, pool, spent)
            found[RACING].append(Play(truth[winner], raced))
        yield [
            OrderRow(
                matrix.system,
                matrix.component,
                settings.loss,
                size,
                arm,
                tuple(found[arm]),
                math.fsum(incumbent) / len(incumbent),
                math.fsum(best) / len(best),
            )
            for arm in ARMS
        ]


def race(matrix: Matrix, pool: Sequence[Cell], runs: float) -> tuple[str, float]:
    """Successive halving on measured rewards: after each round of examples the incumbent and the better half of the others go on,
    until `runs` are spent or the pool is used up. Returns (choice, system runs).

    The field is halved only as far as the examples left cannot carry it: with runs for all candidates on all examples none is cut.
    """
    alive = list(matrix.candidates)
    used: list[Cell] = []
    spent = 0.0
    for start in range(0, len(pool), _ROUND):
        batch = pool[start : start + _ROUND]
        left = pool[start:]
        if used and spent + math.fsum(_cost(matrix, [cell.outputs[name] for name in alive]) for cell in left) > runs:
            alive = _better_half(alive, used)
        for cell in batch:
            cost = _cost(matrix, [cell.outputs[name] for name in alive])
            if spent + cost > runs + 1e-9:
                return best_of(_means(alive, used)), spent
            spent += cost
            used.append(cell)
        if len(alive) == 1:
            break
    return best_of(_means(alive, used)), spent


def best_of(means: Mapping[str, float]) -> str:
    """The highest mean; the incumbent wins ties with it, then the first by name."""
    top = max(means.values())
    return min((name for name in means if means[name] == top), key=lambda name: (name != INCUMBENT, name))


def _better_half(alive: Sequence[str], used: Sequence[Cell]) -> list[str]:
    means = _means(alive, used)
    others = sorted((name for name in alive if name != INCUMBENT), key=lambda name: (-means[name], name))
    return [INCUMBENT, *others[: max(1, (len(others) + 1) // 2)]]


def _means(names: Sequence[str], cells: Sequence[Cell]) -> dict[str, float]:
    if not cells:
        return dict.fromkeys(names, 0.0)
    return {name: math.fsum(cell.outputs[name].reward for cell in cells) / len(cells) for name in names}


def _all(cell: Cell) -> list[Output]:
    return [*cell.sampled, *cell.outputs.values()]


def _sampled(cell: Cell) -> list[Output]:
    return list(cell.sampled)


def _cost(matrix: Matrix, outputs: Sequence[Output]) -> float:
    """Measuring these outputs on one example: upstream once, one call each, downstream once for each distinct one."""
    distinct = {canonical_json(output.fields) for output in outputs}
    return matrix.runs(upstream=1, calls=len(outputs), rollouts=len(distinct))


def _affordable(matrix: Matrix, pool: Sequence[Cell], runs: float) -> tuple[list[Cell], float]:
    taken: list[Cell] = []
    spent = 0.0
    for cell in pool:
        cost = _cost(matrix, _sampled(cell))
        if spent + cost > runs + 1e-9:
            break
        taken.append(cell)
        spent += cost
    return taken, spent
