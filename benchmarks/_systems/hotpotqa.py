"""HotpotQA's compound system (the paper's Appendix C) on the embedded model, and a short form of it.

    question -> rewriter (LLM), extractor (LLM) -> retriever (BM25, k) -> hinter (LLM) -> answerer (LLM) -> answer

The corpus is the 600 paragraphs that the 60 questions of hotpotqa_distractor.jsonl.gz come with; both gold paragraphs of a
question are always among them. The retriever searches with the question and with what the two first components wrote.

Characters of passages given to a language model are capped, because long contexts are what a small model on two cores pays
for: each passage is cut to `PASSAGE_CHARS`, and all k share `ALL_CHARS` equally. So k = 1 gives 400 characters of one
passage, k = 5 gives 240 of each, k = 10 gives 120 and k = 25 gives 48 (a title and a few words): a larger k trades depth for
breadth. The paper gives whole passages to a large model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimas_core import CompoundSystem, Local, NumberGrid, PromptSpace, component, llm
from optimas_core.errors import DataError, EnvironmentNotReady
from optimas_core.metrics import token_f1
from optimas_core.system import Example, read_examples

FILE = "hotpotqa_distractor.jsonl.gz"
PASSAGE_CHARS = 400
ALL_CHARS = 1200
MODEL = "smollm2-135m-instruct"


def data_file() -> Path:
    """The questions' file below OPTIMAS_DATA.

    Raises:
        EnvironmentNotReady: the variable is not set.
        DataError: the directory has no such file.
    """
    where = os.environ.get("OPTIMAS_DATA")
    if not where:
        raise EnvironmentNotReady(
            "OPTIMAS_DATA is not set.", remedy=f"Set it to a directory that holds {FILE} (60 questions of HotpotQA, distractor setting)."
        )
    path = Path(where).resolve() / FILE
    if not path.is_file():
        raise DataError(f"{path} does not exist.", remedy=f"Set OPTIMAS_DATA to a directory that holds {FILE}.")
    return path


def read_questions(path: Path) -> tuple[Example, ...]:
    """All questions, in the file's order.

    Raises:
        DataError: the file cannot be read, or a row lacks question, answer or context.
    """
    examples = read_examples(str(path), base=path.parent)
    for example in examples:
        for column in ("question", "answer", "context"):
            if column not in example.fields:
                raise DataError(f"{path}: question {example.id!r} has no column {column!r}.", remedy="Give the file as HotpotQA has it.")
    return examples


def paragraphs(examples: Sequence[Example]) -> list[dict[str, str]]:
    """Every paragraph of every question once, by title, in the order of first appearance."""
    found: dict[str, str] = {}
    for example in examples:
        context = example.fields["context"]
        for title, sentences in zip(context["title"], context["sentences"], strict=True):
            found.setdefault(title, "".join(sentences).strip())
    return [{"title": title, "text": text} for title, text in found.items()]


def capped(texts: Sequence[str]) -> list[str]:
    """Each text cut to `PASSAGE_CHARS`, and to an equal share of `ALL_CHARS`."""
    each = min(PASSAGE_CHARS, ALL_CHARS // max(1, len(texts)))
    return [text[:each] for text in texts]


class Retriever:
    """BM25 over the paragraphs, built on first use; passages come capped, best first."""

    def __init__(self, documents: Sequence[Mapping[str, str]]) -> None:
        self.documents = [dict(item) for item in documents]
        self._index: Any = None

    def __call__(self, question: str, query: str = "", entities: str = "", k: int = 5) -> list[str]:
        import bm25s

        if self._index is None:
            index = bm25s.BM25()
            texts = [f"{item['title']}. {item['text']}" for item in self.documents]
            index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
            self._index = index
        tokens = bm25s.tokenize([f"{question} {query} {entities}"], stopwords="en", show_progress=False)
        found, _ = self._index.retrieve(tokens, k=min(k, len(self.documents)), show_progress=False)
        return capped([f"{self.documents[i]['title']}: {self.documents[i]['text']}" for i in found[0]])


def f1(example: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    """Token F1 against the expected answer."""
    return token_f1(outputs["answer"] or "", example["answer"])


def build() -> CompoundSystem:
    """The paper's five components: four prompts and k in {1, 5, 10, 25}."""
    small = Local(MODEL)
    rewriter = llm(
        "rewriter", inputs=["question"], output="query", model=small, max_tokens=24, single_line=True,
        prompt="Rewrite the question as a short search query.", space={"prompt": PromptSpace()},
    )  # fmt: skip
    extractor = llm(
        "extractor", inputs=["question"], output="entities", model=small, max_tokens=24, single_line=True,
        prompt="List the names of people, places and works in the question.", space={"prompt": PromptSpace()},
    )  # fmt: skip
    hinter = llm(
        "hinter", inputs=["passages", "question"], output="hint", model=small, max_tokens=32, single_line=True,
        prompt="Write one sentence from the passages that helps to answer the question.", space={"prompt": PromptSpace()},
    )  # fmt: skip
    return CompoundSystem(
        [rewriter, extractor, _retriever(), hinter, _answerer(small, ["passages", "hint", "question"])],
        outputs=["answer"],
        metric=f1,
        name="hotpotqa",
    )


def build_short() -> CompoundSystem:
    """Retriever and answerer only: the part of the system that `benchmarks/alignment.py` measures."""
    return CompoundSystem(
        [_retriever(), _answerer(Local(MODEL), ["passages", "question"])], outputs=["answer"], metric=f1, name="hotpotqa-short"
    )


def _retriever() -> Any:
    documents = paragraphs(read_questions(data_file()))
    return component(Retriever(documents), name="retriever", outputs="passages", space={"k": NumberGrid(1, 5, 10, 25)})


def _answerer(model: Local, inputs: Sequence[str]) -> Any:
    return llm(
        "answerer", inputs=inputs, output="answer", model=model, max_tokens=24, single_line=True,
        prompt="Answer the question from the passages. Give only the answer, in a few words.", space={"prompt": PromptSpace()},
    )  # fmt: skip
