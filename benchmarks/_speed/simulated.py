"""A compound system whose true expected reward is known for every output: what labels are judged against.

rewriter -> retriever -> hinter -> answerer, with an extractor that also feeds the retriever and reads the question only: the
graph of the paper's HotpotQA system. A rewriting of a question has a quality r between 0 and 1, fixed by a table. The retriever
keeps it and is deterministic; the hinter hits with probability r; the answerer is right with probability .9 after a hit and .1
after a miss. So E[R | rewriting] = .1 + .8 r, and one rollout of it is a coin, the noisiest reward there is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimas_core import Choice, CompoundSystem, component
from optimas_core.canonical import derive_seed
from optimas_core.system import CallContext, Component, Configuration, Example, execute

STYLES = tuple(f"style{number}" for number in range(8))
CHOSEN = "rewriter"
SPREAD = 1.5  # standard deviation of the styles on one question, in log-odds of r


def examples(count: int) -> list[Example]:
    return [Example(f"e{number:05d}", {"question": f"question {number}"}) for number in range(count)]


def quality(query: str) -> float:
    """r of a rewriting "style|question": some questions are easy and some hard, and styles differ on each of them."""
    _, _, question = query.partition("|")
    difficulty = random.Random(derive_seed("difficulty", question)).uniform(-3.0, 3.0)
    return 1 / (1 + math.exp(-difficulty - random.Random(derive_seed("style", query)).gauss(0.0, SPREAD)))


def true_reward(output: Mapping[str, Any]) -> float:
    """E[R | this output of the rewriter]."""
    return 0.1 + 0.8 * quality(output["query"])


def _rewriter(question: str, style: str = STYLES[0]) -> str:
    return f"{style}|{question}"


def _extractor(question: str, seed: int) -> str:
    return f"entities of {question}"


def _retriever(query: str, entities: str) -> float:
    return quality(query)


def _hinter(question: str, passages: float, seed: int) -> str:
    return f"{'hit' if random.Random(seed).random() < passages else 'miss'} {seed}"  # no two hints are worded alike


def _answerer(question: str, hint: str, seed: int) -> str:
    return "right" if random.Random(seed).random() < (0.9 if hint.startswith("hit") else 0.1) else "wrong"


def system() -> CompoundSystem:
    parts = [
        component(_rewriter, name="rewriter", outputs="query", space={"style": Choice(*STYLES)}, blocking=False),
        component(_extractor, name="extractor", outputs="entities", blocking=False),
        component(_retriever, name="retriever", outputs="passages", blocking=False),
        component(_hinter, name="hinter", outputs="hint", blocking=False),
        component(_answerer, name="answerer", outputs="answer", blocking=False),
    ]
    return CompoundSystem(parts, outputs=["answer"], metric=lambda example, outputs: float(outputs["answer"] == "right"), name="simulated")


@dataclass(frozen=True, slots=True)
class PlainInput:
    """The candidates of one example and their rewards, rollout by rollout; `runs` are those of everything but the rollouts."""

    outputs: tuple[Mapping[str, Any], ...]
    rewards: tuple[tuple[float, ...], ...]
    runs_before: float
    runs_a_rollout: float


async def plain(
    built: CompoundSystem, rows: Sequence[Example], candidates: Sequence[Sequence[Mapping[str, Any]]], rollouts: int
) -> list[PlainInput]:
    """The paper's procedure word for word, on given candidates: `rollouts` for each, every one of all that follows C_k.

    Nothing is cached: the deterministic retriever and the extractor, which C_k does not touch, run again each time.
    """
    found = []
    for number, (example, outputs) in enumerate(zip(rows, candidates, strict=True)):
        counter = _Counter(built.configuration, number)
        await execute(built, example.fields, counter.invoke, until=CHOSEN)
        counter.ran += len(outputs)  # each candidate is one execution of C_k
        before, rewards = counter.ran, []
        for output in outputs:
            got = []
            for _ in range(rollouts):
                trajectory = await execute(built, example.fields, counter.invoke, given={CHOSEN: output})
                got.append(built.score(example.fields, trajectory.outputs(built.outputs)))
            rewards.append(tuple(got))
        share = 1 / len(built.components)
        each = (counter.ran - before) / max(len(outputs) * rollouts, 1) * share
        found.append(PlainInput(tuple(outputs), tuple(rewards), before * share, each))
    return found


class _Counter:
    """Executes components, a new seed each time, and counts them."""

    def __init__(self, configuration: Configuration, number: int) -> None:
        self._configuration = configuration
        self._number = number
        self.ran = 0

    async def invoke(self, item: Component, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.ran += 1
        knobs = {**item.defaults, **self._configuration.of(item.name)}
        return await item.body(inputs, knobs, CallContext(derive_seed("plain", self._number, self.ran)))
