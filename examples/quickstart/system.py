"""The quickstart's compound system: questions over a small corpus, answered by a language model of 135 million parameters.

question -> rewriter (LLM) -> retriever (BM25, k) -> selector (sentences) -> answerer (LLM) -> answer
"""

import json
from pathlib import Path

from optimas_core import CompoundSystem, Local, NumberGrid, PromptSpace, component, llm
from optimas_core.metrics import token_f1

CORPUS = Path(__file__).parent / "data" / "corpus.jsonl"


class Retriever:
    """BM25 over the corpus, built on first use."""

    def __init__(self, path: Path) -> None:
        self.paragraphs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        self._index = None

    def __call__(self, question: str, query: str, k: int = 3) -> list[str]:
        import bm25s

        if self._index is None:
            texts = [f"{item['title']}. {item['text']}" for item in self.paragraphs]
            index = bm25s.BM25()
            index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
            self._index = index
        tokens = bm25s.tokenize([f"{question} {query}"], stopwords="en", show_progress=False)
        found, _ = self._index.retrieve(tokens, k=k, show_progress=False)
        return [self.paragraphs[i]["text"] for i in found[0]]


def select_sentences(question: str, passages: list[str], sentences: int = 2) -> str:
    """Keep the sentences that share most words with the question, best first."""
    wanted = {word.strip(".,?!").lower() for word in question.split() if len(word) > 3}
    parts = [part.strip() for text in passages for part in text.replace(". ", ".\n").splitlines()]
    overlap = [sum(word.strip(".,?!").lower() in wanted for word in part.split()) for part in parts]
    ranked = sorted(range(len(parts)), key=lambda i: (-overlap[i], i))[:sentences]
    return " ".join(parts[i] for i in sorted(ranked))


def f1(example, outputs):
    return token_f1(outputs["answer"] or "", example["answer"])


def build() -> CompoundSystem:
    small = Local("smollm2-135m-instruct")
    rewriter = llm(
        "rewriter",
        inputs=["question"],
        output="query",
        model=small,
        max_tokens=16,
        single_line=True,
        prompt="List the key words to search for, separated by spaces.",
        space={"prompt": PromptSpace(), "max_tokens": NumberGrid(8, 16)},
    )
    retriever = component(Retriever(CORPUS), name="retriever", outputs="passages", space={"k": NumberGrid(1, 2, 3, 5)})
    selector = component(select_sentences, name="selector", outputs="context", space={"sentences": NumberGrid(1, 2, 3, 6, 12)})
    answerer = llm(
        "answerer",
        inputs=["context", "question"],
        output="answer",
        model=small,
        max_tokens=24,
        single_line=True,
        prompt="Answer the question from the context. Give only the answer, in a few words.",
        space={"prompt": PromptSpace()},
    )
    return CompoundSystem([rewriter, retriever, selector, answerer], outputs=["answer"], metric=f1, name="quickstart")
