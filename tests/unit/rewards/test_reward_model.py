"""The reward model on tiny backbones: both rungs learn, adapt, refuse, and come back from files bit for bit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimas_core.errors import ArtifactCorrupt, DataError, EnvironmentNotReady, TrainingDiverged
from optimas_core.rewards import RewardModel, RewardPair, better_than_chance
from optimas_core.rewards._backbone import Backbone, load_backbone
from optimas_core.rewards._batches import PairRows
from optimas_core.rewards._training import Objective, Trainer
from optimas_core.spec import LrfSettings

TEXT = "river mountain copper engine violin garden harbor winter bridge market doctor planet"
WORDS = TEXT.split()


def make_pairs(component: str, examples: Sequence[str], *, longer_wins: bool = False, seed: int = 0) -> list[RewardPair]:
    """Four outputs per example; the reward is high for short ones (or for long ones)."""
    rng = random.Random(f"{seed}{component}{examples}")
    pairs = []
    for name in examples:
        context = {"question": " ".join(rng.choices(WORDS, k=6))}
        lengths = (2, 6, 12, 20)
        outputs = [{"answer": " ".join(rng.choices(WORDS, k=length))} for length in lengths]
        rewards = [1.0, 0.7, 0.3, 0.0]
        if longer_wins:
            rewards.reverse()
        for one in range(4):
            for other in range(4):
                if rewards[one] > rewards[other]:
                    pairs.append(RewardPair(component, name, context, outputs[one], outputs[other], rewards[one], rewards[other]))
    return pairs


TRAIN = [f"t{number}" for number in range(24)]
JUDGED = [f"h{number}" for number in range(12)]
FRESH = [f"f{number}" for number in range(12)]


def settings_for(backbone: Path, rung: str, **changes: Any) -> LrfSettings:
    values: dict[str, Any] = {
        "rung": rung, "backbone": str(backbone), "lora_rank": 4, "lora_alpha": 4, "max_tokens": 64, "learning_rate": 1e-2,
        "epochs": 4, "batch_pairs": 24, "micro_batch_pairs": 12, "precision": "fp32",
    }  # fmt: skip
    return LrfSettings(**(values | changes))


def fitted(backbone: Path, rung: str, **changes: Any) -> tuple[RewardModel, LrfSettings]:
    settings = settings_for(backbone, rung, **changes)
    model = RewardModel.create(settings, ["one", "two"], seed=0)
    train = make_pairs("one", TRAIN) + make_pairs("two", TRAIN, longer_wins=True)
    judged = make_pairs("one", JUDGED) + make_pairs("two", JUDGED, longer_wins=True)
    model.fit(train, settings, judged, seed=0)
    return model, settings


@pytest.mark.parametrize(
    ("kind", "rung", "loss", "floor"),
    [
        ("tiny_encoder", "frozen", "soft_gap", 0.8),
        ("tiny_encoder", "frozen", "bradley_terry", 0.8),
        ("tiny_encoder", "lora", "soft_gap", 0.8),
        ("tiny_encoder", "lora", "bradley_terry", 0.8),
        ("tiny_decoder", "lora", "soft_gap", 0.8),
        ("tiny_decoder", "frozen", "soft_gap", 0.7),  # the last token of a random decoder knows little about length
    ],
)
def test_learns_what_there_is_to_learn(kind: str, rung: str, loss: str, floor: float, request: pytest.FixtureRequest) -> None:
    backbone = request.getfixturevalue(kind)
    settings = settings_for(backbone, rung, loss=loss)
    model = RewardModel.create(settings, ["one", "two", "never fitted"], seed=0)
    train = make_pairs("one", TRAIN) + make_pairs("two", TRAIN, longer_wins=True)
    judged = make_pairs("one", JUDGED) + make_pairs("two", JUDGED, longer_wins=True)
    seen: list[tuple[int, int, float]] = []
    report = model.fit(train, settings, judged, seed=0, progress=lambda *each: seen.append(each))
    for name in ("one", "two"):
        assert report.alignment[name].accuracy > floor
        assert better_than_chance(report.alignment[name])
        assert report.alignment[name].n_examples == len(JUDGED)
    assert report.alignment["never fitted"].accuracy == 0.5
    assert not better_than_chance(report.alignment["never fitted"])
    assert (report.n_pairs, report.rows) == (len(train), 2 * 4 * len(TRAIN))
    assert seen[-1][0] == report.steps
    assert all(np.isfinite(loss) for loss in (*report.train_loss, *report.held_out_loss))


@pytest.mark.parametrize("rung", ["frozen", "lora"])
def test_files_bring_back_the_same_scores_and_the_same_bytes(rung: str, tiny_encoder: Path) -> None:
    model, _ = fitted(tiny_encoder, rung, epochs=1)
    items = [(pair.context, pair.chosen) for pair in make_pairs("one", FRESH)]
    files = model.to_files()
    assert set(files) == {"adapter.safetensors", "heads.safetensors", "config.json"}
    again = RewardModel.from_files(files)
    assert np.array_equal(again.score("one", items), model.score("one", items))
    assert np.array_equal(again.score("two", items[::-1])[::-1], model.score("two", items))
    assert again.to_files() == files


@pytest.mark.parametrize("rung", ["frozen", "lora"])
def test_a_seed_fixes_the_bytes_and_no_global_generator_moves(rung: str, tiny_encoder: Path) -> None:
    """Reference defect 6: training reseeded the run's generator."""
    import torch

    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    first, settings = fitted(tiny_encoder, rung, epochs=1)
    first.adapt("one", make_pairs("one", FRESH), [], settings, seed=1)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    random.random(), np.random.random(), torch.rand(1)
    second, settings = fitted(tiny_encoder, rung, epochs=1)
    second.adapt("one", make_pairs("one", FRESH), [], settings, seed=1)
    assert second.to_files() == first.to_files()


