"""The leak guard: a proposal that copies an example's text into a prompt is dropped, and the reason is kept.

Texts are compared as words: NFKC, case folded, without punctuation and invisible characters; a Chinese or Japanese character is a word.

| part of the prompt | a leak is | of |
|---|---|---|
| instruction | eight words in a row of any column | any split |
| instruction | a whole input of four to seven words, a whole answer of one to seven | any split |
| demonstration | an example that is not of the training split | |
| demonstration | a whole system input, or eight words in a row of one, that no training example has | validation, test |
| demonstration's output | eight words in a row of any column, unless a training example or its own inputs have them | validation, test |

An answer is every text or number in a column that is no input of the system. No leak is what stands in the incumbent's
instruction, in the one that the system starts with or in an edit's own sentences; a word that instructions are written with ("yes",
"answer", "3"); an answer of many training examples (a label) or one that stands in many training inputs (a common word); and a
passage that a component read from its own corpus, even where an example quotes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from optimas_core.optimizers._compared_words import FORMAT_WORDS, Words, words_of
from optimas_core.optimizers._copied_words import RUN, RunIndex
from optimas_core.optimizers._edits import SENTENCES
from optimas_core.optimizers._proposal import Proposal
from optimas_core.system import Demonstration, Example, Prompt, Split

_INPUT_WORDS = 4
# An answer of so many training examples is a label …
_LABEL_EXAMPLES, _LABEL_SHARE = 3, 0.01
# … and what stands in so many training examples is a common word or a phrase of the task.
_COMMON_EXAMPLES, _COMMON_SHARE = 3, 0.05


@dataclass(frozen=True, slots=True)
class Dropped:
    """A proposal that the guard caught, and why in words that repeat nothing of the example."""

    proposal: Proposal
    reason: str

    def to_json(self) -> dict[str, Any]:
        shown = self.proposal
        return {
            "label": shown.label,
            "proposer": shown.proposer,
            "summary": shown.summary,
            "values": dict(shown.values),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class _Field:
    """One text of one example. `answer`: its column is no input of the system."""

    split: str
    example: Example
    answer: bool
    text: str

    @property
    def name(self) -> str:
        return f"{self.split} example {self.example.id!r}"


class LeakGuard:
    """Looks for text of the examples in proposed prompts. A pure function of the data and the proposal.

    Args:
        split: the run's data.
        inputs: the system's input fields; every other column counts as an answer.
    """

    def __init__(self, split: Split, inputs: Sequence[str]) -> None:
        self._inputs = frozenset(inputs)
        self._train_ids = frozenset(example.id for example in split.train)
        parts = (("training", split.train), ("validation", split.validation), ("test", split.test))
        self._fields = [item for name, examples in parts for example in examples for item in self._fields_of(name, example)]
        self._whole: dict[Words, list[int]] = {}
        self._runs = RunIndex(self._remembered())

    def split(self, proposals: Sequence[Proposal], incumbent: Prompt, start: Prompt) -> tuple[list[Proposal], list[Dropped]]:
        """(those without a leak, those with one); `start` is the prompt that the system begins with."""
        kept, dropped = [], []
        for proposal in proposals:
            reason = self.reason(Prompt.from_json(proposal.values[proposal.knob]), incumbent, start, proposal.sources)
            if reason is None:
                kept.append(proposal)
            else:
                dropped.append(Dropped(proposal, reason))
        return kept, dropped

    def reason(self, prompt: Prompt, incumbent: Prompt, start: Prompt, sources: Sequence[str] = ()) -> str | None:
        """What leaks into `prompt`, or None. `sources` are the examples its demonstrations are said to be of."""
        foreign = next((name for name in sources if name not in self._train_ids), None)
        if foreign is not None:
            return f"a demonstration is of example {foreign!r}, which is not in the training split"
        allowed = [words_of(text) for text in (incumbent.instruction, start.instruction, *SENTENCES.values())]
        found = self._in_instruction(words_of(prompt.instruction), allowed)
        if found:
            return f"the instruction copies {found}"
        known = (*incumbent.demonstrations, *start.demonstrations)
        found = next(filter(None, (self._in_demonstration(item) for item in prompt.demonstrations if item not in known)), None)
        return f"a demonstration shows {found}" if found else None

    def _in_instruction(self, words: Words, allowed: Sequence[Words]) -> str | None:
        """The first leak in reading order of the kinds: a run of words, then a whole short field."""
        for start, owners in self._runs.shared(words):
            run = words[start : start + RUN]
            if not any(_holds(text, run) for text in allowed) and not self._common(run, owners):
                return f"{RUN} words in a row of {self._fields[owners[0]].name}"
        for phrase in _phrases(words):
            owners = [i for i in self._whole.get(phrase, ()) if self._fields[i].answer or len(phrase) >= _INPUT_WORDS]
            if owners and not _plain(phrase) and not any(_holds(text, phrase) for text in allowed) and not self._common(phrase, owners):
                field = self._fields[owners[0]]
                return f"the {'answer' if field.answer else 'input'} of {field.name}"
        return None

    def _in_demonstration(self, item: Demonstration) -> str | None:
        """Text of a validation or test example that the component's own work on a training example cannot explain."""
        inputs = {name: words_of(" ".join(_leaves(value))) for name, value in item.inputs.items()}
        for name, words in inputs.items():
            if name in self._inputs and (whole := self._foreign(self._whole.get(words, ()), inputs_only=True)):
                return f"an input of {whole.name}"
        output = words_of(item.output)
        for words, inputs_only in (*((words, True) for words in inputs.values()), (output, False)):
            for start, owners in self._runs.shared(words):
                run = words[start : start + RUN]
                if not inputs_only and any(_holds(text, run) for text in inputs.values()):
                    continue
                if field := self._foreign(owners, inputs_only=inputs_only):
                    return f"{RUN} words in a row of {field.name}"
        return None

    def _foreign(self, owners: Sequence[int], *, inputs_only: bool) -> _Field | None:
        """The first validation or test field among the owners of a text, None where a training example has the text too."""
        fields = [self._fields[index] for index in owners]
        if any(field.split == "training" for field in fields):
            return None
        return next((field for field in fields if not (inputs_only and field.answer)), None)

    def _common(self, phrase: Words, owners: Sequence[int]) -> bool:
        """A label, or words that many training inputs hold."""
        training = len(self._train_ids)
        owned = {self._fields[index].example.id for index in owners if self._fields[index].split == "training"}
        if len(owned) >= max(_LABEL_EXAMPLES, _LABEL_SHARE * training):
            return True
        inputs = (field for field in self._fields if field.split == "training" and not field.answer)
        holding = {field.example.id for field in inputs if _holds(words_of(field.text), phrase)}
        return len(holding - owned) >= max(_COMMON_EXAMPLES, _COMMON_SHARE * training)

    def _remembered(self) -> Iterator[Words]:
        """The words of every field, once; short fields are kept whole on the way."""
        for index, field in enumerate(self._fields):
            words = words_of(field.text)
            if 0 < len(words) < RUN:
                self._whole.setdefault(words, []).append(index)
            yield words

    def _fields_of(self, split: str, example: Example) -> Iterator[_Field]:
        for column, value in example.fields.items():
            if isinstance(value, str | int) and str(value) == example.id:
                continue  # the column that names the example
            for text in _leaves(value):
                yield _Field(split, example, column not in self._inputs, text)


def _leaves(value: Any) -> Iterator[str]:
    """Every text and number in a field, the elements of lists and objects one by one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(_leaves, value.values()))
    elif isinstance(value, Sequence):
        yield from chain.from_iterable(map(_leaves, value))


def _phrases(words: Words) -> Iterator[Words]:
    """Every stretch of fewer than `RUN` words, the longest first."""
    for length in range(RUN - 1, 0, -1):
        for start in range(len(words) - length + 1):
            yield words[start : start + length]


def _plain(phrase: Words) -> bool:
    """Whether every word is one that instructions are written with, a letter, or a number of one or two digits."""
    return all(word in FORMAT_WORDS or len(word) == 1 or (word.isdigit() and len(word) <= 2) for word in phrase)


def _holds(text: Words, phrase: Words) -> bool:
    """Whether `phrase` stands in `text`, as whole words in a row."""
    return f" {' '.join(phrase)} " in f" {' '.join(text)} "
