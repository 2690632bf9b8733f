"""Metrics that most systems need; any function of (example, outputs) serves as well."""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized_tokens(text: str) -> list[str]:
    """Lower case, without punctuation and English articles, split at white space (as SQuAD and HotpotQA score)."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def token_f1(predicted: str, expected: str) -> float:
    """Harmonic mean of token precision and recall, in [0, 1]; 1.0 where both are empty."""
    left, right = normalized_tokens(predicted), normalized_tokens(expected)
    if not left or not right:
        return float(left == right)
    shared = sum((Counter(left) & Counter(right)).values())
    return 2 * shared / (len(left) + len(right))


def exact_match(predicted: str, expected: str) -> float:
    """1.0 where the normalized tokens are equal."""
    return float(normalized_tokens(predicted) == normalized_tokens(expected))


def choice_in(text: str, options: tuple[str, ...]) -> str | None:
    """The option a reply settles on: the last one that stands as a whole word, so that "no" in "diagnosis" is none.

    "The diagnosis is supported. Answer: yes" gives "yes".
    """
    longest_first = sorted(options, key=len, reverse=True)  # "very good" before "very"
    pattern = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, longest_first)) + r")(?!\w)", re.IGNORECASE)
    found = pattern.findall(text)
    return next((option for option in options if found and option.lower() == found[-1].lower()), None)
