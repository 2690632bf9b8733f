"""The leak guard: what counts as a copy of an example, what does not, and that a caught proposal is dropped with its reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimas_core.optimizers import LeakGuard, Proposal
from optimas_core.optimizers._compared_words import words_of
from optimas_core.optimizers._copied_words import RUN, RunIndex
from optimas_core.optimizers._edits import SENTENCES
from optimas_core.stages import (
    PreferenceRequest,
    ProposeRequest,
    StageContext,
    generate_preferences,
    load_project,
    make_proposals,
    open_run,
)
from optimas_core.stages._generate_preferences import read_dropped, read_proposals
from optimas_core.system import Demonstration, Example, Prompt, Split

START = Prompt("Answer the question in a few words.")
LONG = "The old stone bridge at Avignon was built in the twelfth century and half of it fell into the river."


def example(name: str, question: str, answer: Any, **more: Any) -> Example:
    return Example(name, {"id": name, "question": question, "answer": answer, **more})


def data() -> Split:
    """Forty training questions, of which every other one is answered with yes or no."""
    train = [example(f"t{n}", f"Does the colour of item {n} please the king?", "yes" if n % 4 else "no") for n in range(0, 40, 2)]
    train += [
        example(f"t{n}", f"Where did the town clerk number {n} live?", f"Upper Ashford {n}00", year=1000 + n) for n in range(1, 40, 2)
    ]
    train.append(example("t40", "Which bird is on the coin?", ["kestrel", "the Windhover Falcon"], source=LONG))
    validation = [
        example(
            "v0", "Which metal did the miners of Falun dig for through so many centuries?", "copper", note=LONG.replace("Avignon", "Falun")
        ),
        example("v1", "Who painted it?", "Zoë Ångström"),
        example("v2", "Is it so?", "yes"),
    ]
    return Split(tuple(train), tuple(validation), (example("s0", "Quelle heure est-il à présent, monsieur le curé de Cluny?", "noon"),))


@pytest.fixture(scope="module")
def guard() -> LeakGuard:
    return LeakGuard(data(), ["question"])


def told(guard: LeakGuard, instruction: str, incumbent: Prompt = START, **parts: Any) -> str | None:
    return guard.reason(Prompt(instruction, **parts), incumbent, START)


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("If a bird is asked for, write kestrel.", "the answer of training example 't40'"),
        ("If a bird is asked for, write KESTREL!", "the answer of training example 't40'"),
        ("A bird is **the   windhover\nfalcon**.", "the answer of training example 't40'"),
        ("A bird is the wind\u200bhover fal\u00adcon.", "the answer of training example 't40'"),
        ("Most lived in Upper Ashford 700.", "the answer of training example 't7'"),
        ("Years such as 1007 are fine.", "the answer of training example 't7'"),
        ("It is copper.", "the answer of validation example 'v0'"),
        ("By ZOE\u0308 A\u030angstro\u0308m.", "the answer of validation example 'v1'"),
        ("It is noon.", "the answer of test example 's0'"),
        ("Which bird is on the coin? Say it.", "the input of training example 't40'"),
        ("Know: old stone bridge at Avignon was built in the end.", "8 words in a row of training example 't40'"),
        ("Know: the miners of Falun dig for through so much.", "8 words in a row of validation example 'v0'"),
    ],
)  # fmt: skip
def test_an_instruction_that_copies_an_example_is_caught(guard: LeakGuard, instruction: str, reason: str) -> None:
    assert told(guard, instruction) == f"the instruction copies {reason}"


@pytest.mark.parametrize(
    "instruction",
    [
        "Answer yes or no.",
        "Say yes where the king is pleased by the colour of item and no where not.",
        "Give the place. Write 3 words at most, never more than 20.",
        "The answer is a bird, a place, a metal or a time of day.",
        "Write kestrels, not birds; coppery things are no metal; afternoon is no time.",
        "Name the old stone bridge at Avignon, built long before.",
        "",
        "Does the colour of item please the king? Then say so.",
    ],
)
def test_labels_format_words_parts_of_words_and_short_runs_are_no_leak(guard: LeakGuard, instruction: str) -> None:
    assert told(guard, instruction) is None


def test_what_the_incumbent_the_start_or_an_edit_says_is_no_leak() -> None:
    split = data()
    more = (example("t50", "What comes first?", "prologue"), example("t51", "What comes last?", "explanation"))
    guard = LeakGuard(Split((*split.train, *more), split.validation, split.test), ["question"])
    assert told(guard, "Leave the prologue out.") is not None
    assert told(guard, "Leave the prologue out.", Prompt("No prologue.")) is None
    assert guard.reason(Prompt("No prologue."), START, Prompt("Prologue first.")) is None
    assert all(told(guard, f"{START.instruction} {sentence}") is None for sentence in SENTENCES.values())


def test_a_label_is_told_from_a_leak_by_how_many_training_examples_have_it() -> None:
    def guard_of(count: int) -> LeakGuard:
        train = tuple(example(f"t{n}", f"What of {n}?", "gothic" if n < count else f"style{n}") for n in range(60))
        return LeakGuard(Split(train, (example("v", "What of v?", "x1"),), (example("s", "What of s?", "x2"),)), ["question"])

    assert told(guard_of(2), "Write gothic.") is not None
    assert told(guard_of(3), "Write gothic.") is None


def test_a_word_of_many_training_inputs_is_common() -> None:
    def guard_of(count: int) -> LeakGuard:
        train = tuple(example(f"t{n}", f"A river of {n}?" if n < count else f"What of {n}?", f"a{n}") for n in range(40))
        split = Split(train, (example("v", "Which one of them is it?", "river"),), (example("s", "What of s?", "x2"),))
        return LeakGuard(split, ["question"])

    assert told(guard_of(2), "Name the river.") is not None
    assert told(guard_of(3), "Name the river.") is None


def shown(inputs: dict[str, Any], output: str) -> dict[str, Any]:
    return {"demonstrations": (Demonstration(inputs, output),)}


def test_demonstrations_of_training_examples_are_no_leak(guard: LeakGuard) -> None:
    own = shown({"question": "Which bird is on the coin?", "context": LONG}, "kestrel")
    assert told(guard, START.instruction, **own) is None
    # A passage that the retriever found, though a validation example quotes it in a column of its own.
    passage = shown({"question": "Which bird is on the coin?", "context": [LONG.replace("Avignon", "Falun")]}, "copper")
    assert told(guard, START.instruction, **passage) is None
    copied = shown(
        {"question": "Which bird is on the coin?", "context": LONG.replace("Avignon", "Falun")}, LONG.replace("Avignon", "Falun")
    )
    assert told(guard, START.instruction, **copied) is None, "the output repeats its own input"


@pytest.mark.parametrize(
    ("inputs", "output", "reason"),
    [
        ({"question": "Who painted it?"}, "x", "an input of validation example 'v1'"),
        ({"question": "who PAINTED it"}, "x", "an input of validation example 'v1'"),
        ({"question": "Hm, which metal did the miners of Falun dig for?"}, "x", "8 words in a row of validation example 'v0'"),
        ({"context": "He asked: quelle heure est-il à présent, monsieur le curé?"}, "x", "8 words in a row of test example 's0'"),
        ({"question": "Which bird is on the coin?"}, LONG.replace("Avignon", "Falun"), "8 words in a row of validation example 'v0'"),
    ],
)
def test_demonstrations_never_show_validation_or_test_examples(guard: LeakGuard, inputs: dict[str, Any], output: str, reason: str) -> None:
    assert told(guard, START.instruction, **shown(inputs, output)) == f"a demonstration shows {reason}"
    already = Prompt("", "chat", shown(inputs, output)["demonstrations"])
    assert told(guard, "Be brief.", already, **shown(inputs, output)) is None, "it was there before"


def test_a_demonstration_must_be_of_a_training_example(guard: LeakGuard) -> None:
    prompt = Prompt("", "chat", (Demonstration({"question": "Anything else?"}, "x"),))
    assert guard.reason(prompt, START, START, ("t0", "v1")) == "a demonstration is of example 'v1', which is not in the training split"
    assert guard.reason(prompt, START, START, ("t0", "t40")) is None


@given(st.integers(0, 60), st.integers(RUN, 30), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_copied_run_is_found_and_nothing_else(place: int, length: int, seed: int) -> None:
    """Against the plain definition: all stretches of eight words that two texts share."""
    import random

    rng = random.Random(seed)
    texts = [[rng.choice("abcdefghij") * 3 for _ in range(rng.randint(0, 80))] for _ in range(6)]
    probe = [rng.choice("abcdefghijk") * 3 for _ in range(50)]
    probe[place : place + length] = rng.choice(texts)[place : place + length]
    expected = {
        start: [
            i for i, text in enumerate(texts) if any(text[at : at + RUN] == probe[start : start + RUN] for at in range(len(text) - RUN + 1))
        ]
        for start in range(len(probe) - RUN + 1)
    }
    assert dict(RunIndex(texts).shared(probe)) == {start: found for start, found in expected.items() if found}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Jean-Paul's U.S. flag, 1,945", ("jean", "paul", "s", "u", "s", "flag", "1", "945")),
        ("ＦＵＬＬ width ﬁre", ("full", "width", "fire")),
        ("東京 tower", ("東", "京", "tower")),
        ("किताब", ("कतब",)),
        ("\ud800 a\x00b \u202ec", ("a", "b", "c")),
        ("", ()),
    ],
)
def test_words_as_they_are_compared(text: str, words: tuple[str, ...]) -> None:
    assert words_of(text) == words


# Inside the stage: dropped, with the reason, and only when asked for


REPLY = "<instruction>\nName the colour, as green{}.\n</instruction>"


@pytest.fixture
def proposed(scripted_project: Callable[..., Path]) -> Callable[..., tuple[StageContext, str]]:
    def run(answer: Any, folder: str = "project", **optimizers: Any) -> tuple[StageContext, str]:
        context = open_run(load_project(scripted_project(folder, optimizers={"candidates": 2, **optimizers})))
        client = context.system.components["answerer"].clients[0]
        plain = client._player._script
        leaked = REPLY.format(str(getattr(context.split, answer)[0].fields["answer"]).removeprefix("green"))
        asks = "You improve the instruction"
        client._player._script = lambda request, n: (
            leaked if request.messages and request.messages[-1].content.startswith(asks) else plain(request, n)
        )
        start = context.run.put_configuration(context.system.configuration.to_json())
        ids = tuple(item.id for item in context.split.train[:8])
        first = asyncio.run(generate_preferences(context, PreferenceRequest(0, ("answerer",), start, ids)))
        return context, asyncio.run(make_proposals(context, ProposeRequest(1, "answerer", "prompt", start, (first,))))

    return run


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_caught_proposal_is_dropped_and_its_reason_kept(proposed: Callable[..., tuple[StageContext, str]], part: str) -> None:
    context, name = proposed(part)
    assert {item.proposer for item in read_proposals(context, name)} == {"demonstrations", "edits"}
    (caught,) = read_dropped(context, name)
    split = {"train": "training"}.get(part, part)
    assert caught["reason"] == f"the instruction copies the answer of {split} example {getattr(context.split, part)[0].id!r}"
    assert caught["proposer"] == "opro" and caught["label"].startswith("opro:") and "green" in json.dumps(caught["values"])


def test_without_the_guard_it_is_a_candidate(proposed: Callable[..., tuple[StageContext, str]]) -> None:
    context, name = proposed("train", leak_guard=False)
    assert "opro" in {item.proposer for item in read_proposals(context, name)} and read_dropped(context, name) == []


def test_nothing_of_the_example_stands_in_the_reason(guard: LeakGuard) -> None:
    proposal = Proposal("answerer", "prompt", {"prompt": Prompt("It is copper.").to_json()}, "opro", "written")
    kept, dropped = guard.split([proposal], START, START)
    assert kept == [] and "copper" not in dropped[0].reason