@pytest.mark.parametrize("rung", ["frozen", "lora"])
def test_adaptation_leaves_the_other_heads_bit_identical(rung: str, tiny_encoder: Path) -> None:
    model, settings = fitted(tiny_encoder, rung, adapt_steps=4)
    other, own = model.heads["two"].weights.tobytes(), model.heads["one"].weights.tobytes()
    guard = {"one": make_pairs("one", JUDGED), "two": make_pairs("two", JUDGED, longer_wins=True)}
    replay = make_pairs("one", TRAIN) + make_pairs("two", TRAIN, longer_wins=True)
    report = model.adapt("one", make_pairs("one", FRESH), replay, settings, seed=0, guard=guard)
    assert report.kept, report.reason
    assert model.heads["two"].weights.tobytes() == other
    assert model.heads["one"].weights.tobytes() != own
    assert set(report.drift) == {"two"}
    assert report.own is not None and report.own.before.n_pairs == len(guard["one"])
    assert report.n_replay == settings.replay_pairs
    if rung == "frozen":
        assert report.drift["two"].before == report.drift["two"].after
    else:
        assert report.steps == 4


def test_adaptation_learns_the_new_pairs(tiny_encoder: Path) -> None:
    for rung in ("frozen", "lora"):
        model, settings = fitted(tiny_encoder, rung, adapt_steps=20, max_drift=1.0)
        turned = make_pairs("one", FRESH, longer_wins=True)
        before = model.alignment(turned)["one"].accuracy
        model.adapt("one", turned, [], settings, seed=0)
        assert model.alignment(turned)["one"].accuracy > before + 0.2


@pytest.mark.parametrize("victim", ["one", "two"])
def test_drift_beyond_the_bound_is_refused_and_rolled_back(victim: str, tiny_encoder: Path) -> None:
    model, settings = fitted(tiny_encoder, "lora", adapt_steps=40, max_drift=0.05)
    files = model.to_files()
    items = [(pair.context, pair.chosen) for pair in make_pairs("two", JUDGED, longer_wins=True)]
    scores = model.score("two", items)
    guard = {victim: make_pairs(victim, JUDGED, longer_wins=victim == "two")}
    report = model.adapt("one", make_pairs("one", FRESH, longer_wins=True), [], settings, seed=0, guard=guard)
    assert not report.kept
    assert "max_drift" in report.reason
    change = report.own if victim == "one" else report.drift[victim]
    assert change is not None and change.loss_of_accuracy > 0.05
    assert model.to_files() == files
    assert np.array_equal(model.score("two", items), scores)


def test_micro_batches_do_not_change_the_step(tiny_encoder: Path) -> None:
    """Batch 1 x accumulation 24 gives the gradient of batch 24, up to rounding."""
    pairs = make_pairs("one", TRAIN[:4])
    states = []
    for micro in (24, 5, 1):
        backbone = load_backbone(str(tiny_encoder), precision="fp32")
        backbone.add_lora(4, 4, 0)
        data = PairRows(pairs, backbone.rows(64))
        start = np.random.default_rng(0).normal(size=32)
        trainer = Trainer(
            backbone, {"one": start}, ["one"], objective=Objective("soft_gap", 4.0), learning_rate=1e-2, total_steps=3,
            micro_batch_pairs=micro,
        )  # fmt: skip
        losses = [trainer.step(data, range(24)) for _ in range(3)]
        assert losses[2] < losses[0]
        states.append((losses, trainer.head_weights()["one"]))
    for losses, weights in states[1:]:
        assert losses == pytest.approx(states[0][0], rel=1e-4)
        assert weights == pytest.approx(states[0][1], abs=1e-4)


