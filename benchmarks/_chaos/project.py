"""The smallest run that has every kind of write and call: the scripted system, a backbone with random weights, a handful of examples."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

SCRIPTED = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "scripted"
RUN_ID = "chaos"
# Two calls in flight, two iterations that choose both components, and a gate that looks twice.
SECTIONS: dict[str, Any] = {
    "name": RUN_ID,
    "concurrency": 2,
    "data": {"source": "examples.jsonl", "split": {"train": 8, "validation": 8, "test": 3, "seed": 0}},
    "budget": {"system_runs": 500},
    "preferences": {"examples": 4, "candidates": 2, "rollouts": 1},
    "lrf": {"rung": "frozen", "max_tokens": 32},
    "optimizers": {"candidates": 1, "search_inputs": 3, "fresh_inputs": 3},
    "acceptance": {"kind": "paired_sequential", "first_look": 4, "items": 8, "alpha": 0.2},
    "schedule": {"iterations": 2, "selection": {"kind": "round_robin"}},
}


def write_project(directory: Path, **sections: Any) -> Path:
    """A copy of the scripted project with small settings; returns the path of run.yaml."""
    shutil.copytree(SCRIPTED, directory, ignore=shutil.ignore_patterns("__pycache__"))
    spec = yaml.safe_load((directory / "run.yaml").read_text()) | SECTIONS | sections
    spec["lrf"] = {**spec["lrf"], "backbone": str(write_backbone(directory / "backbone"))}
    (directory / "run.yaml").write_text(yaml.safe_dump(spec))
    return directory / "run.yaml"


def write_backbone(directory: Path, *, positions: int = 96, hidden: int = 32) -> Path:
    """BERT of two layers with random weights: reads words without understanding any, in a millisecond."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    words = "question context answer item is red green well as far i can see from it the unknown : . , ? -"
    vocabulary = {word: index for index, word in enumerate([*special.values(), *words.split(), *map(str, range(100))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    PreTrainedTokenizerFast(tokenizer_object=inner, model_input_names=names, **special).save_pretrained(directory)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=hidden, num_hidden_layers=2, num_attention_heads=4, intermediate_size=4 * hidden,
        max_position_embeddings=positions, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(directory)
    return directory
