"""The real embedded backbone: relevance that only a reader can see, learned by both rungs."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from optimas_core.models.embedded import prepare
from optimas_core.rewards import RewardModel, RewardPair, better_than_chance
from optimas_core.spec import LrfSettings

TEXT = (
    "river mountain copper engine violin garden harbor winter bridge market doctor planet silver forest candle letter "
    "window orange tiger castle desert island piano rocket"
)
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def minilm() -> Path:
    return prepare("all-minilm-l6-v2")


def relevance_pairs(examples: int, prefix: str) -> list[RewardPair]:
    """The question names two things; an answer is worth the share of them it mentions. All answers are 8 words long."""
    pairs = []
    for number in range(examples):
        rng = random.Random(f"{prefix}{number}")
        asked = rng.sample(WORDS, 2)
        others = [word for word in WORDS if word not in asked]
        outputs = []
        for mentioned in (0, 1, 2):
            words = asked[:mentioned] + rng.sample(others, 8 - mentioned)
            rng.shuffle(words)
            outputs.append(({"answer": " ".join(words)}, mentioned / 2))
        context = {"question": f"Tell me about {asked[0]} and {asked[1]}."}
        for better in range(3):
            for worse in range(better):
                chosen, rejected = outputs[better], outputs[worse]
                pairs.append(RewardPair("answerer", f"{prefix}{number}", context, chosen[0], rejected[0], chosen[1], rejected[1]))
    return pairs


@pytest.mark.parametrize("rung", ["frozen", "lora"])
def test_relevance_is_learned_and_survives_the_files(rung: str, minilm: Path) -> None:
    settings = LrfSettings(rung=rung, backbone=str(minilm), epochs=3)
    model = RewardModel.create(settings, ["answerer"], seed=0)
    judged = relevance_pairs(30, "held-out")
    report = model.fit(relevance_pairs(100, "train"), settings, judged, seed=0)
    result = report.alignment["answerer"]
    assert result.accuracy > 0.8, report
    assert better_than_chance(result)
    items = [(pair.context, pair.chosen) for pair in judged]
    again = RewardModel.from_files(model.to_files())
    assert np.array_equal(again.score("answerer", items[::-1])[::-1], model.score("answerer", items))
    assert np.array_equal(again.score("answerer", items[:1]), model.score("answerer", items)[:1])


def test_short_answers_are_learned_by_the_frozen_rung(minilm: Path) -> None:
    rng = random.Random(0)
    sides: dict[str, list[RewardPair]] = {"train": [], "held-out": []}
    for side, examples in (("train", 40), ("held-out", 20)):
        for number in range(examples):
            context = {"question": f"What is a {rng.choice(WORDS)}?"}
            short = {"answer": " ".join(rng.choices(WORDS, k=rng.randint(1, 3)))}
            long = {"answer": " ".join(rng.choices(WORDS, k=rng.randint(8, 14)))}
            sides[side].append(RewardPair("answerer", f"{side}{number}", context, short, long, 0.9, 0.1))
    settings = LrfSettings(rung="frozen", backbone=str(minilm))
    model = RewardModel.create(settings, ["answerer"], seed=0)
    report = model.fit(sides["train"], settings, sides["held-out"], seed=0)
    assert report.alignment["answerer"].accuracy > 0.9
