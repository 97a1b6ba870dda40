"""Sentences, chunks and noun phrases of an instruction, by closed word lists.

Promise: `sentences` loses no word outside parentheses; `noun_phrase` says what thing the words from
a position on name, and where the phrase ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from antcache.teacher.corpus import vocabulary as voc
from antcache.teacher.corpus.words import singular

TOKEN = re.compile(
    r"[~<>]?\d[\d.,/\u2013-]*\d[^\W\d_]*|\d+[^\W\d_]*|[½¼¾⅓⅔⅛]|[^\W\d_]+(?:['\u2019-][^\W\d_]+)*|[^\w\s]"
)
ABBREVIATION = re.compile(
    r"\b(tbsp|tsp|tbs|oz|lbs?|min|mins|hrs?|approx|deg|pkg|qt|pt|etc|vs|ca)\.", re.IGNORECASE
)
LATIN = re.compile(r"\b(e\.g\.|i\.e\.|eg\.|ie\.)", re.IGNORECASE)
PARENTHESES = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]")
ENDS = re.compile(r"[.!?;:](?=\s|$|[^\W\d_])|\n|\s[-\u2013\u2014]\s(?!\d)|\u2014")
LABEL = re.compile(r"^\s*(?:\(?optional\)?[:,]?|step\s*\d+[.:)]?|\d+\s*[.)])\s*", re.IGNORECASE)


NOT_PRONOUNS = voc.SUBJECTS - voc.PRONOUNS
NO_ADVERBS = ("jelly", "belly", "curly", "apply", "fly", "holy", "oily", "early", "bubbly")


class Phrase(NamedTuple):
    """A noun phrase: what it names (None: nothing), whether a pronoun does, where it ends."""

    thing: str | None
    pronoun: bool
    end: int


class Chunk(NamedTuple):
    """Words between commas and conjunctions, and what stood before them: `,` `and` `then` ..."""

    before: frozenset[str]
    words: list[str]


def split_sentences(text: str) -> list[str]:
    """The sentences of a text; what stands in parentheses comes after."""
    plain = LABEL.sub("", LATIN.sub("such as", ABBREVIATION.sub(r"\1", text)))
    asides = [a or b for a, b in PARENTHESES.findall(plain)]
    parts = ENDS.split(PARENTHESES.sub(" ", plain)) + [p for a in asides for p in ENDS.split(a)]
    return [sentence for part in parts if (sentence := part.strip())]


def sentences(text: str) -> list[list[str]]:
    """The sentences of a text as lower-case tokens, in the order of `split_sentences`."""
    return [tokens for part in split_sentences(text) if (tokens := TOKEN.findall(part.lower()))]


def chunks(tokens: Sequence[str]) -> list[Chunk]:
    """A sentence cut at commas, conjunctions and `then`."""
    found: list[Chunk] = []
    before: set[str] = set()
    words: list[str] = []
    for token in tokens:
        if token == "," or token in voc.CONNECTORS:
            if words:
                found.append(Chunk(frozenset(before), words))
                before, words = set(), []
            before.add(token)
        elif token[0].isalnum() or token in "½¼¾⅓⅔⅛" or token[0] in "~<>":
            words.append(token)
    if words:
        found.append(Chunk(frozenset(before), words))
    return found


def is_number(word: str) -> bool:
    """Whether a token counts: `2`, `1/2`, `64oz`."""
    return bool(word) and not word[0].isalpha()


def starts_phrase(word: str) -> bool:
    """Whether a word can only open an object: a determiner, a number, a pronoun."""
    return word in voc.DETERMINERS or word in voc.PRONOUNS or word in voc.NUMBERS or is_number(word)


def stops_phrase(word: str) -> bool:
    """Whether a word can't be inside a noun phrase."""
    return (
        word in voc.PREPOSITIONS
        or word in voc.SUBORDINATORS
        or word in voc.PARTICLES
        or word in voc.ADVERBS
        or word in voc.BE
        or word in NOT_PRONOUNS
        or word.replace("\u2019", "'").endswith(("'re", "'ve", "'ll", "n't", "'d", "'m"))
        or (word.endswith("ly") and word not in NO_ADVERBS)
    )


def noun_phrase(words: Sequence[str], start: int, nouns: frozenset[str]) -> Phrase:
    """The thing that `words[start:]` begins with.

    Args:
        words: of a chunk.
        start: where the phrase begins.
        nouns: known names, which may consist of several words.
    """
    named: list[str] = []
    i = start
    while i < len(words):
        word = words[i]
        if word in voc.PRONOUNS and not named and _ends(words, i + 1):
            return Phrase(None, True, i + 1)
        if word == "of" and named and singular(named[-1]) in voc.MEASURES:
            named, i = [], i + 1
        elif word == "of" and i > start and not named:
            i += 1
        elif named and (word in voc.DETERMINERS or word in voc.PRONOUNS):
            break
        elif is_number(word):
            if named and singular(named[-1]) not in voc.MEASURES:
                break
            i += 1
        elif word in voc.DETERMINERS or (not named and word in voc.AMOUNTS):
            i += 1
        elif (
            word == "of"
            or (stops_phrase(word) and (named or not _is_manner(words, i)))
            or (named and _participle(words, i, nouns))
        ):
            break
        else:
            named.append(word)
            i += 1
    return Phrase(_name(named, nouns), False, i)


def _ends(words: Sequence[str], i: int) -> bool:
    """Whether a pronoun before `i` stands alone: `this` and `that` may also open a phrase."""
    return words[i - 1] in ("it", "them", "they") or i >= len(words) or stops_phrase(words[i])


def _participle(words: Sequence[str], i: int, nouns: frozenset[str]) -> bool:
    """`soaking` in "the bread soaking it": what follows shows that it is no part of a name."""
    word, after = words[i], words[i + 1] if i + 1 < len(words) else ""
    if not word.endswith("ing") or word in nouns or singular(word) in voc.THINGS_IN_ING:
        return False
    return starts_phrase(after) or after in voc.PREPOSITIONS


def _is_manner(words: Sequence[str], i: int) -> bool:
    """`finely` in "the finely chopped onion": an adverb inside the phrase."""
    return words[i].endswith("ly") and i + 1 < len(words) and words[i + 1].endswith(("ed", "t"))


def _name(named: list[str], nouns: frozenset[str]) -> str | None:
    """What the words of a phrase name: head noun, with the modifiers that belong to its name."""
    while named and _describes(named[-1]) and singular(named[-1]) not in nouns:
        named = named[:-1]
    while len(named) > 1 and singular(named[0]) in voc.MEASURES and named[0] not in nouns:
        named = named[1:]
    if not named:
        return None
    head = singular(named[-1])
    if head in voc.TIMES or (len(named) == 1 and head in voc.NAMELESS):
        return None
    name = [head]
    for word in reversed(named[:-1]):
        fixed = (word, name[0]) in voc.NAMES or f"{word} {' '.join(name)}" in nouns
        if not fixed and (_describes(word) or singular(word) in voc.MEASURES):
            break
        name.insert(0, singular(word))
    return " ".join(name)


def _describes(word: str) -> bool:
    if word in voc.ADJECTIVES or word in voc.LOOSE_GERUNDS or word in voc.AMOUNTS:
        return True
    return word.endswith(("ed", "'s", "\u2019s")) and not word.endswith(("eed", "bread"))
