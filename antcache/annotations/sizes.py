"""How many classes the published datasets have, and which of them a folder holds.

Promise: a folder of another dataset is told by its classes before anything else in it is believed,
and the error says which dataset it looks like. EPIC-KITCHENS-100 has 300 nouns: version 2 of its
list adds five (hands and gloves) for another challenge, which are in no action.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from antcache.annotations.classes import Actions, read_actions, read_paired_actions
from antcache.errors import BadAnnotations, NotFound


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of classes."""

    actions: int
    verbs: int
    nouns: int

    def __str__(self) -> str:
        return f"{self.actions} actions, {self.verbs} verbs, {self.nouns} nouns"

    def within(self, other: Sizes) -> bool:
        """Whether these could be some of the classes of `other`."""
        return (
            self.actions <= other.actions
            and self.verbs <= other.verbs
            and self.nouns <= other.nouns
        )


SIZES = {
    "epic-kitchens-55": Sizes(actions=2513, verbs=125, nouns=352),
    "epic-kitchens-100": Sizes(actions=3806, verbs=97, nouns=300),
    "egtea": Sizes(actions=106, verbs=19, nouns=51),
}
"""Classes of each published dataset, those without any action counted."""


def check_dataset(folder: Path, dataset: str) -> None:
    """Check that the actions in a folder may be those of a dataset.

    What can't be read, or is no known dataset's, is left for the reader to say.

    Raises:
        BadAnnotations: they are those of another one, or only fit another one.
    """
    path = folder / "actions.csv"
    actions = _any_actions(path)
    if actions is None:
        return
    found = Sizes(
        actions=len(actions.names),
        verbs=max(actions.verbs) + 1,
        nouns=max(actions.nouns) + 1,
    )
    own = SIZES[dataset]
    others = {name: sizes for name, sizes in SIZES.items() if name != dataset}
    like = [
        name
        for name, sizes in others.items()
        if (sizes.verbs, sizes.nouns) == (found.verbs, found.nouns)  # with some of the actions
    ]
    if not like and not found.within(own):
        like = [name for name, sizes in others.items() if found.within(sizes)]
    if like:
        raise BadAnnotations(
            f"these are not the classes of {dataset}",
            where=path,
            expected=own,
            found=found,
            hint=f"it looks like {' or '.join(like)}",
        )


def _any_actions(path: Path) -> Actions | None:
    """Actions of a file in either form; None if it is in none, or not there."""
    readers: tuple[Callable[[Path], Actions], ...] = (
        partial(read_actions, names=None),
        read_paired_actions,
    )
    for read in readers:
        with suppress(BadAnnotations, NotFound):
            return read(path)
    return None
