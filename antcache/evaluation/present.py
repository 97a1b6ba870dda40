"""Scoring among the classes that occur alone, as V-JEPA 2's published figures are made.

Promise: both halves of that measure or none. Segments whose (verb, noun), or action where it is a
single label, has no training segment are left out; of the others, a class that is the truth of none
never wins: its score is the lowest. The figures are higher than the usual ones of the same
predictions, and measure something else.
Letters: N segments of a split, C classes of a kind.
Source: facebookresearch/vjepa2, `evals/action_anticipation_frozen` (its `filter_annotations`, and
the valid classes of its class-mean recall).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.errors import BadConfig, MissingKey
from antcache.evaluation.lists import TRAIN
from antcache.evaluation.metrics import blocks
from antcache.evaluation.predictions import Predictions
from antcache.store import Store

Floating = TypeVar("Floating", bound=np.floating)
Classes = Literal["all", "present"]
ALL: Classes = "all"
PRESENT: Classes = "present"


@dataclass(frozen=True, kw_only=True)
class Present:
    """What of a split counts, and which classes occur in it.

    Attributes:
        kept: (N,) bool, the segments whose (verb, noun) has a training segment.
        left_out: uids of the others.
        occurs: by kind, (C,) bool: whether a class is the truth of a kept segment.
    """

    kept: NDArray[np.bool_]
    left_out: NDArray[np.str_]
    occurs: dict[str, NDArray[np.bool_]]

    @classmethod
    def of(cls, store: Store, split: str) -> Present:
        """That of a split beside the training split of its store.

        Raises:
            MissingKey: the store has no such split, or no training split.
            BadConfig: no segment of it has a (verb, noun) that is trained on.
        """
        taxonomy, segments = store.taxonomy, store.labels(split)
        if TRAIN not in store.splits():
            raise MissingKey(
                "which verbs and nouns are trained on together is not known",
                where=store.path,
                expected=f"a split {TRAIN!r} beside {split!r}",
                found=", ".join(store.splits()),
            )
        known = np.isin(_truth(segments, taxonomy), _truth(store.labels(TRAIN), taxonomy))
        if not known.any():
            what = "a verb and noun" if taxonomy.paired else "an action"
            raise BadConfig(f"no segment has {what} of the training split", where=split)
        sizes = {kind: len(getattr(taxonomy, f"{kind}s")) for kind in taxonomy.kinds}
        return cls(
            kept=known,
            left_out=segments.uid[~known],
            occurs={
                kind: np.isin(np.arange(size), getattr(segments, kind)[known])
                for kind, size in sizes.items()
            },
        )

    def rows(self, predictions: Predictions) -> NDArray[np.bool_]:
        """Which predicted segments (n,) are not left out."""
        return ~np.isin(predictions.uid, self.left_out)

    def only(self, predictions: Predictions) -> Predictions:
        """The predictions of what counts, in which no class wins that does not occur.

        Verbs and nouns of a model without classifiers for them are scored by the actions that
        occur.
        """
        own = predictions[self.rows(predictions)]
        verbs, nouns = own.verb_scores, own.noun_scores
        return replace(
            own,
            scores=self.lowered(own.scores, "action"),
            verb_scores=None if verbs is None else self.lowered(verbs, "verb"),
            noun_scores=None if nouns is None else self.lowered(nouns, "noun"),
        )

    def lowered(self, scores: NDArray[Floating], kind: str) -> NDArray[Floating]:
        """Scores (n, C) with the lowest, `-inf`, for every class that does not occur.

        Where none that occurs is ranked, as in soft targets cut to their k best, nothing has to
        change: the truth, which occurs, is not ranked either way.
        """
        occurs, out = self.occurs[kind], scores.copy()
        for rows in blocks(len(out)):
            ranked = np.isfinite(out[rows][:, occurs]).any(axis=1)
            out[rows] = np.where(ranked[:, None] & ~occurs, -np.inf, out[rows])
        return out


def _truth(segments: Segments, taxonomy: Taxonomy) -> NDArray[np.int64]:
    """One number (N,) for each segment's verb and noun, or its action where that is all it has."""
    if not taxonomy.paired:
        return segments.action
    return segments.verb * len(taxonomy.nouns) + segments.noun
