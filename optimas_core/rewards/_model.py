"""The Local Reward Functions of a system behind one interface, for both rungs.

`frozen`: the backbone stays as it is, its vectors are kept, each head is a convex fit on interaction features: seconds.
`lora`: LoRA on the shared backbone and all heads learn together (Eq. 2, 4): a minute or more, and better.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from optimas_core.errors import ArtifactCorrupt, DataError, EnvironmentNotReady, TrainingDiverged
from optimas_core.rewards._alignment import AlignmentResult, pairwise_accuracy
from optimas_core.rewards._backbone import Backbone, Resolve, load_backbone
from optimas_core.rewards._embeddings import Embedder, Item
from optimas_core.rewards._files import ModelConfig, pack, require_same_tensors, unpack
from optimas_core.rewards._fitting import adapt_frozen, adapt_lora, fit_frozen, fit_lora
from optimas_core.rewards._heads import Head
from optimas_core.rewards._lessons import begin
from optimas_core.rewards._pairs import RewardPair
from optimas_core.rewards._ranks import ALONE, Ranks
from optimas_core.rewards._reports import AdaptReport, Drift, FitReport
from optimas_core.rewards._training import Progress
from optimas_core.spec import LrfSettings


class RewardModel:
    """r_k for every optimizable component: one shared backbone phi, one linear head h_k each (Eq. 2).

    A head that was never fitted is zero, so all its rewards are equal and its alignment is exactly chance.
    """

    def __init__(self, backbone: Backbone, config: ModelConfig, heads: Mapping[str, Head]) -> None:
        self.backbone = backbone
        self.config = config
        self.heads: dict[str, Head] = dict(heads)
        self.embedder = Embedder(backbone, config.max_tokens)

    @classmethod
    def create(
        cls,
        settings: LrfSettings,
        components: Sequence[str],
        seed: int,
        *,
        resolve: Resolve | None = None,
        device: str | None = None,
    ) -> RewardModel:
        """An unfitted model. `resolve` turns a backbone's name into a directory (default: the embedded models).

        Raises:
            EnvironmentNotReady: the backbone cannot be loaded.
        """
        backbone = load_backbone(settings.backbone, precision=settings.precision, device=device, resolve=resolve)
        if settings.rung == "lora":
            backbone.add_lora(settings.lora_rank, settings.lora_alpha, seed)
        config = ModelConfig(
            rung=settings.rung,
            backbone=settings.backbone,
            backbone_digest=backbone.digest,
            max_tokens=settings.max_tokens,
            precision=settings.precision,
            lora_rank=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            components=tuple(components),
        )
        features = backbone.dim * (4 if settings.rung == "frozen" else 1)
        return cls(backbone, config, {name: Head(np.zeros(features), 1.0) for name in components})

    def fit(
        self,
        pairs: Sequence[RewardPair],
        settings: LrfSettings,
        held_out: Sequence[RewardPair] = (),
        *,
        seed: int,
        progress: Progress | None = None,
        ranks: Ranks = ALONE,
    ) -> FitReport:
        """Learn from `pairs`; `held_out` pairs of other examples judge it (and stop the lora rung early).

        The epoch is chosen by one number over all components, among a handful of epochs, so the alignment measured on
        the same pairs is hardly flattered; the frozen rung never looks at them. `ranks`: processes that `follow` and take
        their share of every batch; the frozen rung needs none.

        Raises:
            DataError: no pairs, an unknown component, or an example on both sides.
            TrainingDiverged: a loss or reward that is not finite.
        """
        started = time.monotonic()
        if not pairs:
            raise DataError("an LRF cannot be fitted on no pairs.", remedy="Label preference pairs first.")
        self._check(pairs, held_out)
        given = (self.backbone, self.embedder, self.heads, pairs, held_out, settings, seed, progress)
        outcome = fit_frozen(*given) if self.config.rung == "frozen" else fit_lora(*given, lambda lesson: begin(self, lesson, ranks))
        self.heads.update(outcome.heads)
        return FitReport(
            rung=self.config.rung,
            loss=settings.loss,
            train_loss=outcome.train_loss,
            held_out_loss=outcome.held_out_loss,
            best_epoch=outcome.best_epoch,
            alignment=self.alignment(held_out, confidence=settings.confidence),
            n_pairs=len(pairs),
            n_held_out_pairs=len(held_out),
            rows=outcome.rows,
            truncated=outcome.truncated,
            outputs_cut=outcome.outputs_cut,
            steps=outcome.steps,
            micro_batch_pairs=outcome.micro_batch_pairs,
            seconds=time.monotonic() - started,
        )

    def adapt(
        self,
        component: str,
        pairs: Sequence[RewardPair],
        replay: Sequence[RewardPair],
        settings: LrfSettings,
        *,
        seed: int,
        guard: Mapping[str, Sequence[RewardPair]] | None = None,
        ranks: Ranks = ALONE,
    ) -> AdaptReport:
        """A few steps on L_k for one component (section 4.2). Every other head stays bit-identical.

        `replay`: earlier pairs, newest first; those of `component` are learned again, those of other components only hold
        the shared LoRA in place. `guard`: component -> held-out pairs; a loss of accuracy beyond `settings.max_drift` on
        any of them, the adapted one included, rolls everything back. `ranks`: as in `fit`.

        Raises:
            DataError: no pairs of this component, an unknown component, or a guard example among the training pairs.
        """
        started = time.monotonic()
        guard = {name: rows for name, rows in (guard or {}).items() if rows}
        if not pairs or any(pair.component != component for pair in pairs):
            raise DataError(f'an adaptation of "{component}" needs pairs of it, and of it only.', remedy="Filter them.")
        kept_replay = tuple(replay)[: settings.replay_pairs]
        self._check((*pairs, *kept_replay), [pair for rows in guard.values() for pair in rows])
        before = {name: self._accuracy(rows, settings.confidence) for name, rows in guard.items()}
        old_heads, old_adapter = dict(self.heads), self.backbone.lora_state()
        given = (self.backbone, self.embedder, self.heads, component, pairs, kept_replay, settings, seed)
        reason = ""
        try:
            if self.config.rung == "frozen":
                outcome = adapt_frozen(*given)
            else:
                outcome = adapt_lora(*given, lambda lesson: begin(self, lesson, ranks))
            self.heads.update(outcome.heads)
            drift = {name: Drift(before[name], self._accuracy(rows, settings.confidence)) for name, rows in guard.items()}
        except TrainingDiverged:
            self._restore(old_heads, old_adapter)
            raise
        for name, change in sorted(drift.items()):
            if change.loss_of_accuracy > settings.max_drift:
                whose = "its own" if name == component else f'"{name}"\'s'
                reason = (
                    f"{whose} held-out accuracy fell from {change.before.accuracy:.3f} to {change.after.accuracy:.3f}, "
                    f"more than max_drift {settings.max_drift:g}"
                )
                self._restore(old_heads, old_adapter)
                break
        own = drift.pop(component, None)
        return AdaptReport(
            component=component,
            kept=not reason,
            reason=reason,
            own=own,
            drift=drift,
            train_loss=outcome.train_loss,
            n_pairs=len(pairs),
            n_replay=len(kept_replay),
            steps=outcome.steps,
            rows=outcome.rows,
            truncated=outcome.truncated,
            outputs_cut=outcome.outputs_cut,
            seconds=time.monotonic() - started,
        )

    def score(self, component: str, items: Sequence[Item]) -> np.ndarray:
        """r_k of (x_k, y_k) items: [items] float64. Comparable only between outputs of the same x_k.

        An item's score does not depend on the others in the call.

        Raises:
            DataError: an unknown component.
            TrainingDiverged: a reward that is not finite.
        """
        self._check_components([component])
        vectors = self.embedder.interactions(items) if self.config.rung == "frozen" else self.embedder.pairs(items)
        scores = self.heads[component].score(vectors)
        if not np.isfinite(scores).all():
            raise TrainingDiverged(f'a reward of "{component}" is NaN or infinite.', remedy="Lower lrf.learning_rate and fit again.")
        return scores

    def alignment(self, pairs: Sequence[RewardPair], *, confidence: float = 0.95) -> dict[str, AlignmentResult]:
        """Pairwise accuracy of every component on `pairs` (those it was not trained on, that is the caller's part)."""
        return {name: self._accuracy([pair for pair in pairs if pair.component == name], confidence) for name in self.config.components}

    def accuracy_by_example(self, pairs: Sequence[RewardPair]) -> dict[str, float]:
        """Example id -> share of its pairs, all of one component, that are ordered as the global reward orders them; a tie counts 0.5."""
        if not pairs:
            return {}
        items = [(pair.context, output) for pair in pairs for output in (pair.chosen, pair.rejected)]
        better, worse = self.score(pairs[0].component, items).reshape(-1, 2).T
        wins: dict[str, list[float]] = {}
        for pair, won in zip(pairs, (better > worse) + 0.5 * (better == worse), strict=True):
            wins.setdefault(pair.example_id, []).append(float(won))
        return {name: sum(found) / len(found) for name, found in wins.items()}

    def to_files(self) -> dict[str, bytes]:
        """adapter.safetensors, heads.safetensors, config.json. Equal models give equal bytes."""
        return pack(self.config, self.heads, self.backbone.lora_state())

    @classmethod
    def from_files(
        cls,
        files: Mapping[str, bytes],
        *,
        backbone: str | None = None,
        resolve: Resolve | None = None,
        device: str | None = None,
    ) -> RewardModel:
        """The model that `to_files` wrote; it scores bit-identically. `backbone` says where the backbone lies now.

        Raises:
            ArtifactCorrupt: a file is missing or unreadable, or does not fit the backbone.
            EnvironmentNotReady: the backbone is missing, or is not the one the LRF was fitted on.
        """
        config, heads, adapter = unpack(files)
        precision: Any = config.precision
        loaded = load_backbone(backbone or config.backbone, precision=precision, device=device, resolve=resolve)
        if loaded.digest != config.backbone_digest:
            raise EnvironmentNotReady(
                f'the backbone "{loaded.name}" has digest {loaded.digest}, the LRF was fitted on {config.backbone_digest}.',
                remedy="Give the backbone it was fitted on, or train the LRF again.",
            )
        features = loaded.dim * (4 if config.rung == "frozen" else 1)
        if any(len(head.weights) != features for head in heads.values()):
            raise ArtifactCorrupt(f"the LRF has a head that is no vector of {features} numbers.", remedy="Train it again.")
        if config.rung == "lora":
            loaded.add_lora(config.lora_rank, config.lora_alpha, 0)
            require_same_tensors(loaded.lora_state(), adapter)
            loaded.set_lora_state(adapter)
        return cls(loaded, replace(config, backbone=loaded.name), heads)

    def _accuracy(self, pairs: Sequence[RewardPair], confidence: float) -> AlignmentResult:
        """All pairs are of one component."""
        if not pairs:
            return pairwise_accuracy([], [], confidence=confidence)
        items = [(pair.context, output) for pair in pairs for output in (pair.chosen, pair.rejected)]
        scores = self.score(pairs[0].component, items).reshape(-1, 2)
        rewards = [(float(better), float(worse)) for better, worse in scores]
        return pairwise_accuracy(rewards, [pair.example_id for pair in pairs], confidence=confidence)

    def _restore(self, heads: Mapping[str, Head], adapter: dict[str, Any]) -> None:
        self.heads = dict(heads)
        self.backbone.set_lora_state(adapter)
        if adapter:
            self.embedder.forget()

    def _check(self, train: Sequence[RewardPair], held_out: Sequence[RewardPair]) -> None:
        self._check_components({pair.component for pair in (*train, *held_out)})
        both = {pair.example_id for pair in train} & {pair.example_id for pair in held_out}
        if both:
            raise DataError(
                f"{len(both)} example(s) are on both sides of the LRF's split, for example {min(both)!r}.",
                remedy="Divide the pairs with split_by_example.",
            )

    def _check_components(self, names: Sequence[str] | set[str]) -> None:
        unknown = sorted(set(names) - set(self.heads))
        if unknown:
            raise DataError(f"the LRF has no head for {', '.join(unknown)}.", remedy=f"It has: {', '.join(self.heads)}.")
