"""Scores predictions and stored soft targets against a store's labels.

Promise: the same metrics for a student and for a teacher, over the segments that have a prediction
and, beside it, over all segments of the split with the others counted as wrong.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments
from antcache.annotations.protocols import Gap
from antcache.checks import check_type, check_types
from antcache.errors import BadPredictions, FingerprintMismatch, MissingTarget
from antcache.evaluation.lists import ListFiles, unseen_participants, with_tail
from antcache.evaluation.predictions import Predictions, check_moments
from antcache.evaluation.present import ALL, PRESENT, Classes, Present
from antcache.evaluation.sheet import BootstrapConfig, Scored, Sheet, fill_sheet
from antcache.evaluation.task import Task
from antcache.store import SoftTargets, Store
from antcache.store.soft_targets import anchor_of

OBSERVED = "observed"
"""The histories of a teacher that end at the gap, as its soft targets name them."""
UNTOLD = ("mixed", "unknown")
"""Gaps of soft targets that are none: of an ensemble whose members differ, or say none."""


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """What one set of predictions reaches on a split.

    Attributes:
        name: which predictions: the path, or `targets/NAME`.
        split: the split.
        task: what was asked: its anchor and gap.
        scored_classes: `present` if classes that do not occur never win, and segments whose verb
            and noun have no training segment are left out; see `present`.
        left_out: how many these are, of whom nothing else here knows.
        scored: metrics over the segments with a prediction; see `metrics.score`.
        all: metrics over all segments of the split, those without a prediction counted as wrong.
        sheet: every metric over every denominator with intervals, and calibration, if asked for.
    """

    name: str
    split: str
    task: Task
    scored_classes: Classes
    left_out: int
    scored: dict[str, float]
    all: dict[str, float]
    sheet: Sheet | None = None

    @property
    def anchor(self) -> float:
        """What the gap was counted back from; see `Protocol.anchor`."""
        return self.task.anchor

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        plain = {k: getattr(self, k) for k in ("name", "split", "scored", "all")}
        plain |= self.task.to_dict()
        plain |= {"scored_classes": self.scored_classes, "left_out": self.left_out}
        plain["unpredicted"] = self.all["n"] - self.scored["n"]
        if self.sheet is not None:
            plain["calibration"] = finite(asdict(self.sheet.calibration))
            plain["denominators"] = {k: asdict(v) for k, v in self.sheet.counted.items()}
        return plain


def finite(value: Any) -> Any:
    """JSON-ready values of which those that are infinite, or no number, are None."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What a result has beside its metrics."""

    sampling: BootstrapConfig = field(default_factory=lambda: BootstrapConfig(resamples=0))
    """Of the intervals; without resamples there are none."""
    files: ListFiles = field(default_factory=ListFiles)
    """Who is unseen, and what is rare."""
    classes: Classes = ALL
    """Which classes can win; `present` also leaves segments out, see `present`."""

    def __post_init__(self) -> None:
        check_types(self)


def score_predictions(
    store: Store, path: Path, split: str | None = None, *, detail: Detail | None = None
) -> EvaluationResult:
    """Score the predictions in a file or run folder; errors as `load_predictions`."""
    return evaluate(store, load_predictions(store, str(path), split), str(path), detail=detail)


def load_predictions(store: Store, name: str, split: str | None = None) -> Predictions:
    """The predictions called `name`, checked against the store.

    Args:
        store: where the labels are.
        name: a file of predictions, the folder of a run, or `targets/NAME`: soft targets of the
            store (a file or folder of that name comes first).
        split: the split that is expected; None takes the one that the predictions name, and
            `validation` for soft targets.

    Raises:
        NotFound, BadCheckpoint: there are no predictions, or they can't be read.
        BadPredictions: scores are not finite.
        FingerprintMismatch: they are for another taxonomy or split, or for other segments than the
            labels now have of their uids.
        MissingKey, MissingTarget: the store has no such targets or split, or none in common.
    """
    kind, _, target = name.partition("/")
    if kind == "targets" and target and not Path(name).exists():
        predictions = target_predictions(store, target, split or "validation")
    else:
        predictions = Predictions.load(name)
    predictions.check_taxonomy(store.taxonomy, where=name)
    if split is not None and split != predictions.split:
        raise FingerprintMismatch(
            "predictions for another split", where=name, expected=split, found=predictions.split
        )
    if predictions.moment is not None and predictions.split in store.splits():
        segments = store.labels(predictions.split)
        rows = segments.locate(predictions.uid)
        known, now = predictions[rows >= 0], segments[rows[rows >= 0]].moments()
        check_moments(known.uid, known.moment, now, name, anchor=known.anchor)
    return predictions


def rows_in(predictions: Predictions, segments: Segments, name: str) -> NDArray[np.int64]:
    """Position (n,) among `segments` of each predicted segment.

    Raises:
        BadPredictions: there is none.
        FingerprintMismatch: a predicted segment is not among them, or another one is there under
            its uid; `name` is in the message.
    """
    if not len(predictions):
        raise BadPredictions(
            "no segment is predicted", where=name, expected=f"some of {len(segments)}"
        )
    rows = segments.locate(predictions.uid)
    unknown = predictions.uid[rows < 0]
    if len(unknown):
        raise FingerprintMismatch(
            f"predictions for segments that the split {predictions.split!r} does not have",
            where=name,
            found=f"{len(unknown)}, the first one {unknown[0]}",
            hint="score them with the store they were made from",
        )
    now = segments[rows].moments()
    check_moments(predictions.uid, predictions.moment, now, name, anchor=predictions.anchor)
    return rows


