"""What finds verb and object of an instruction: one protocol, two ways.

Promise: an extractor gives the actions of every instruction in the order of the text, verbs and
objects in base form and lower case, words separated by one blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from antcache.checks import one_of
from antcache.errors import BadConfig
from antcache.teacher.corpus.parsed import ParsedAction
from antcache.teacher.corpus.words import WordLists

EXTRACTORS = ("lexicon", "dependency")
DEFAULT_SPACY_MODEL = "en_core_web_sm"


class Extractor(Protocol):
    """Finds the actions of instructions."""

    @property
    def name(self) -> str:
        """Which of `EXTRACTORS`."""

    @property
    def settings(self) -> dict[str, str | int]:
        """What its output depends on beside the text, JSON-ready."""

    def actions(self, instructions: Sequence[str]) -> list[list[ParsedAction]]:
        """The actions of each of N instructions."""


def make_extractor(
    name: str, *, words: WordLists | None = None, spacy_model: str | None = None
) -> Extractor:
    """An extractor by name.

    Args:
        name: one of `EXTRACTORS`.
        words: verbs and nouns of a dataset; the lexicon extractor needs them.
        spacy_model: installed pipeline, or its folder, for the dependency extractor.

    Raises:
        BadConfig: unknown name, or what the extractor needs is missing or is for the other one.
        MissingExtra: the dependency extractor without spaCy.
        NotFound: the spaCy model is not installed.
    """
    one_of("extractor", name, EXTRACTORS)
    if name == "lexicon":
        from antcache.teacher.corpus.lexicon import LexiconExtractor

        if words is None:
            raise BadConfig(
                "the lexicon extractor needs the verbs and nouns of a dataset",
                hint="--annotations FOLDER with the EPIC class files, or --taxonomy-from STORE",
            )
        if spacy_model is not None:
            raise BadConfig("the lexicon extractor uses no spaCy model", found=spacy_model)
        return LexiconExtractor(words)
    from antcache.teacher.corpus.dependency import DependencyExtractor

    if words is not None:
        raise BadConfig("the dependency extractor uses no word lists")
    return DependencyExtractor.load(spacy_model or DEFAULT_SPACY_MODEL)
