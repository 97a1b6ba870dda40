"""Scores predictions and stored soft targets against a store's labels.

Promise: the same metrics for a student and for a teacher, over the segments that have a prediction
and, beside it, over all segments of the split with the others counted as wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import FingerprintMismatch, MissingTarget
from antcache.evaluation.metrics import score
from antcache.evaluation.predictions import Predictions
from antcache.store import SoftTargets, Store


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one set of predictions reaches on a split.

    Attributes:
        name: which predictions: the path, or `targets/NAME`.
        split: the split.
        scored: metrics over the segments with a prediction; see `metrics.score`.
        all: metrics over all segments of the split, those without a prediction counted as wrong.
    """

    name: str
    split: str
    scored: dict[str, float]
    all: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        missed = self.all["n"] - self.scored["n"]
        return {**{k: getattr(self, k) for k in self.__dataclass_fields__}, "missed": missed}


def score_predictions(store: Store, path: Path, split: str | None = None) -> Result:
    """Score the predictions in a file or run folder.

    Args:
        store: where the labels are.
        path: a file of predictions, or the folder of a run.
        split: the split that is expected; None takes the one that the predictions name.

    Raises:
        NotFound, BadCheckpoint: there are no predictions, or they can't be read.
        FingerprintMismatch: they are for another taxonomy, split or set of segments.
        MissingKey: the store has no labels of the split.
    """
    predictions = Predictions.load(path)
    predictions.check_taxonomy(store.taxonomy, where=path)
    if split is not None and split != predictions.split:
        raise FingerprintMismatch(
            "predictions for another split", where=path, expected=split, found=predictions.split
        )
    return evaluate(store, predictions, str(path))


def evaluate(store: Store, predictions: Predictions, name: str) -> Result:
    """Score predictions that are in memory; errors as `score_predictions`, `name` in them."""
    taxonomy, segments = store.taxonomy, store.labels(predictions.split)
    predictions.check_taxonomy(taxonomy, where=name)
    row_of = {uid: row for row, uid in enumerate(segments.uid.tolist())}
    unknown = [uid for uid in predictions.uid.tolist() if uid not in row_of]
    if unknown:
        raise FingerprintMismatch(
            f"predictions for segments that the split {predictions.split!r} does not have",
            where=name,
            found=f"{len(unknown)}, the first one {unknown[0]}",
            hint="score them with the store they were made from",
        )
    rows = np.asarray([row_of[uid] for uid in predictions.uid.tolist()], dtype=np.int64)
    missed = np.ones(len(segments), dtype=bool)
    missed[rows] = False
    predicted = segments[rows]
    scored = score(predictions.scores, predicted, taxonomy)
    everything = scored
    if missed.any():
        everything = score(predictions.scores, predicted, taxonomy, missed=segments[missed])
    return Result(name=name, split=predictions.split, scored=scored, all=everything)


def score_targets(store: Store, name: str, split: str) -> Result:
    """Score a teacher's stored soft targets on a split, as if they were predictions.

    Classes outside the k best of top-k targets are not ranked. Segments without a valid target
    count as without a prediction.

    Raises:
        MissingKey: the store has no such targets or split.
        MissingTarget: there is no target for any segment of the split.
    """
    targets, segments, taxonomy = store.targets(name), store.labels(split), store.taxonomy
    rows = targets.rows_for(segments.uid)
    known = rows >= 0
    if not known.any():
        raise MissingTarget(f"no soft target for any segment of {split!r}", where=f"targets/{name}")
    predictions = Predictions(
        uid=segments.uid[known],
        scores=target_scores(targets, rows[known], len(taxonomy.actions)),
        split=split,
        taxonomy=str(targets.attributes.get("taxonomy")),
    )
    return evaluate(store, predictions, f"targets/{name}")


def target_scores(
    targets: SoftTargets, rows: NDArray[np.int64], num_classes: int
) -> NDArray[np.float32]:
    """Scores (n, C) of soft targets at `rows` (n,); `-inf` for classes outside the k best."""
    if targets.logits is not None:
        return targets.logits[rows]
    assert targets.index is not None
    assert targets.logit is not None
    scores = np.full((len(rows), num_classes), -np.inf, dtype=np.float32)
    np.put_along_axis(scores, targets.index[rows].astype(np.int64), targets.logit[rows], axis=1)
    return scores
