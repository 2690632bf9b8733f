"""Texts as words, the way the leak guard compares them; and the words that instructions are written with."""

from __future__ import annotations

import functools
import re
import unicodedata

Words = tuple[str, ...]

# A Chinese or Japanese character is a word of its own: nothing separates words there.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")

_INSTRUCTING = """
a about above after all also always an and any are as ask at be because before begin below best better both brief briefly but by can
carefully check choose clear clearly complete concise consider context correct describe details directly do each eight either else end
enough every exact exactly example examples explain explanation extra fact facts false few field fields final find first five focus follow
for format four from full give given good have help how if important in include indicate input instruction instructions into is it item
items its json just key keys last letter like line lines list long make many may maybe more most must name names neither never new next
nine no none nor not nothing now null number numbers of on once one only option options or order other out output over passage passages
phrase please possible precise precisely prompt provide question questions read reason repeat reply request required response result
return right same say score second select sentence sentences separate seven short should show simple single six so some start state step
steps stop summary support sure task tell ten text than that the their them then there these they thing things think this three time to
true try two unknown until up use used using value values very want was way well what when where whether which who why will with without
word words write wrong yes yet you your
"""
FORMAT_WORDS = frozenset(_INSTRUCTING.split())
"""An answer made of these alone gives nothing away."""


def words_of(text: str) -> Words:
    """The words of a text as they are compared."""
    if text.isascii():
        return tuple(_WORD.findall(text.lower()))
    return tuple(_WORD.findall("".join(map(_seen, unicodedata.normalize("NFKC", text).casefold()))))


@functools.lru_cache(maxsize=4096)
def _seen(character: str) -> str:
    """Nothing for what joins a word without being a letter: an invisible character, an accent or vowel sign of its own."""
    return "" if unicodedata.category(character) in ("Cf", "Mn", "Mc", "Me") else character
