"""Instructions whose actions a person has written down, and how well an extractor agrees.

Promise: a label is only used for the very text that it was made for (its hash is checked); each
found action can match one labelled action of the same instruction, verb and object exactly.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from antcache.errors import BadAnnotations, NotFound
from antcache.teacher.corpus.parsed import ParsedAction
from antcache.teacher.corpus.recipes import read_recipes
from antcache.untrusted import read_json

HASH_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class Labeled:
    """An instruction, and what a person says the cook is told to do."""

    text: str
    actions: tuple[ParsedAction, ...]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many of the actions that were found, and of those labelled, are the same."""

    both: int
    found: int
    labeled: int

    @property
    def precision(self) -> float:
        """Share of the found ones that are labelled."""
        return self.both / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the labelled ones that are found."""
        return self.both / self.labeled if self.labeled else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.both / (self.found + self.labeled) if self.both else 0.0


def text_hash(text: str) -> str:
    """What stands for a text that is not copied."""
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def read_labeled(path: Path, recipes: Path) -> list[Labeled]:
    """The labels in a JSON file, with the texts from the collection that they were made for.

    `path` holds `{"instructions": [{"recipe", "instruction", "sha256", "actions"}]}`: id of the
    recipe, number of the instruction from 0, start of the hash of its text, and `[verb, object]`
    pairs whose object may be null.

    Raises:
        NotFound: a file is missing.
        BadAnnotations: a file is not of its form, or a label is for another text.
    """
    if not path.is_file():
        raise NotFound("no labels here", where=path)
    try:
        entries = read_json(path)["instructions"]
        wanted = {(e["recipe"], e["instruction"]): e for e in entries}
        actions = {
            key: tuple(ParsedAction(verb, thing) for verb, thing in e["actions"])
            for key, e in wanted.items()
        }
        hashes = {key: e["sha256"] for key, e in wanted.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnnotations("the labels can't be read", where=path, found=error) from error
    ids = {recipe for recipe, _ in wanted}
    texts = {
        (recipe.id, i): text
        for recipe in read_recipes(recipes)
        if recipe.id in ids
        for i, text in enumerate(recipe.instructions)
    }
    for key, expected in hashes.items():
        found = text_hash(texts[key]) if key in texts else "no such instruction"
        if found != expected:
            raise BadAnnotations(
                "the label is for another text",
                where=f"{path}: recipe {key[0]}, instruction {key[1]}",
                expected=expected,
                found=found,
            )
    return [Labeled(text=texts[key], actions=actions[key]) for key in wanted]


def agreement(
    found: Sequence[Iterable[ParsedAction]],
    labeled: Sequence[Labeled],
    *,
    verbs_only: bool = False,
) -> Agreement:
    """How the found actions of N instructions agree with the labelled ones.

    Args:
        found: per instruction.
        labeled: per instruction.
        verbs_only: compare all verbs, with or without object; else the pairs that have one.
    """

    def counted(actions: Iterable[ParsedAction]) -> Counter[tuple[str, str | None]]:
        if verbs_only:
            return Counter((action.verb, None) for action in actions)
        return Counter((a.verb, a.object) for a in actions if a.object is not None)

    pairs = [
        (counted(mine), counted(label.actions)) for mine, label in zip(found, labeled, strict=True)
    ]
    return Agreement(
        both=sum((mine & theirs).total() for mine, theirs in pairs),
        found=sum(mine.total() for mine, _ in pairs),
        labeled=sum(theirs.total() for _, theirs in pairs),
    )
