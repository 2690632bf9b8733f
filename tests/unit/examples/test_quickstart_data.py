"""Checks on the data of the quickstart example (standard library only)."""

import json
import re
from pathlib import Path

DATA = Path(__file__).resolve().parents[3] / "examples/quickstart/data"

MIN_PARAGRAPHS = 120
MIN_QUESTIONS = 200
PARAGRAPH_WORDS = (30, 75)
ANSWER_WORDS = (1, 4)
MAX_COPIED_RUN = 5  # longest run of words a question may share with its answer paragraph
SUPPORTS = {"lookup": 1, "multihop": 2}
COMMON = {
    "about",
    "after",
    "also",
    "been",
    "called",
    "does",
    "first",
    "from",
    "have",
    "into",
    "kind",
    "long",
    "name",
    "named",
    "names",
    "that",
    "their",
    "there",
    "these",
    "they",
    "this",
    "town",
    "city",
    "used",
    "were",
    "what",
    "when",
    "where",
    "which",
    "while",
    "whom",
    "whose",
    "with",
}


def load(name):
    rows = []
    for number, line in enumerate((DATA / name).read_text(encoding="utf-8").splitlines(), 1):
        assert line.strip(), f"{name}:{number}: empty line"
        rows.append(json.loads(line))
    return rows


CORPUS = load("corpus.jsonl")
QUESTIONS = load("questions.jsonl")
BY_ID = {p["id"]: p for p in CORPUS}


def words(text):
    return re.findall(r"\w+", text.lower())


def content_words(text):
    return {w for w in words(text) if len(w) > 3 and w not in COMMON}


def occurs(needle, text):
    """True if needle is in text, not as a part of a longer word."""
    return re.search(r"(?<!\w)" + re.escape(needle) + r"(?!\w)", text) is not None


def bare_title(paragraph):
    return re.sub(r" \(.*\)$", "", paragraph["title"])


def longest_shared_run(a, b):
    a, b = words(a), " " + " ".join(words(b)) + " "
    best = 0
    for start in range(len(a)):
        while start + best < len(a) and " " + " ".join(a[start : start + best + 1]) + " " in b:
            best += 1
    return best


def failures(rows, ok):
    return [r["id"] for r in rows if not ok(r)]


def duplicates(values):
    values = list(values)
    return sorted({v for v in values if values.count(v) > 1})


def test_counts():
    assert len(CORPUS) >= MIN_PARAGRAPHS
    assert len(QUESTIONS) >= MIN_QUESTIONS
    kinds = [q["kind"] for q in QUESTIONS]
    assert kinds.count("lookup") >= 150
    assert kinds.count("multihop") >= 60


def test_fields():
    for p in CORPUS:
        assert set(p) == {"id", "title", "text"}, p["id"]
        assert re.fullmatch(r"p\d{3}", p["id"]), p["id"]
    for q in QUESTIONS:
        assert set(q) == {"id", "question", "answer", "kind", "support"}, q["id"]
        assert re.fullmatch(r"q\d{3}", q["id"]), q["id"]
        assert isinstance(q["support"], list), q["id"]
    for row in CORPUS + QUESTIONS:
        for field, value in row.items():
            if field != "support":
                where = (row["id"], field)
                assert isinstance(value, str) and value, where
                assert value == " ".join(value.split()), where


def test_unique():
    assert duplicates(p["id"] for p in CORPUS) == []
    assert duplicates(p["title"].lower() for p in CORPUS) == []
    assert duplicates(p["text"] for p in CORPUS) == []
    assert duplicates(q["id"] for q in QUESTIONS) == []
    assert duplicates(" ".join(words(q["question"])) for q in QUESTIONS) == []


def test_same_fact_is_not_asked_twice_in_one_way():
    """The same support and answer may come back only with mostly different words."""
    for i, a in enumerate(QUESTIONS):
        for b in QUESTIONS[i + 1 :]:
            if (a["support"], a["answer"]) == (b["support"], b["answer"]):
                x, y = content_words(a["question"]), content_words(b["question"])
                assert len(x & y) <= 0.5 * len(x | y), (a["id"], b["id"])


def test_paragraph_length():
    low, high = PARAGRAPH_WORDS
    assert failures(CORPUS, lambda p: low <= len(p["text"].split()) <= high) == []


def test_kinds_and_supports():
    assert failures(QUESTIONS, lambda q: len(q["support"]) == SUPPORTS.get(q["kind"], -1)) == []
    assert failures(QUESTIONS, lambda q: all(s in BY_ID for s in q["support"])) == []
    assert failures(QUESTIONS, lambda q: len(set(q["support"])) == len(q["support"])) == []


def test_every_paragraph_is_used():
    used = {s for q in QUESTIONS for s in q["support"]}
    assert sorted(set(BY_ID) - used) == []


def test_answer_is_short():
    low, high = ANSWER_WORDS
    assert failures(QUESTIONS, lambda q: low <= len(q["answer"].split()) <= high) == []
    assert failures(QUESTIONS, lambda q: q["answer"].lower() not in ("yes", "no")) == []


def test_answer_is_in_the_last_support():
    assert failures(QUESTIONS, lambda q: occurs(q["answer"], BY_ID[q["support"][-1]]["text"])) == []


def test_answer_is_not_in_the_question():
    assert failures(QUESTIONS, lambda q: not occurs(q["answer"].lower(), q["question"].lower())) == []


def test_questions_are_questions():
    assert failures(QUESTIONS, lambda q: q["question"].endswith("?")) == []


def test_question_shares_words_with_its_first_paragraph():
    def ok(q):
        first = BY_ID[q["support"][0]]
        return content_words(q["question"]) & content_words(first["title"] + " " + first["text"])

    assert failures(QUESTIONS, ok) == []


def test_question_does_not_copy_its_paragraphs():
    def ok(q):
        texts = [BY_ID[s]["text"] for s in q["support"]]
        return all(longest_shared_run(q["question"], t) <= MAX_COPIED_RUN for t in texts)

    assert failures(QUESTIONS, ok) == []


def test_multihop_needs_both_paragraphs():
    multihop = [q for q in QUESTIONS if q["kind"] == "multihop"]

    def answer_not_in_bridge(q):
        first = BY_ID[q["support"][0]]
        return not occurs(q["answer"].lower(), (first["title"] + " " + first["text"]).lower())

    def target_not_named(q):
        return not occurs(bare_title(BY_ID[q["support"][1]]).lower(), q["question"].lower())

    assert failures(multihop, answer_not_in_bridge) == []
    assert failures(multihop, target_not_named) == []