def evaluate(
    store: Store,
    predictions: Predictions,
    name: str,
    *,
    detail: Detail | None = None,
    logits: NDArray[np.floating] | None = None,
) -> EvaluationResult:
    """Score predictions that are in memory.

    Args:
        store: where the labels are.
        predictions: n segments over C actions.
        name: of the result, and in errors.
        detail: what else is wanted; None: metrics alone, without lists of rare classes in files.
        logits: (n, C) that stand for a probability of every action, where the scores only rank the
            best; for calibration.

    Raises:
        FingerprintMismatch: the predictions are for another taxonomy or set of segments.
        BadPredictions: there are none.
        MissingKey: the store has no labels of the split.
        NotFound, BadAnnotations, BadConfig: a list can't be read, or names nobody in the split.
        MissingKey, BadConfig: see `Present.of`.
    """
    segments = store.labels(predictions.split)
    predictions.check_taxonomy(store.taxonomy, where=name)
    rows_in(predictions, segments, name)  # whichever of them count
    files, classes = (ListFiles(), ALL) if detail is None else (detail.files, detail.classes)
    left_out = 0
    if classes == PRESENT:
        present = Present.of(store, predictions.split)
        if logits is not None:
            logits = present.lowered(logits[present.rows(predictions)], "action")
        predictions, segments = present.only(predictions), segments[present.kept]
        left_out = len(present.left_out)
    scored = Scored(
        segments=segments,
        taxonomy=with_tail(store.taxonomy, files),
        rows=rows_in(predictions, segments, name),
        scores=predictions.scores,
        logits=predictions.scores if logits is None else logits,
        depth=predictions.scores.shape[1],
        verb_noun_scores=predictions.verb_noun_scores,
        anchor=predictions.anchor,
        usual=store.protocol,
    )
    sheet = None
    if detail is not None:
        unseen = unseen_participants(store, scored.taxonomy, predictions.split, files)
        sheet = fill_sheet(scored, sampling=detail.sampling, unseen=unseen)
    return EvaluationResult(
        name=name,
        split=predictions.split,
        task=predictions.task,
        scored_classes=classes,
        left_out=left_out,
        scored=scored.ranked[scored.rows].figures(scored.taxonomy),
        all=scored.ranked.figures(scored.taxonomy),
        sheet=sheet,
    )


def score_targets(
    store: Store, name: str, split: str, *, detail: Detail | None = None
) -> EvaluationResult:
    """Score a teacher's stored soft targets on a split, as if they were predictions.

    Classes outside the k best of top-k targets are not ranked. Segments without a valid target
    count as without a prediction.

    Raises:
        MissingKey: the store has no such targets or split.
        MissingTarget: there is no target for any segment of the split.
        NotFound, BadAnnotations, BadConfig: see `evaluate`.
    """
    predictions = target_predictions(store, name, split)
    logits = None
    if detail is not None:
        targets = store.targets(name)
        rows = targets.rows_for(predictions.uid)
        logits = target_logits(targets, rows, predictions.scores.shape[1])
    return evaluate(store, predictions, f"targets/{name}", detail=detail, logits=logits)


def target_predictions(store: Store, name: str, split: str) -> Predictions:
    """A teacher's stored soft targets for a split, as predictions; errors as `score_targets`."""
    targets, segments, taxonomy = store.targets(name), store.labels(split), store.taxonomy
    rows = targets.rows_for(segments.uid)
    known = rows >= 0
    if not known.any():
        raise MissingTarget(f"no soft target for any segment of {split!r}", where=f"targets/{name}")
    found = Predictions(
        uid=segments.uid[known],
        scores=target_scores(targets, rows[known], len(taxonomy.actions)),
        split=split,
        taxonomy=str(targets.attributes.get("taxonomy")),
        anchor=anchor_of(targets.attributes),
        gap_s=target_gap(targets),
    )
    found.check_finite(f"targets/{name}")
    return found


def target_gap(targets: SoftTargets) -> float | None:
    """How long before the action a teacher stopped watching; None where that is unknown, or it did
    not: only `observed` histories end at the gap.

    Raises:
        BadConfig: they say what is no gap.
    """
    gap_s = targets.attributes.get("gap_s")
    if targets.attributes.get("history") != OBSERVED or gap_s in (None, *UNTOLD):
        return None
    check_type("gap_s", gap_s, Gap)
    return float(gap_s)


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


def target_logits(
    targets: SoftTargets, rows: NDArray[np.int64], num_classes: int
) -> NDArray[np.floating]:
    """Logits (n, C) of soft targets at `rows` (n,) that stand for a probability of every class.

    Of top-k targets only the mass of the other classes is known; they are taken to share it evenly,
    as the distillation loss does (docs/protocol.md), and have probability 0 where it is 0.
    """
    from scipy.special import logsumexp

    if targets.logits is not None:
        return targets.logits[rows]
    assert targets.index is not None
    assert targets.logit is not None
    assert targets.tail is not None
    logit, tail = targets.logit[rows].astype(np.float64), targets.tail[rows].astype(np.float64)
    others = num_classes - logit.shape[1]
    kept = logsumexp(logit, axis=1)
    with np.errstate(divide="ignore"):  # no tail: log 0, probability 0
        total = kept - np.log1p(-np.exp(tail))  # what the logits were normalised by
    each = np.where(np.isneginf(tail), -np.inf, total + tail - np.log(max(others, 1)))
    full = np.repeat(each[:, None], num_classes, axis=1)
    np.put_along_axis(full, targets.index[rows].astype(np.int64), logit, axis=1)
    return full
