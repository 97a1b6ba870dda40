"""Soft targets: what a teacher expects at every segment of every split.

Promise: the segments of the training split are scored cross-fitted (by a teacher that never saw
their video) or in-sample (as the distillation paper does), the segments of all other splits by the
teacher that was trained on the whole training split; the attributes say which, and with which
settings. The same settings and seed give the same targets.

A segment without any earlier one has an empty history. Both kinds of teacher saw such histories
in training and predict what opens a video, so its target is as valid as any other; `valid` is
false only where a teacher can't score. The target of a segment never depends on its own label,
except that an in-sample teacher was trained on it.

On EGTEA Gaze+, every validation video is also a training video. A teacher is trained to predict the
segments of the training split only, but with a complete or observed history it sees the others
among the past ones; folds are made of whole videos, and leave out both.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from antcache import __version__
from antcache.checks import Amount, check_types
from antcache.errors import BadConfig
from antcache.progress import Progress, silent
from antcache.store import SoftTargets
from antcache.teacher.base import Teacher, kind_of, make_teacher
from antcache.teacher.histories import Examples, HistoryConfig, Timeline, check_folds
from antcache.teacher.scripts import Scripts

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """Which teacher is trained, on what, and how the training split is scored."""

    kind: str = "count"
    """Kind of the teacher, see `antcache.teacher.base.KINDS`."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """What differs from the kind's default settings."""
    history: HistoryConfig = field(default_factory=HistoryConfig)
    """Which earlier segments it is told about, in training and after."""
    folds: Amount | None = None
    """Folds of videos for cross-fitted targets of the training split; 0: in-sample ones. None takes
    the kind's own way, see `TeacherKind.folds`."""
    train_split: str = "train"
    """The split that it is trained on."""
    features: bool = False
    """Keep the teacher's last state beside its logits, for feature alignment."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.features and self.folds:
            raise BadConfig(
                "the features of cross-fitted teachers can't be compared: each fold has a network "
                "of its own",
                hint="keep features of in-sample targets (folds 0), or none",
            )
        check_folds(self.folds)


def make_targets(
    timeline: Timeline,
    config: TargetConfig,
    *,
    scripts: Scripts | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> tuple[Teacher, SoftTargets]:
    """Train a teacher and score every segment of `timeline`, in its order.

    Args:
        timeline: the segments of all splits.
        config: see `TargetConfig`.
        scripts: text-only sequences of actions to train on beside the videos.
        device: torch device of teachers that use one.
        progress: called with epochs or folds done.

    Returns:
        The teacher trained on the whole training split, and dense targets (N, C).

    Raises:
        MissingKey: the timeline lacks the training split.
        BadConfig: a setting is out of range, or there are fewer videos than folds.
    """
    train = timeline.in_split(config.train_split)

    def new_teacher() -> Teacher:
        return make_teacher(config.kind, timeline.taxonomy, config.settings, device=device)

    teacher = new_teacher()
    _check_features(teacher, config.features)
    folds = config.folds
    if folds is None:
        folds = 0 if config.features else kind_of(config.kind).folds
    length, seed = teacher.config.length, teacher.config.seed
    examples = examples_for(teacher, timeline, config.history)
    text = None if scripts is None else scripts.examples(length)
    logits = np.empty((len(examples), len(timeline.taxonomy.actions)), dtype=np.float32)
    fold = np.full(len(examples), -1)  # of what is scored by a teacher that never saw its video
    if folds:
        fold[train] = examples[train].folds(folds, seed)
    for k in range(folds):
        log.info("fold %d of %d: %d held out", k + 1, folds, (fold == k).sum())
        part = new_teacher()
        part.fit(
            examples[train & (fold != k)],
            scripts=text,
            progress=lambda name, *at, k=k: progress(f"fold {k + 1} of {folds}: {name}", *at),
        )
        logits[fold == k] = part.predict(examples[fold == k]).logits
    teacher.fit(examples[train], scripts=text, progress=progress)
    rest = fold < 0
    output = teacher.predict(examples[rest])
    logits[rest] = output.logits
    feature = output.features if config.features else None
    targets = _targets(timeline, teacher, logits, feature, config.history, folds)
    targets.attributes["train_split"] = config.train_split
    targets.attributes["scripts"] = 0 if scripts is None else len(scripts)
    return teacher, targets


def trained_without(
    teacher: Teacher,
    timeline: Timeline,
    history: HistoryConfig,
    videos: Collection[str],
    *,
    train_split: str = "train",
    scripts: Scripts | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Teacher:
    """A teacher like `teacher`, trained on the training split but for some videos.

    Args:
        teacher: whose kind and settings it has.
        timeline: the segments of all splits.
        history: that the teacher was trained on.
        videos: which are left out.
        train_split: the split that it is trained on.
        scripts: text-only sequences of actions to train on beside the videos.
        device: torch device of teachers that use one.
        progress: called with epochs done.

    Raises:
        MissingKey: the timeline lacks the training split.
        BadConfig: nothing is left to train on.
    """
    left = timeline.in_split(train_split) & ~np.isin(timeline.segments.video, list(videos))
    new = make_teacher(teacher.kind, timeline.taxonomy, asdict(teacher.config), device=device)
    text = None if scripts is None else scripts.examples(new.config.length)
    new.fit(examples_for(new, timeline, history)[left], scripts=text, progress=progress)
    return new


def examples_for(teacher: Teacher, timeline: Timeline, history: HistoryConfig) -> Examples:
    """Every segment's history as the teacher is told it: as long, and with times if it wants."""
    return timeline.examples(history, teacher.config.length, times=teacher.needs_times)


def score_segments(
    timeline: Timeline, teacher: Teacher, history: HistoryConfig, *, features: bool = False
) -> SoftTargets:
    """Dense targets (N, C) of every segment of `timeline` by a teacher that is trained already.

    Raises:
        BadConfig: `features` are asked of a kind that has none.
    """
    _check_features(teacher, features)
    output = teacher.predict(examples_for(teacher, timeline, history))
    feature = output.features if features else None
    return _targets(timeline, teacher, output.logits, feature, history, folds=0)


def _check_features(teacher: Teacher, wanted: bool) -> None:
    if wanted and not teacher.has_features:
        raise BadConfig(
            "this kind of teacher has no features", expected="language", found=teacher.kind
        )


def _targets(
    timeline: Timeline,
    teacher: Teacher,
    logits: NDArray[np.float32],
    feature: NDArray[np.float32] | None,
    history: HistoryConfig,
    folds: int,
) -> SoftTargets:
    return SoftTargets(
        uid=timeline.segments.uid,
        valid=np.asarray(np.isfinite(logits).all(axis=1)),
        logits=logits,
        feature=feature,
        moment=timeline.segments.moments(),
        attributes={
            "kind": teacher.kind,
            "config": asdict(teacher.config),
            "history": history.mode,
            **{k: v for k, v in history.settings.items() if k != "mode"},
            "folds": folds,
            "taxonomy": teacher.taxonomy.fingerprint,
            "form": "dense",
            "antcache": __version__,
        },
    )
