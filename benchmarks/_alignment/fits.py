"""Part one: fit an LRF on some examples and candidates of a matrix, judge it on other examples."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from _alignment.matrix import Cell, Matrix, Output
from optimas_core.canonical import canonical_json, derive_seed
from optimas_core.preferences import INCUMBENT
from optimas_core.rewards import RewardModel, RewardPair, decision_alignment, pairwise_accuracy, split_by_example
from optimas_core.spec import LrfSettings

MEASURED = "measured means"
RANDOM = "random choice"
HELD_OUT = 0.4


@dataclass(frozen=True)
class Score:
    """One fit, judged on held-out examples. `accuracy` None: not a single pair differs there."""

    seed: int
    accuracy: float | None
    spearman: float | None
    regret: float | None
    pairs: int
    examples: int


@dataclass(frozen=True)
class Row:
    """All seeds of one (system, component, rung, loss, seen or unseen)."""

    system: str
    component: str
    rung: str
    loss: str
    candidates: str
    scores: tuple[Score, ...]

    def spread(self, what: str) -> tuple[float, float, int] | None:
        """(mean, standard deviation over seeds, seeds) of a score where it is defined."""
        values = [value for score in self.scores if (value := getattr(score, what)) is not None]
        if not values:
            return None
        mean = math.fsum(values) / len(values)
        return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)), len(values)


class Models:
    """Unfitted reward models. The frozen rung keeps one, so that its vectors are computed once for all fits."""

    def __init__(self, components: Sequence[str]) -> None:
        self._components = tuple(components)
        self._frozen: RewardModel | None = None

    def fitted(self, settings: LrfSettings, pairs: Sequence[RewardPair], seed: int) -> RewardModel:
        """A model whose heads are fitted on `pairs` and on nothing else; valid until the next call."""
        if settings.rung == "frozen":
            if self._frozen is None:
                self._frozen = RewardModel.create(settings, self._components, 0)
            model = self._frozen
            for name, head in model.heads.items():
                model.heads[name] = type(head)(head.weights * 0.0, 1.0)
        else:
            model = RewardModel.create(settings, self._components, seed)
        if pairs:
            model.fit(pairs, settings, seed=seed)
        return model


def left_out(candidates: Sequence[str], seed: int) -> frozenset[str]:
    """A third of the challengers (at least one), drawn from the seed; the incumbent is always known."""
    challengers = [name for name in candidates if name != INCUMBENT]
    count = max(1, round(len(challengers) / 3))
    return frozenset(random.Random(derive_seed("left-out", seed)).sample(sorted(challengers), min(count, len(challengers))))


def pairs_of(
    component: str, cells: Sequence[Cell], outputs: Callable[[Cell], Sequence[Output]], *, most: int, seed: int
) -> list[RewardPair]:
    """Every two distinct outputs of one example whose rewards differ; `most` of them at most, drawn from the seed."""
    found = []
    for cell in cells:
        distinct = {canonical_json(output.fields): output for output in outputs(cell)}
        for (_, left), (_, right) in combinations(sorted(distinct.items()), 2):
            if left.reward != right.reward:
                better, worse = (left, right) if left.reward > right.reward else (right, left)
                found.append(RewardPair(component, cell.example_id, cell.context, better.fields, worse.fields, better.reward, worse.reward))
    return found if len(found) <= most else random.Random(derive_seed("pairs", seed)).sample(found, most)


def local_rewards(model: RewardModel, component: str, cells: Sequence[Cell], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """candidate -> example -> r_k of its output."""
    scores = model.score(component, [(cell.context, cell.outputs[name].fields) for name in names for cell in cells])
    grid = scores.reshape(len(names), len(cells))
    return {name: {cell.example_id: float(grid[i, j]) for j, cell in enumerate(cells)} for i, name in enumerate(names)}


def judge(matrix: Matrix, cells: Sequence[Cell], local: Mapping[str, Mapping[str, float]], new: frozenset[str], seed: int) -> Score:
    """Local against global rewards on held-out `cells`. Decision alignment is over all candidates, since that is the choice to be made;
    pairwise accuracy is over pairs with at least one candidate of `new`, over all pairs where `new` is empty."""
    rewards: list[tuple[float, float]] = []
    owners: list[str] = []
    for cell in cells:
        seen: set[tuple[str, str]] = set()
        for left, right in combinations(matrix.candidates, 2):
            a, b = cell.outputs[left], cell.outputs[right]
            key = (canonical_json(a.fields), canonical_json(b.fields))
            if (new and not new & {left, right}) or a.reward == b.reward or key in seen or key[::-1] in seen:
                continue
            seen.add(key)
            better, worse = (left, right) if a.reward > b.reward else (right, left)
            rewards.append((local[better][cell.example_id], local[worse][cell.example_id]))
            owners.append(cell.example_id)
    pairwise = pairwise_accuracy(rewards, owners)
    measured = {name: {cell.example_id: cell.outputs[name].reward for cell in cells} for name in matrix.candidates}
    decision = decision_alignment(local, measured)
    return Score(seed, pairwise.accuracy if rewards else None, decision.spearman, decision.regret, pairwise.n_pairs, len(cells))


def compare(matrix: Matrix, settings: Sequence[LrfSettings], seeds: int, most_pairs: int) -> Iterator[Row]:
    """Every rung and loss on one component, with all candidates in training ("seen") and with a third left out ("unseen").

    First two rules without an LRF. Random choice. And the mean over the same measurements of the training examples, taken as the
    candidate's local reward on every example; it knows nothing of a candidate left out and never chooses it.
    """
    yield from (_without_lrf(matrix, seeds, unseen, rule) for unseen in (False, True) for rule in (RANDOM, MEASURED))
    models = Models([matrix.component])
    for setting in settings:
        for unseen in (False, True):
            scores = []
            for seed in range(seeds):
                train, held = _sides(matrix, seed)
                new = left_out(matrix.candidates, seed) if unseen else frozenset[str]()
                known = [name for name in matrix.candidates if name not in new]

                def outputs(cell: Cell, known: Sequence[str] = known) -> Sequence[Output]:
                    return [cell.outputs[name] for name in known]

                pairs = pairs_of(matrix.component, train, outputs, most=most_pairs, seed=seed)
                model = models.fitted(setting, pairs, seed)
                scores.append(judge(matrix, held, local_rewards(model, matrix.component, held, matrix.candidates), new, seed))
            yield Row(matrix.system, matrix.component, setting.rung, setting.loss, _kind(unseen), tuple(scores))


def _without_lrf(matrix: Matrix, seeds: int, unseen: bool, rule: str) -> Row:
    scores = []
    for seed in range(seeds):
        train, held = _sides(matrix, seed)
        new = left_out(matrix.candidates, seed) if unseen else frozenset[str]()
        means = matrix.means([cell.example_id for cell in train])
        lowest = min(means.values()) - 1.0
        known = {name: 0.0 if rule == RANDOM else lowest if name in new else means[name] for name in matrix.candidates}
        local = {name: {cell.example_id: value for cell in held} for name, value in known.items()}
        score = judge(matrix, held, local, new, seed)
        says_nothing = unseen and rule == MEASURED  # of pairs with a left-out candidate, and of the order among those
        scores.append(replace(score, accuracy=None, spearman=None) if says_nothing else score)
    return Row(matrix.system, matrix.component, rule, "", _kind(unseen), tuple(scores))


def _sides(matrix: Matrix, seed: int) -> tuple[list[Cell], list[Cell]]:
    training, held = split_by_example(matrix.example_ids, HELD_OUT, seed)
    return (
        [cell for cell in matrix.cells if cell.example_id in training],
        [cell for cell in matrix.cells if cell.example_id in held],
    )


def _kind(unseen: bool) -> str:
    return "unseen" if unseen else "seen"


def as_json(row: Row) -> dict[str, Any]:
    """The row with its scores by seed."""
    return {
        "system": row.system,
        "component": row.component,
        "rung": row.rung,
        "loss": row.loss,
        "candidates": row.candidates,
        "scores": [vars(score) for score in row.scores],
    }
