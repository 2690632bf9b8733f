"""Tiny backbones with random weights, written as model directories: the whole path runs without any download."""

from __future__ import annotations

from pathlib import Path

import pytest

TEXT = (
    "answer question context the river mountain copper engine violin garden harbor winter bridge market doctor planet "
    "silver forest candle letter window orange tiger a b c d : - . ? \n"
)
WORDS = TEXT.split(" ")


def _tokenizer(directory: Path, special: dict[str, str], post: bool) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = list(special.values())
    vocabulary = {word: index for index, word in enumerate([*names, *WORDS, *(str(n) for n in range(10))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    if post:
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **special
    )
    tokenizer.save_pretrained(directory)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT, 2 layers of 32, with its dropout on in the configuration, as published models have it."""
    import torch
    from transformers import BertConfig, BertModel

    directory = tmp_path_factory.mktemp("tiny-encoder")
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    _tokenizer(directory, special, post=True)
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=96, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama, 2 layers of 32."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    directory = tmp_path_factory.mktemp("tiny-decoder")
    _tokenizer(directory, {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}, post=False)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=96, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaModel(config).save_pretrained(directory)
    return directory
