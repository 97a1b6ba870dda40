"""What a teacher is worth: every metric, history and denominator, with intervals and calibration.

Promise: a trained teacher is asked with each kind of history, stored soft targets are scored as
they are; no temperature is judged on the segments that it was fitted on; a teacher's histories can
be made imperfect (`antcache.teacher.noise`). All figures are of one split of a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations.protocols import Anchor, anchor_name
from antcache.checks import Count, Range, Weight, check_types, known
from antcache.errors import BadConfig, MissingKey, MissingTarget
from antcache.evaluation.calibration import (
    Calibration,
    calibration,
    cross_fitted_temperatures,
    fit_temperature,
)
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.scoring import finite, target_logits, target_scores
from antcache.evaluation.sheet import BootstrapConfig, Scored, Sheet, fill_sheet
from antcache.progress import Progress, silent
from antcache.store import SoftTargets, Store
from antcache.store.soft_targets import anchor_of
from antcache.teacher.base import SETTINGS_FILE, Teacher, load_teacher
from antcache.teacher.histories import MODES, HistoryConfig, Timeline
from antcache.teacher.noise import corrupt, noise_kinds, recognized
from antcache.teacher.split_scorer import ImperfectScore, SplitScorer
from antcache.teacher.teach import history_for

STORED = "as stored"
COVERAGE = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """What is scored, and how."""

    split: str = "validation"
    """The split that is scored."""
    histories: tuple[str, ...] = MODES
    """Kinds of history that a trained teacher is asked with."""
    gap_s: Weight | None = None
    """Gap of observed histories in seconds; None takes the dataset's."""
    anchor: Anchor | None = None
    """What it is counted back from, of a trained teacher, None takes the dataset's; stored soft
    targets say their own."""
    sampling: BootstrapConfig = field(default_factory=BootstrapConfig)
    """How intervals are made; its seed decides folds and wrong labels as well."""
    coverage: tuple[Count, ...] = COVERAGE
    """Numbers of best classes of the coverage curve."""
    held_out: str | None = None
    """Split that the temperature is fitted on. The scored one: the temperature of a segment comes
    from other videos. None: the training split, if its targets are cross-fitted."""
    noise: tuple[Annotated[float, Range(0, 1)], ...] = ()
    """Shares of wrong labels in the histories."""
    recognized: tuple[Path, ...] = ()
    """Predictions whose first action is the label of a past segment."""

    def __post_init__(self) -> None:
        check_types(self)
        known("histories", self.histories, MODES)
        for name in ("histories", "coverage"):
            if not getattr(self, name):
                raise BadConfig(f"no {name}", expected="one or more")


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """A fitted temperature and what it changes.

    Attributes:
        value: the temperature; the mean, where there is one for each fold.
        fitted_on: which segments it comes from.
        after: calibration of the scored segments at it.
    """

    value: float
    fitted_on: str
    after: Calibration


