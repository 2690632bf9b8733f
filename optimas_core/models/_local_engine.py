"""Decoding of a batch of token sequences with a Hugging Face causal language model.

Everything here is blocking and runs in one thread (the batcher's). The prompts are read (`_local_prefill.py`), then
decoded together, left-padded; a row is delivered when it is finished and leaves the batch when half have.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from optimas_core.models._local_prefill import Prefill, PrefixStore
from optimas_core.models._local_sampling import RowSampling, choose_tokens


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A prompt as token ids and how to continue it. `max_tokens` already fits the context."""

    tokens: tuple[int, ...]
    max_tokens: int
    stop: tuple[str, ...]
    sampling: RowSampling


@dataclass(frozen=True, slots=True)
class Continuation:
    """`tokens_out` counts every token the model produced, the end token and those of a stop string included."""

    text: str
    tokens_out: int
    finish_reason: Literal["stop", "length"]


Deliver = Callable[[int, "Continuation | Exception"], None]


@dataclass(slots=True)
class _Row:
    index: int
    request: EncodedRequest
    produced: list[int] = field(default_factory=list)


class Engine:
    """A loaded model with its tokenizer. Not thread-safe: the batcher calls it from one thread at a time."""

    def __init__(self, directory: Path, tokenizer: Any, *, device: str, dtype: str, share_prefixes: bool = True) -> None:
        import torch
        from transformers import AutoModelForCausalLM, DynamicCache
        from transformers.cache_utils import DynamicLayer

        self._tokenizer = tokenizer
        self._device = torch.device(device)
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar; errors are still raised
            model: Any = AutoModelForCausalLM.from_pretrained(
                directory,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                use_safetensors=True,  # never a pickle
                trust_remote_code=False,
            )
        self._model = model.to(self._device).eval()
        self._ends = _end_tokens(tokenizer, model.generation_config)
        # Windowed and recurrent layers keep less than all keys and values: their beginnings cannot be cut out.
        plain = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
        self._prefill = Prefill(
            self._forward,
            lambda: DynamicCache(config=model.config),
            self._device,
            PrefixStore() if share_prefixes and plain else None,
        )

    def run(self, requests: Sequence[EncodedRequest], deliver: Deliver) -> None:
        """Continue every request; `deliver(i, continuation)` as soon as request i is finished."""
        import torch

        rows = [_Row(index, request) for index, request in enumerate(requests)]
        with torch.inference_mode():
            self._decode(rows, deliver)

    def _decode(self, rows: list[_Row], deliver: Deliver) -> None:
        import torch

        ready = self._prefill.read([row.request.tokens for row in rows])
        logits, cache, mask = ready.logits, ready.cache, ready.mask
        alive = list(range(len(rows)))  # places in the batch whose rows go on
        while True:
            steps = [len(row.produced) for row in rows]
            tokens = choose_tokens(logits, [row.request.sampling for row in rows], steps)
            for place, token in enumerate(tokens.tolist()):
                rows[place].produced.append(token)
            for place in alive[:]:
                done = self._finished(rows[place])
                if done is not None:
                    deliver(rows[place].index, done)
                    alive.remove(place)
            if not alive:
                return
            if 2 * len(alive) <= len(rows):  # carry finished rows only while that is cheaper than copying the cache
                keep = torch.tensor(alive, device=self._device)
                cache.reorder_cache(keep)  # the one selection that every kind of cache layer has
                mask, tokens = mask[keep], tokens[keep]
                rows = [rows[place] for place in alive]
                alive = list(range(len(rows)))
            position = mask.sum(dim=1, keepdim=True)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            logits = self._forward(tokens[:, None], mask, position, cache)

    def _forward(self, tokens: Any, mask: Any, positions: Any, cache: Any) -> Any:
        """Logits of the last position `[rows, vocabulary]`, float32; appends to `cache`."""
        out = self._model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()

    def _finished(self, row: _Row) -> Continuation | None:
        produced = row.produced
        if produced[-1] in self._ends:
            text, cut = self._cut(produced[:-1], row.request.stop)
            return Continuation(text, len(produced), "stop")
        if row.request.stop or len(produced) >= row.request.max_tokens:
            text, cut = self._cut(produced, row.request.stop)
            if cut:
                return Continuation(text, len(produced), "stop")
            if len(produced) >= row.request.max_tokens:
                return Continuation(text, len(produced), "length")
        return None

    def _cut(self, tokens: list[int], stop: tuple[str, ...]) -> tuple[str, bool]:
        """Text of the tokens up to the first stop string, and whether there was one."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        places = [place for place in (text.find(end) for end in stop if end) if place >= 0]
        return (text[: min(places)], True) if places else (text, False)


def _end_tokens(tokenizer: Any, generation: Any) -> frozenset[int]:
    """Tokens that end a text: the model's own, and the start of another text or turn."""
    declared = getattr(generation, "eos_token_id", None)
    ends = set(declared if isinstance(declared, list) else [declared])
    ends |= {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.get_vocab().get("<|endoftext|>")}
    return frozenset(token for token in ends if token is not None)
