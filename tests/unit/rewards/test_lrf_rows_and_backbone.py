"""Tokens, truncation, pooling, LoRA placement: encoder and decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimas_core.errors import EnvironmentNotReady
from optimas_core.rewards._backbone import attention_layers, load_backbone
from optimas_core.rewards._embeddings import Embedder

LONG_X = " ".join(["river"] * 60 + ["tiger"] * 60)


def test_a_pair_has_the_encoders_own_form(tiny_encoder: Path) -> None:
    backbone = load_backbone(str(tiny_encoder))
    row = backbone.rows(64).pair("river mountain", "tiger")
    words = backbone.tokenizer.convert_ids_to_tokens(list(row.ids))
    assert words == ["[CLS]", "river", "mountain", "[SEP]", "tiger", "[SEP]"]
    assert row.types == (0, 0, 0, 0, 1, 1)
    assert not row.truncated


def test_a_decoders_row_ends_with_its_end_token(tiny_decoder: Path) -> None:
    backbone = load_backbone(str(tiny_decoder))
    assert backbone.decoder
    row = backbone.rows(64).pair("river mountain", "tiger")
    assert backbone.tokenizer.convert_ids_to_tokens(list(row.ids)) == ["river", "mountain", "tiger", "</s>"]
    assert row.types == ()


def test_truncation_takes_the_middle_of_x_and_never_y(tiny_encoder: Path) -> None:
    backbone = load_backbone(str(tiny_encoder))
    answer = " ".join(["garden"] * 20)
    row = backbone.rows(40).pair(LONG_X, answer)
    words = backbone.tokenizer.convert_ids_to_tokens(list(row.ids))
    assert len(words) == 40
    assert row.truncated and not row.output_cut
    assert words.count("garden") == 20
    assert words[1:18] == ["river"] * 9 + ["tiger"] * 8


def test_an_output_longer_than_max_tokens_stays_whole_while_the_backbone_can_read_it(tiny_encoder: Path) -> None:
    backbone = load_backbone(str(tiny_encoder))
    row = backbone.rows(16).pair("river", " ".join(["garden"] * 50))
    assert backbone.tokenizer.convert_ids_to_tokens(list(row.ids)).count("garden") == 50
    assert row.truncated and not row.output_cut
    beyond = backbone.rows(16).pair("river", " ".join(["garden"] * 500))
    assert beyond.output_cut
    assert len(beyond.ids) == backbone.positions == 96


def test_dropout_is_off_and_vectors_have_unit_scale(tiny_encoder: Path) -> None:
    backbone = load_backbone(str(tiny_encoder))
    assert backbone.model.config.hidden_dropout_prob == backbone.model.config.attention_probs_dropout_prob == 0.0
    rows = [backbone.rows(64).pair("river mountain", "tiger")]
    one, two = (backbone.encode(rows).detach().numpy() for _ in range(2))
    assert np.array_equal(one, two)
    assert float((one**2).mean()) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("kind", ["tiny_encoder", "tiny_decoder"])
def test_a_vector_does_not_depend_on_its_neighbours_or_padding(kind: str, request: pytest.FixtureRequest) -> None:
    backbone = load_backbone(str(request.getfixturevalue(kind)), precision="fp32")
    text = "river mountain copper engine violin garden harbor winter bridge market doctor planet"
    words = text.split()
    items = [({"question": " ".join(words[: n % 9 + 1])}, {"answer": " ".join(words[n % 5 :])}) for n in range(23)]
    together = Embedder(backbone, 64).pairs(items)
    alone = np.concatenate([Embedder(backbone, 64).pairs([item]) for item in items])
    assert np.array_equal(together, alone)
    assert np.array_equal(Embedder(backbone, 64).pairs(items[::-1])[::-1], together)
    rows = Embedder(backbone, 64).builder
    from optimas_core.rewards import render

    short = rows.pair(*render(*items[0]))
    padded = backbone.encode([short], length=64).detach().numpy()
    assert padded[0] == pytest.approx(together[0], abs=1e-4)


@pytest.mark.parametrize(("kind", "count"), [("tiny_encoder", 8), ("tiny_decoder", 8)])
def test_lora_goes_on_every_attention_layer_and_changes_nothing_at_first(kind: str, count: int, request: pytest.FixtureRequest) -> None:
    backbone = load_backbone(str(request.getfixturevalue(kind)), precision="fp32")
    assert len(attention_layers(backbone.model)) == count
    rows = [backbone.rows(64).pair("river mountain", "tiger")]
    before = backbone.encode(rows).detach().numpy()
    backbone.add_lora(4, 2, seed=0)
    assert np.array_equal(backbone.encode(rows).detach().numpy(), before)
    assert len(backbone.lora_parameters()) == 2 * count
    assert len(backbone.lora_state()) == 2 * count


def test_lora_starts_from_its_seed(tiny_encoder: Path) -> None:
    states = []
    for seed in (0, 0, 1):
        backbone = load_backbone(str(tiny_encoder))
        backbone.add_lora(4, 2, seed)
        states.append(np.concatenate([value.numpy().ravel() for _, value in sorted(backbone.lora_state().items())]))
    assert np.array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])


def test_a_directory_that_is_no_model_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentNotReady, match=str(tmp_path)):
        load_backbone(str(tmp_path))


def test_a_name_is_resolved_by_the_callers_function(tiny_encoder: Path) -> None:
    asked = []

    def resolve(name: str) -> Path:
        asked.append(name)
        return tiny_encoder

    assert load_backbone("some-model", resolve=resolve).name == "some-model"
    assert asked == ["some-model"]