@dataclass(frozen=True, kw_only=True)
class TeacherScore:
    """All figures of one teacher, or set of soft targets, on one split.

    Attributes:
        name: the folder, or `targets/NAME`.
        split: the split.
        anchor: what the gap was counted back from.
        sheets: by kind of history.
        temperature: by kind of history; None where nothing is held out to fit one on.
        imperfect: what is left of the teacher under imperfect histories.
        notes: what was left out, and why.
    """

    name: str
    split: str
    anchor: float
    sheets: dict[str, Sheet]
    temperature: dict[str, Temperature | None]
    imperfect: list[ImperfectScore] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; a figure that is infinite is null."""
        plain: dict[str, Any] = finite(asdict(self))
        return {**plain, "anchor": anchor_name(self.anchor)}


def score_teacher(
    store: Store,
    name: str,
    config: ScoreConfig,
    *,
    device: str = "cpu",
    progress: Progress = silent,
) -> TeacherScore:
    """Score stored soft targets, or the trained teacher in a folder.

    Args:
        store: whose labels are read.
        name: of soft targets in the store; else a teacher's folder.
        config: what is scored.
        device: torch device of teachers that use one.
        progress: called with histories done.

    Raises:
        MissingKey: neither such targets nor such a folder, or no such split.
        MissingTarget: no segment of the split has a target.
        BadConfig: a setting that these targets do not allow, or a split with too few videos.
        NotFound, BadCheckpoint: see `base.load_teacher` and `Predictions.load`.
        FingerprintMismatch: predictions for other classes or segments; see `noise.recognized`.
    """
    store.labels(config.split)  # refused here, before anything is read
    if name in store.target_names():
        return _score_stored(store, name, config)
    if not (Path(name) / SETTINGS_FILE).is_file():
        raise MissingKey(
            "neither soft targets of the store nor the folder of a teacher",
            where=name,
            expected=", ".join(store.target_names()),
            hint="antcache teacher train",
        )
    teacher, _ = load_teacher(Path(name), store.taxonomy, device=device)
    return _score_trained(store, name, teacher, config, progress)


def _score_stored(store: Store, name: str, config: ScoreConfig) -> TeacherScore:
    where, notes = f"targets/{name}", []
    if config.noise or config.recognized:
        raise BadConfig(
            "imperfect histories need the teacher itself, not its stored targets",
            where=where,
            hint="give the teacher's folder",
        )
    targets = store.targets(name)
    scored = _stored(store, targets, config.split, where)
    if scored.depth < min(max(config.coverage), len(store.taxonomy.actions)):
        notes.append(f"{where} holds the {scored.depth} best classes: coverage ends there")
    train = str(targets.attributes.get("train_split", "train"))
    crossed = bool(targets.attributes.get("folds"))
    split = _held_out(store, config, train, where, notes, crossed=crossed)
    scored_on = partial(_stored, store, targets, where=where)
    return TeacherScore(
        name=where,
        split=config.split,
        anchor=scored.anchor,
        sheets={STORED: fill_sheet(scored, sampling=config.sampling, ks=config.coverage)},
        temperature={STORED: _temperature(scored, config, split, scored_on)},
        notes=notes,
    )


def _stored(store: Store, targets: SoftTargets, split: str, where: str) -> Scored:
    """Soft targets for the segments of a split."""
    segments, classes = store.labels(split), len(store.taxonomy.actions)
    found = targets.rows_for(segments.uid)
    rows = np.flatnonzero(found >= 0)
    if not len(rows):
        raise MissingTarget(f"no soft target for any segment of {split!r}", where=where)
    return Scored(
        segments=segments,
        taxonomy=store.taxonomy,
        rows=rows,
        scores=target_scores(targets, found[rows], classes),
        logits=target_logits(targets, found[rows], classes),
        depth=classes if targets.index is None else targets.index.shape[1],
        anchor=anchor_of(targets.attributes),
        usual=store.protocol,
    )


def _score_trained(
    store: Store, name: str, teacher: Teacher, config: ScoreConfig, progress: Progress
) -> TeacherScore:
    notes: list[str] = []
    split = _held_out(store, config, "train", name, notes, crossed=False)
    scorer = SplitScorer(store, config.split, teacher)
    labels = list(_labels(scorer.timeline, config))
    done, total = 0, len(config.histories) * (1 + len(labels))
    sheets, temperatures, imperfect = {}, {}, []
    for mode in config.histories:
        progress("histories", done, total)
        history = history_for(store, mode, config.gap_s, config.anchor)
        scored = scorer.predict(history)

        def scored_on(split: str, history: HistoryConfig = history) -> Scored:
            return SplitScorer(store, split, teacher).predict(history)

        sheets[mode] = fill_sheet(scored, sampling=config.sampling, ks=config.coverage)
        temperatures[mode] = _temperature(scored, config, split, scored_on)
        done += 1
        for kind, rate, actions in labels:
            progress("histories", done, total)
            imperfect.append(scorer.score_imperfect(kind, rate, actions, history))
            done += 1
    progress("histories", total, total)
    return TeacherScore(
        name=name,
        split=config.split,
        anchor=history_for(store, anchor=config.anchor).anchor,
        sheets=sheets,
        temperature=temperatures,
        imperfect=imperfect,
        notes=notes,
    )


def _labels(
    timeline: Timeline, config: ScoreConfig
) -> Iterator[tuple[str, float | None, NDArray[np.int64]]]:
    """Kind, rate and labels (N,) of the past segments, for each row of imperfect histories."""
    true = timeline.segments.action
    if config.noise or config.recognized:
        yield "true", 0.0, true
    for kind in noise_kinds(timeline.taxonomy):
        for rate in sorted(set(config.noise) - {0.0}):
            seed = config.sampling.seed
            yield kind, rate, corrupt(true, timeline.taxonomy, rate, kind=kind, seed=seed)
    if config.recognized:
        predictions = [Predictions.load(path) for path in config.recognized]
        yield "recognized", None, recognized(timeline, predictions)


def _held_out(
    store: Store, config: ScoreConfig, train: str, where: str, notes: list[str], *, crossed: bool
) -> str | None:
    """The split that a temperature may be fitted on, or None, with a note why.

    Raises:
        BadConfig: the split that was asked for is the one that the teacher was trained on.
    """
    if config.held_out is not None:
        store.labels(config.held_out)
        if config.held_out == train and not crossed:
            raise BadConfig(
                f"no temperature can be fitted on {train!r}: the teacher was trained on it",
                where=where,
                hint="choose another split, or targets with folds",
            )
        return config.held_out
    if crossed and train in store.splits() and train != config.split:
        return train
    note = f"{where}: no temperature, as no split is held out of the training"
    if config.split != train or crossed:
        note += f" (--held-out {config.split} fits that of a segment on other videos)"
    notes.append(note)
    return None


def _temperature(
    scored: Scored, config: ScoreConfig, split: str | None, scored_on: Callable[[str], Scored]
) -> Temperature | None:
    """The temperature fitted on `split`, and calibration at it; None without a split."""
    if split is None:
        return None
    segments = scored.predicted
    if split == config.split:
        warmth = cross_fitted_temperatures(
            scored.logits, segments.action, segments.video, seed=config.sampling.seed
        )
        source = f"other videos of {split}"
    else:
        held = scored_on(split)
        warmth = np.full(len(segments), fit_temperature(held.logits, held.predicted.action))
        source = split
    return Temperature(
        value=float(warmth.mean()),
        fitted_on=source,
        after=calibration(scored.logits, segments.action, warmth),
    )
