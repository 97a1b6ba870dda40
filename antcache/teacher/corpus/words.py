"""Word lists of a dataset as plain English, and English inflection by rule.

Promise: `board:cutting` reads `cutting board` and `turn-on` reads `turn on`; `singular` and
`base_form` are pure functions that know regular English and a few irregular words.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from antcache.annotations import Taxonomy
from antcache.annotations.files import first_of, read_table
from antcache.errors import BadAnnotations, NotFound

CLASS_FILES = (
    ("verb", (("EPIC_verb_classes.csv", "verbs"), ("EPIC_100_verb_classes.csv", "instances"))),
    ("noun", (("EPIC_noun_classes.csv", "nouns"), ("EPIC_100_noun_classes.csv", "instances"))),
)
"""Class files of EPIC-KITCHENS-55 and -100 by kind, each with the column that lists the words."""

VOWELS = "aeiou"
IRREGULAR = {
    "leaves": "leaf",
    "loaves": "loaf",
    "knives": "knife",
    "halves": "half",
    "calves": "calf",
    "shelves": "shelf",
    "children": "child",
    "feet": "foot",
    "geese": "goose",
    "teeth": "tooth",
    "chilies": "chili",
    "chillies": "chilli",
    "chiles": "chile",
    "cookies": "cookie",
    "brownies": "brownie",
    "smoothies": "smoothie",
    "veggies": "veggie",
    "pies": "pie",
    "tortillas": "tortilla",
    "radishes": "radish",
    "shoes": "shoe",
    "toes": "toe",
    "raviolis": "ravioli",
    "chilis": "chili",
    "zucchinis": "zucchini",
    "avocadoes": "avocado",
}
SAME = ("scissors", "tongs", "molasses", "oats", "grits")


@dataclass(frozen=True, kw_only=True)
class WordLists:
    """Verbs and nouns as words, lower case, blanks inside: `turn on`, `cutting board`."""

    verbs: frozenset[str]
    nouns: frozenset[str]

    @classmethod
    def of(cls, verbs: Iterable[str], nouns: Iterable[str]) -> WordLists:
        """Lists from names as datasets write them."""
        return cls(
            verbs=frozenset(filter(None, map(plain_verb, verbs))),
            nouns=frozenset(filter(None, map(plain_noun, nouns))),
        )


def plain_verb(name: str) -> str:
    """A verb as English: `turn-on` is `turn on`, and `Inspect/Read` (EGTEA) is `inspect`."""
    return name.lower().split("/")[0].replace("-", " ").replace("_", " ").strip()


def plain_noun(name: str) -> str:
    """A noun as English: `board:cutting` is `cutting board`."""
    return " ".join(reversed(name.lower().replace("_", " ").split(":"))).strip()


def read_word_lists(folder: Path) -> WordLists:
    """The words that the classes of EPIC-KITCHENS stand for, from the two class files.

    Raises:
        NotFound: the folder lacks a class file.
        BadAnnotations: a class file does not say what its form promises.
    """
    found: dict[str, list[str]] = {}
    for kind, files in CLASS_FILES:
        names = [name for name, _ in files]
        path = first_of(folder, names)
        if path is None:
            raise NotFound(
                f"no class file of {kind}s here",
                where=folder,
                expected=" or ".join(names),
                hint="the annotations of EPIC-KITCHENS have them",
            )
        rows = read_table(path, (dict(files)[path.name],))
        found[kind] = [
            w
            for cell in rows.convert(dict(files)[path.name], _words, "a list of words")
            for w in cell
        ]
    return WordLists.of(found["verb"], found["noun"])


def _words(cell: str) -> list[str]:
    try:
        words = ast.literal_eval(cell)
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError
    return words


def word_lists_of(taxonomy: Taxonomy) -> WordLists:
    """The names of a taxonomy's verbs and nouns.

    Raises:
        BadAnnotations: they are numbers, not names.
    """
    lists = WordLists.of(taxonomy.verbs, taxonomy.nouns)
    if not any(word.isalpha() for word in lists.verbs):
        raise BadAnnotations(
            "the verbs of this taxonomy have no names",
            where=f"taxonomy of {taxonomy.dataset}",
            expected="verbs such as 'take'",
            found=repr(taxonomy.verbs[0]) if taxonomy.verbs else "no verbs",
        )
    return lists


def singular(word: str) -> str:
    """A noun's base form: `potatoes` is `potato`."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) < 4 or word in SAME or not word.endswith("s") or word[-2:] in ("ss", "us", "is"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("oes", "ches", "shes", "xes", "sses", "zzes")):
        return word[:-2]
    return word[:-1]


def base_form(word: str, verbs: Collection[str]) -> str:
    """A verb's base form from its `-ing`: `mixing` is `mix`; `verbs` settle the spelling."""
    if not word.endswith("ing") or len(word) < 5:
        return word
    stem = word[:-3]
    doubled = len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in VOWELS
    guesses = [stem, stem + "e", *([stem[:-1]] if doubled else [])]
    return next((guess for guess in guesses if guess in verbs), guesses[-1] if doubled else stem)
