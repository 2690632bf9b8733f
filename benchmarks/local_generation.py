"""Tokens per second of the local model: one call at a time, 32 in flight, and transformers' own batched generate().

The prompts are look-up questions as a component asks them: one instruction with two demonstrations, then paragraphs
and a question that differ. Each is answered greedily with up to 24 tokens (about a minute on two cores).

    python benchmarks/local_generation.py [--repeats 3] [--singles 16] [--quick] [--json]

"Nothing shared" turns off the reuse of beginnings that prompts have in common, which transformers' `generate()` does not have
either: those rows compare the decoding alone. Each way starts with a model that has seen none of the prompts.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from _speed.table import Column, Figure, Found

from optimas_core.models._types import ModelReply, ModelRequest, Sampling
from optimas_core.models.embedded import prepare
from optimas_core.models.local import Local

CITIES = """Norway Oslo krone; Sweden Stockholm krona; Poland Warsaw zloty; Hungary Budapest forint; Japan Tokyo yen
Kenya Nairobi shilling; Egypt Cairo pound; Peru Lima sol; Chile Santiago peso; India Delhi rupee; Turkey Ankara lira
Thailand Bangkok baht; Vietnam Hanoi dong; Ghana Accra cedi; Nigeria Abuja naira; Ethiopia Addis-Ababa birr
Denmark Copenhagen krone; Iceland Reykjavik krona; Romania Bucharest leu; Serbia Belgrade dinar; Ukraine Kyiv hryvnia
Georgia Tbilisi lari; Armenia Yerevan dram; Israel Jerusalem shekel; Jordan Amman dinar; Morocco Rabat dirham
Zambia Lusaka kwacha; Mongolia Ulaanbaatar tugrik; Malaysia Kuala-Lumpur ringgit; Indonesia Jakarta rupiah
Brazil Brasilia real; Mexico Mexico-City peso"""
TEMPLATE = """Answer the question from the paragraphs, in as few words as possible.

Paragraphs: The Nile flows north through eleven countries and reaches the Mediterranean Sea in a wide delta. The Amazon
carries more water than any other river and ends in the Atlantic Ocean.
Question: Into which sea does the Nile flow?
Answer: the Mediterranean Sea

Paragraphs: Ottawa has been the capital of Canada since 1857. Its largest city is Toronto, on Lake Ontario.
Question: What is the capital of Canada?
Answer: Ottawa

