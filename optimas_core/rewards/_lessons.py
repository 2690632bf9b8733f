"""What is to be learned with LoRA, as every training process must know it, and the processes that only follow."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from optimas_core.canonical import derive_seed
from optimas_core.errors import TrainingDiverged
from optimas_core.rewards._backbone import Backbone
from optimas_core.rewards._batches import PairRows
from optimas_core.rewards._heads import Head
from optimas_core.rewards._pairs import RewardPair
from optimas_core.rewards._ranks import ProcessesLost, Ranks, local_device
from optimas_core.rewards._training import Objective, Trainer
from optimas_core.spec import LrfSettings

if TYPE_CHECKING:
    from optimas_core.rewards._model import RewardModel

Begin = Callable[["Lesson"], Trainer]
"""Starts a lesson wherever it is learned; returns the trainer of this process."""


@dataclass(frozen=True)
class Lesson:
    """Pairs to learn, the components whose heads move, and how many optimizer steps the learning rate is spread over."""

    pairs: tuple[RewardPair, ...]
    trained: tuple[str, ...]
    total_steps: int
    seed: int
    settings: LrfSettings

    def trainer(self, backbone: Backbone, heads: Mapping[str, Head], ranks: Ranks) -> Trainer:
        """LoRA and the trained heads as they are now, before the first step."""
        settings = self.settings
        return Trainer(
            backbone,
            starting_heads(heads, self.trained, self.seed),
            self.trained,
            objective=Objective(settings.loss, settings.beta),
            learning_rate=settings.learning_rate,
            total_steps=self.total_steps,
            micro_batch_pairs=settings.micro_batch_pairs,
            ranks=ranks,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"settings": self.settings.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Lesson:
        pairs = tuple(RewardPair(**pair) for pair in data["pairs"])
        return cls(pairs, tuple(data["trained"]), data["total_steps"], data["seed"], LrfSettings(**data["settings"]))


def starting_heads(heads: Mapping[str, Head], trained: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Weights to start from. A head that was never fitted is zero, and so is LoRA's B: together they are a saddle
    point, which cost the first epoch or two of a short fit. Such a head starts at random, by component and seed."""
    start = {name: head.weights for name, head in heads.items()}
    for name in trained:
        if not start[name].any():
            rng = np.random.default_rng(derive_seed("lrf-head", seed, name))
            start[name] = rng.uniform(-1.0, 1.0, len(start[name])) / np.sqrt(len(start[name]))
    return start


def begin(model: RewardModel, lesson: Lesson, ranks: Ranks) -> Trainer:
    """The trainer of this process; the others are given the model as its files, and make theirs.

    Raises:
        PermanentError: one of them could not.
        ProcessesLost: one of them has gone.
    """
    if not ranks.alone:
        files = {name: b64encode(content).decode() for name, content in model.to_files().items()}
        ranks.tell({"do": "learn", "lesson": lesson.to_json(), "model": files, "backbone": model.backbone.name})
    trainer = ranks.together(lambda: lesson.trainer(model.backbone, model.heads, ranks))
    assert trainer is not None  # only work that may shrink gives None
    return trainer


def follow(ranks: Ranks) -> None:
    """Take part in all that process 0 trains, until it says that nothing follows. Reads no workspace, commits nothing.

    Raises:
        ProcessesLost: another process has gone.
        Exception: what failed in this process; the others were told.
    """
    learning: tuple[Trainer, PairRows] | None = None
    failed: Exception | None = None
    while (told := ranks.hear())["do"] != "end":
        try:
            if told["do"] == "learn":
                learning = None  # its memory goes first
                learning = ranks.together(partial(_prepared, told, ranks))
            elif learning is not None:
                trainer, data = learning
                trainer.take(data, told["batch"])
        except TrainingDiverged:  # process 0 has the same numbers and says what becomes of it
            continue
        except ProcessesLost:
            raise
        except Exception as error:  # process 0 knows, and writes it down before any process ends and torchrun ends the rest
            failed = error
    if failed is not None:
        raise failed


def _prepared(told: Mapping[str, Any], ranks: Ranks) -> tuple[Trainer, PairRows]:
    from optimas_core.rewards._model import RewardModel

    files = {name: b64decode(content) for name, content in told["model"].items()}
    model = RewardModel.from_files(files, backbone=told["backbone"], device=local_device())
    lesson = Lesson.from_json(told["lesson"])
    return lesson.trainer(model.backbone, model.heads, ranks), PairRows(lesson.pairs, model.embedder.builder)
