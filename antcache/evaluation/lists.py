"""Which participants are unseen and which classes are rare, for EPIC-KITCHENS-100's figures.

Promise: a figure over unseen participants or tail classes is only given where somebody says who
they are: the store's taxonomy (tail classes), its training split (participants), or files as
EPIC-KITCHENS-100 publishes them: `EPIC_100_unseen_participant_ids_validation.csv` (column
`participant_id`), `EPIC_100_tail_verbs.csv` (`verb`) and `EPIC_100_tail_nouns.csv` (`noun`). Tail
actions have a tail verb or a tail noun (epic-kitchens/C3-Action-Anticipation, the challenge's
evaluation, whose mean is over the classes present as well).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.annotations.classes import read_class_list
from antcache.annotations.files import read_table
from antcache.errors import BadConfig
from antcache.store import Store

TRAIN = "train"


@dataclass(frozen=True, kw_only=True)
class ListFiles:
    """Files that name unseen participants and tail classes; None leaves it to the store."""

    unseen: Path | None = None
    tail_verbs: Path | None = None
    tail_nouns: Path | None = None

    def __post_init__(self) -> None:
        if (self.tail_verbs is None) != (self.tail_nouns is None):
            raise BadConfig("tail verbs and tail nouns go together", expected="both lists or none")


def with_tail(taxonomy: Taxonomy, files: ListFiles) -> Taxonomy:
    """The taxonomy with the tail classes of `files`, where they are given.

    Raises:
        NotFound, BadAnnotations: a file can't be read, or names what is no class.
        BadConfig: the actions have no verbs and nouns.
    """
    if files.tail_verbs is None or files.tail_nouns is None:
        return taxonomy
    if not taxonomy.paired:
        raise BadConfig(
            "tail verbs and tail nouns for actions without verb and noun", where=taxonomy.dataset
        )
    return replace(
        taxonomy,
        tail_verbs=read_class_list(files.tail_verbs, "verb", "verb", len(taxonomy.verbs)),
        tail_nouns=read_class_list(files.tail_nouns, "noun", "noun", len(taxonomy.nouns)),
    )


def unseen_participants(
    store: Store, taxonomy: Taxonomy, split: str, files: ListFiles
) -> tuple[str, ...] | None:
    """Participants without a training video, or None where nobody says who they are.

    Without a file they are those of EPIC-KITCHENS-100 that the store's training split does not
    have: `P18` for the video `P18_01`.

    Raises:
        NotFound, BadAnnotations: the file can't be read.
        BadConfig: none of the participants that it names is in the split.
    """
    if files.unseen is not None:
        listed = read_table(files.unseen, ("participant_id",)).words("participant_id")
        if not of_participants(store.labels(split), listed).any():
            raise BadConfig(
                f"no video of {split!r} is by an unseen participant",
                where=files.unseen,
                found=", ".join(listed),
                hint="a video is called after its participant: P18_01",
            )
        return tuple(listed)
    if taxonomy.dataset != "epic-kitchens-100" or split == TRAIN or TRAIN not in store.splits():
        return None
    seen = set(participants(store.labels(TRAIN)).tolist())
    return tuple(sorted(set(participants(store.labels(split)).tolist()) - seen))


def participants(segments: Segments) -> NDArray[np.str_]:
    """Participant (N,) of each segment: its video's name up to the first underscore."""
    return np.asarray([video.partition("_")[0] for video in segments.video.tolist()], dtype=np.str_)


def of_participants(segments: Segments, names: Sequence[str]) -> NDArray[np.bool_]:
    """Mask (N,) of the segments in videos of these participants."""
    return np.isin(participants(segments), list(names))