"""
MAX_TOKENS = 24
COLUMNS = (
    Column("way", "way"),
    Column("calls", "calls"),
    Column("tokens_in", "prompt tokens"),
    Column("tokens_out", "tokens out"),
    Column("seconds", "s", ".2f"),
    Column("tokens_per_s", "tokens/s", ".1f"),
    Column("ratio", "over the first row", ".2f"),
)
SINGLE = ("one at a time, nothing shared", "one at a time", "generate(), batch of 1")
BATCH = ("generate(), batch of 32",)
# (key, what is divided, by the fastest of, what those are called, target)
FIGURES = (
    ("over-one-at-a-time", "32 in flight", SINGLE, "the fastest one at a time", 6.0),
    ("over-generate", "32 in flight", BATCH, BATCH[0], 0.9),
    ("over-generate-unshared", "32 in flight, nothing shared", BATCH, BATCH[0], 0.9),
)


@dataclass(frozen=True, slots=True)
class Row:
    way: str
    calls: int
    tokens_in: int
    tokens_out: int
    seconds: float
    ratio: float  # output tokens per second, over those of the first row

    @property
    def rate(self) -> float:
        return self.tokens_out / self.seconds


def build_prompts(count: int = 32) -> list[str]:
    """Questions over three paragraphs each, of different lengths."""
    facts = [tuple(word.replace("-", " ") for word in fact.split()) for fact in CITIES.replace("\n", "; ").split("; ")]
    chooser = random.Random(7)
    prompts = []
    for country, city, money in facts[:count]:
        others = chooser.sample([fact for fact in facts if fact[0] != country], chooser.choice((1, 2, 3)))
        paragraphs = [
            f"{c} is a country whose capital is {t}. People there pay with the {m}."
            for c, t, m in chooser.sample([(country, city, money), *others], len(others) + 1)
        ]
        prompts.append(f"{TEMPLATE}Paragraphs: {' '.join(paragraphs)}\nQuestion: With what do people pay in {city}?\nAnswer:")
    return prompts


def run_local(model: Local, prompts: list[str], *, together: bool) -> tuple[int, int, list[str]]:
    requests = [ModelRequest(prompt=prompt, sampling=Sampling(max_tokens=MAX_TOKENS)) for prompt in prompts]

    async def ask() -> list[ModelReply | Exception]:
        if together:
            return await model.complete_many(requests)
        return [await model.complete(request) for request in requests]

    replies = asyncio.run(ask())
    done = [reply for reply in replies if isinstance(reply, ModelReply)]
    if len(done) != len(prompts):
        raise SystemExit(f"a call failed: {next(reply for reply in replies if not isinstance(reply, ModelReply))}")
    return sum(r.tokens_in for r in done), sum(r.tokens_out for r in done), [r.text for r in done]


def run_generate(model: Any, tokenizer: Any, prompts: list[str]) -> tuple[int, int, list[str]]:
    ids = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    ends = [0, 1, 2]  # the tokens at which `Local` ends a text of this model
    out = model.generate(**ids, max_new_tokens=MAX_TOKENS, do_sample=False, eos_token_id=ends, pad_token_id=2)
    new = out[:, ids["input_ids"].shape[1] :].tolist()
    lengths = [next((i + 1 for i, token in enumerate(row) if token in ends), len(row)) for row in new]
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return int(ids["attention_mask"].sum()), sum(lengths), texts


def fresh(share: bool) -> Local:
    """A loaded model that has seen none of the prompts."""
    model = Local(share_prefixes=share)
    run_local(model, ["One two three."], together=False)
    return model


def measure(repeats: int, singles: int) -> tuple[list[Row], dict[str, float]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = prepare("smollm2-135m-instruct")
    prompts = build_prompts()
    started_s = time.monotonic()
    tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    reference: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, local_files_only=True)
    load_s = time.monotonic() - started_s
    _in_own_thread(lambda _: run_generate(reference, tokenizer, prompts[:2]), None)
    few = prompts[:singles]
    ways: list[tuple[str, int, Callable[[], Any], Callable[[Any], tuple[int, int, list[str]]]]] = [
        ("one at a time, nothing shared", len(few), lambda: fresh(False), lambda m: run_local(m, few, together=False)),
        ("one at a time", len(few), lambda: fresh(True), lambda m: run_local(m, few, together=False)),
        ("generate(), batch of 1", len(few), lambda: None, lambda m: _each(reference, tokenizer, few)),
        ("generate(), batch of 32", 32, lambda: None, lambda m: run_generate(reference, tokenizer, prompts)),
        ("32 in flight, nothing shared", 32, lambda: fresh(False), lambda m: run_local(m, prompts, together=True)),
        ("32 in flight", 32, lambda: fresh(True), lambda m: run_local(m, prompts, together=True)),
    ]
    best: dict[str, tuple[float, int, int]] = {}
    texts: dict[str, list[str]] = {}
    for _ in range(repeats):  # in turns, so that whatever else the machine does meets all ways alike
        for way, _, make, run in ways:
            seconds, (tokens_in, tokens_out, texts[way]) = _in_own_thread(run, make())
            best[way] = min(best.get(way, (seconds, tokens_in, tokens_out)), (seconds, tokens_in, tokens_out))
    rows: list[Row] = []
    for way, calls, _, _ in ways:
        seconds, tokens_in, tokens_out = best[way]
        rows.append(Row(way, calls, tokens_in, tokens_out, seconds, tokens_out / seconds / rows[0].rate if rows else 1.0))
    whole = texts["generate(), batch of 32"]
    facts = {"load_s": load_s} | {
        f"texts equal to generate(), {way}": sum(a == b for a, b in zip(found, whole, strict=False)) / len(found)
        for way, found in texts.items()
    }
    return rows, facts | _in_own_thread(_speeds, reference)[1]


def _in_own_thread(run: Callable[[Any], Any], model: Any) -> tuple[float, Any]:
    """Seconds and result. Torch never runs in the main thread here, so every way has OpenMP to itself."""

    def timed() -> tuple[float, Any]:
        started_s = time.monotonic()
        result = run(model)
        return time.monotonic() - started_s, result

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(timed).result()


def _each(model: Any, tokenizer: Any, prompts: list[str]) -> tuple[int, int, list[str]]:
    done = [run_generate(model, tokenizer, [prompt]) for prompt in prompts]
    return sum(d[0] for d in done), sum(d[1] for d in done), [d[2][0] for d in done]


def _speeds(model: Any) -> dict[str, float]:
    """Tokens per second of reading 200-token prompts and of decoding after them, at several batch sizes."""
    import torch

    found = {}
    with torch.inference_mode():
        for size in (1, 16, 32):
            tokens = torch.randint(10, 40_000, (size, 200), generator=torch.Generator().manual_seed(size))
            started_s = time.monotonic()
            out = model(tokens, use_cache=True, logits_to_keep=1)
            found[f"prefill tokens/s, batch of {size}"] = size * 200 / (time.monotonic() - started_s)
            started_s = time.monotonic()
            for _ in range(8):
                out = model(tokens[:, :1], past_key_values=out.past_key_values, use_cache=True)
            found[f"decode tokens/s, batch of {size}"] = size * 8 / (time.monotonic() - started_s)
    return found


def figures(rows: list[Row]) -> list[Figure]:
    rate = {row.way: row.rate for row in rows}
    return [
        Figure(key, f"tokens per second: {ours}, over {called}", rate[ours] / max(rate[way] for way in theirs), target, "higher")
        for key, ours, theirs, called, target in FIGURES
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way; the fastest counts")
    parser.add_argument("--singles", type=int, default=16, help="prompts of the ways that answer one at a time")
    parser.add_argument("--quick", action="store_true", help="one run, four prompts one at a time: a smoke test")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    settings = parser.parse_args(arguments)
    import torch

    rows, facts = measure(1, 4) if settings.quick else measure(settings.repeats, settings.singles)
    table = [asdict(row) | {"tokens_per_s": row.rate} for row in rows]
    about = {"model": "SmolLM2-135M-Instruct, bfloat16", "torch threads": torch.get_num_threads()}
    Found(figures(rows), COLUMNS, table, about | facts).show(as_json=settings.json)


if __name__ == "__main__":
    main()
