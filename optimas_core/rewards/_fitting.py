"""The four ways to learn: fit or adapt, on the frozen rung or with LoRA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optimas_core.canonical import derive_seed
from optimas_core.rewards._backbone import Backbone
from optimas_core.rewards._batches import PairRows
from optimas_core.rewards._embeddings import Embedder
from optimas_core.rewards._heads import Head, fit_head, pair_losses, targets
from optimas_core.rewards._lessons import Begin, Lesson
from optimas_core.rewards._pairs import RewardPair
from optimas_core.rewards._training import Progress
from optimas_core.spec import LrfSettings


@dataclass(frozen=True)
class Outcome:
    """New heads (only those that changed) and what the reports need."""

    heads: Mapping[str, Head]
    train_loss: tuple[float, ...]
    held_out_loss: tuple[float, ...]
    best_epoch: int
    rows: int
    truncated: int
    outputs_cut: int
    steps: int
    micro_batch_pairs: int


def fit_frozen(
    backbone: Backbone,
    embedder: Embedder,
    heads: Mapping[str, Head],
    pairs: Sequence[RewardPair],
    held_out: Sequence[RewardPair],
    settings: LrfSettings,
    seed: int,
    progress: Progress | None,
) -> Outcome:
    """Every head by itself, exactly, on kept vectors; a head that was fitted before is the prior of its new one."""
    data = PairRows(pairs, embedder.builder)
    fitted: dict[str, Head] = {}
    names = [name for name in heads if any(pair.component == name for pair in pairs)]
    for done, name in enumerate(names, start=1):
        own = [pair for pair in pairs if pair.component == name]
        learned = heads[name] if np.any(heads[name].weights) else None  # by the run that this one goes on from
        fitted[name] = _fit_one(_interaction_differences(embedder, own), own, settings, seed, learned)
        if progress is not None:
            progress(done, len(names), _frozen_loss(embedder, fitted, own, settings))
    merged = dict(heads) | fitted
    return Outcome(
        heads=fitted,
        train_loss=(_frozen_loss(embedder, merged, pairs, settings),),
        held_out_loss=(_frozen_loss(embedder, merged, held_out, settings),) if held_out else (),
        best_epoch=1,
        rows=len(data.rows),
        truncated=data.truncated,
        outputs_cut=data.outputs_cut,
        steps=len(names),
        micro_batch_pairs=settings.micro_batch_pairs,
    )


def adapt_frozen(
    backbone: Backbone,
    embedder: Embedder,
    heads: Mapping[str, Head],
    component: str,
    pairs: Sequence[RewardPair],
    replay: Sequence[RewardPair],
    settings: LrfSettings,
    seed: int,
) -> Outcome:
    """The head solved again on new and replayed pairs, drawn to what it was. Nothing shared moves: no drift."""
    own = [*pairs, *(pair for pair in replay if pair.component == component)]
    head = fit_head(
        _interaction_differences(embedder, own),
        targets(_gaps(own), settings.loss, settings.beta),
        [pair.example_id for pair in own],
        seed=seed,
        start=heads[component],
    )
    data = PairRows(own, embedder.builder)
    return Outcome(
        heads={component: head},
        train_loss=(_frozen_loss(embedder, {component: head}, own, settings),),
        held_out_loss=(),
        best_epoch=1,
        rows=len(data.rows),
        truncated=data.truncated,
        outputs_cut=data.outputs_cut,
        steps=1,
        micro_batch_pairs=settings.micro_batch_pairs,
    )


def fit_lora(
    backbone: Backbone,
    embedder: Embedder,
    heads: Mapping[str, Head],
    pairs: Sequence[RewardPair],
    held_out: Sequence[RewardPair],
    settings: LrfSettings,
    seed: int,
    progress: Progress | None,
    begin: Begin,
) -> Outcome:
    """LoRA and all heads together; the best epoch on the held-out loss is kept."""
    data = PairRows(pairs, embedder.builder)
    trained = tuple(sorted({pair.component for pair in pairs}))
    per_epoch = -(-len(pairs) // settings.batch_pairs)
    trainer = begin(Lesson(data.pairs, trained, per_epoch * settings.epochs, seed, settings))
    rng = np.random.default_rng(derive_seed("lrf-batches", seed))
    train_loss: list[float] = []
    held_out_loss: list[float] = []
    best = (backbone.lora_state(), trainer.head_weights())
    best_epoch = 0
    for epoch in range(1, settings.epochs + 1):
        total = 0.0
        for batch in data.batches(settings.batch_pairs, rng):
            loss = trainer.step(data, batch)
            total += loss * len(batch)
            if progress is not None:
                progress(trainer.steps, per_epoch * settings.epochs, loss)
        embedder.forget()
        train_loss.append(total / len(pairs))
        if held_out:
            held_out_loss.append(_lora_loss(embedder, trainer.head_weights(), heads, held_out, settings))
        if not held_out or held_out_loss[-1] <= min(held_out_loss):
            best, best_epoch = (backbone.lora_state(), trainer.head_weights()), epoch
        elif epoch - best_epoch >= settings.patience_epochs:
            break
    if best_epoch != len(train_loss):
        backbone.set_lora_state(best[0])
        embedder.forget()
    return Outcome(
        heads={name: Head(weights, heads[name].l2) for name, weights in best[1].items()},
        train_loss=tuple(train_loss),
        held_out_loss=tuple(held_out_loss),
        best_epoch=best_epoch,
        rows=len(data.rows),
        truncated=data.truncated,
        outputs_cut=data.outputs_cut,
        steps=trainer.steps,
        micro_batch_pairs=trainer.micro_batch_pairs,
    )


def adapt_lora(
    backbone: Backbone,
    embedder: Embedder,
    heads: Mapping[str, Head],
    component: str,
    pairs: Sequence[RewardPair],
    replay: Sequence[RewardPair],
    settings: LrfSettings,
    seed: int,
    begin: Begin,
) -> Outcome:
    """`adapt_steps` steps on L_k: LoRA and head k move; replayed pairs of other components pull through their fixed heads."""
    data = PairRows([*pairs, *replay], embedder.builder)
    trainer = begin(Lesson(data.pairs, (component,), settings.adapt_steps, seed, settings))
    rng = np.random.default_rng(derive_seed("lrf-adapt", seed, component))
    losses: list[float] = []
    try:
        while trainer.steps < settings.adapt_steps:
            for batch in data.batches(settings.batch_pairs, rng)[: settings.adapt_steps - trainer.steps]:
                losses.append(trainer.step(data, batch))
    finally:
        embedder.forget()
    return Outcome(
        heads={component: Head(trainer.head_weights()[component], heads[component].l2)},
        train_loss=tuple(losses),
        held_out_loss=(),
        best_epoch=1,
        rows=len(data.rows),
        truncated=data.truncated,
        outputs_cut=data.outputs_cut,
        steps=trainer.steps,
        micro_batch_pairs=trainer.micro_batch_pairs,
    )


def _fit_one(differences: np.ndarray, own: Sequence[RewardPair], settings: LrfSettings, seed: int, start: Head | None) -> Head:
    target = targets(_gaps(own), settings.loss, settings.beta)
    return fit_head(differences, target, [pair.example_id for pair in own], seed=seed, start=start)


def _interaction_differences(embedder: Embedder, pairs: Sequence[RewardPair]) -> np.ndarray:
    better = embedder.interactions([(pair.context, pair.chosen) for pair in pairs])
    worse = embedder.interactions([(pair.context, pair.rejected) for pair in pairs])
    differences: np.ndarray = better.astype(np.float64) - worse
    return differences


def _frozen_loss(embedder: Embedder, heads: Mapping[str, Head], pairs: Sequence[RewardPair], settings: LrfSettings) -> float:
    differences = _interaction_differences(embedder, pairs)
    weights = np.stack([heads[pair.component].weights for pair in pairs])
    return _mean_loss((differences * weights).sum(axis=1), pairs, settings)


def _lora_loss(
    embedder: Embedder,
    trained: Mapping[str, np.ndarray],
    heads: Mapping[str, Head],
    pairs: Sequence[RewardPair],
    settings: LrfSettings,
) -> float:
    better = embedder.pairs([(pair.context, pair.chosen) for pair in pairs]).astype(np.float64)
    worse = embedder.pairs([(pair.context, pair.rejected) for pair in pairs])
    weights = np.stack([trained.get(pair.component, heads[pair.component].weights) for pair in pairs])
    return _mean_loss(((better - worse) * weights).sum(axis=1), pairs, settings)


def _mean_loss(diffs: np.ndarray, pairs: Sequence[RewardPair], settings: LrfSettings) -> float:
    return float(pair_losses(diffs, targets(_gaps(pairs), settings.loss, settings.beta)).mean())


def _gaps(pairs: Sequence[RewardPair]) -> np.ndarray:
    return np.asarray([pair.gap for pair in pairs], dtype=np.float64)