def test_micro_batches_halve_themselves_when_memory_runs_out(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    plain = Backbone.encode
    refused: list[int] = []

    def short_of_memory(self: Backbone, rows: Sequence[Any], *, length: int | None = None) -> Any:
        if len(rows) > 6:
            refused.append(len(rows))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(self, rows, length=length)

    roomy, settings = fitted(tiny_encoder, "lora", epochs=1)
    monkeypatch.setattr(Backbone, "encode", short_of_memory)
    model = RewardModel.create(settings, ["one", "two"], seed=0)
    train = make_pairs("one", TRAIN) + make_pairs("two", TRAIN, longer_wins=True)
    report = model.fit(train, settings, make_pairs("one", JUDGED), seed=0)
    assert refused
    assert report.micro_batch_pairs < settings.micro_batch_pairs
    assert len(refused) <= 3  # halved for good, not at every step
    assert model.heads["one"].weights == pytest.approx(roomy.heads["one"].weights, abs=1e-3)

    def other_error(self: Backbone, rows: Sequence[Any], *, length: int | None = None) -> Any:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(Backbone, "encode", other_error)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        model.fit(train, settings, seed=0)


def test_the_best_epoch_is_kept_and_patience_ends_the_fit(tiny_encoder: Path) -> None:
    """Held-out pairs that contradict the training pairs get worse with every epoch."""
    settings = settings_for(tiny_encoder, "lora", epochs=8, patience_epochs=2)
    model = RewardModel.create(settings, ["one"], seed=0)
    judged = make_pairs("one", JUDGED, longer_wins=True)
    report = model.fit(make_pairs("one", TRAIN), settings, judged, seed=0)
    assert len(report.held_out_loss) == report.best_epoch + 2 < 8
    assert report.held_out_loss[report.best_epoch - 1] == min(report.held_out_loss)
    again = RewardModel.from_files(model.to_files()).alignment(judged)["one"]
    assert again == report.alignment["one"]


def test_each_distinct_output_is_read_once_per_batch(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Backbone.encode
    read: list[int] = []

    def counting(self: Backbone, rows: Sequence[Any], *, length: int | None = None) -> Any:
        read.append(len(rows))
        return plain(self, rows, length=length)

    monkeypatch.setattr(Backbone, "encode", counting)
    settings = settings_for(tiny_encoder, "lora", epochs=1, batch_pairs=12, micro_batch_pairs=12)
    pairs = make_pairs("one", TRAIN)
    RewardModel.create(settings, ["one"], seed=0).fit(pairs, settings, seed=0)
    assert len(pairs) == 6 * len(TRAIN)
    assert sum(read) == 4 * len(TRAIN)


def test_a_reward_that_is_not_finite_is_an_error(tiny_encoder: Path) -> None:
    model, _ = fitted(tiny_encoder, "frozen")
    model.heads["one"].weights[0] = np.nan
    with pytest.raises(TrainingDiverged):
        model.score("one", [({"question": "river"}, {"answer": "tiger"})])


def test_a_loss_that_is_not_finite_is_an_error(tiny_encoder: Path) -> None:
    model, settings = fitted(tiny_encoder, "lora", epochs=1)
    model.heads["one"].weights[:] = np.nan
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        model.fit(make_pairs("one", TRAIN), settings, seed=0)


def test_scores_of_nothing_are_an_empty_array(tiny_encoder: Path) -> None:
    model, _ = fitted(tiny_encoder, "frozen")
    scores = model.score("one", [])
    assert scores.shape == (0,)
    assert scores.dtype == np.float64


def test_bad_requests_are_refused(tiny_encoder: Path) -> None:
    settings = settings_for(tiny_encoder, "frozen")
    model = RewardModel.create(settings, ["one"], seed=0)
    pairs = make_pairs("one", TRAIN)
    with pytest.raises(DataError, match="both sides"):
        model.fit(pairs, settings, pairs[:1], seed=0)
    with pytest.raises(DataError, match="no pairs"):
        model.fit([], settings, seed=0)
    with pytest.raises(DataError, match="three"):
        model.fit(make_pairs("three", TRAIN), settings, seed=0)
    with pytest.raises(DataError, match="three"):
        model.score("three", [])
    with pytest.raises(DataError, match="of it only"):
        model.adapt("one", make_pairs("two", FRESH), [], settings, seed=0)
    with pytest.raises(DataError, match="both sides"):
        model.adapt("one", pairs, [], settings, seed=0, guard={"one": pairs[:1]})


def test_another_backbone_and_damaged_files_are_refused(tiny_encoder: Path, tiny_decoder: Path) -> None:
    model, _ = fitted(tiny_encoder, "frozen")
    files = model.to_files()
    with pytest.raises(EnvironmentNotReady, match="digest"):
        RewardModel.from_files(files, backbone=str(tiny_decoder))
    with pytest.raises(ArtifactCorrupt, match=r"heads\.safetensors"):
        RewardModel.from_files({name: data for name, data in files.items() if name != "heads.safetensors"})
    for name in files:
        with pytest.raises(ArtifactCorrupt):
            RewardModel.from_files(files | {name: b"junk"})
    with pytest.raises(ArtifactCorrupt, match="format"):
        RewardModel.from_files(files | {"config.json": files["config.json"].replace(b'"format":1', b'"format":99')})
