"""How much a listening teacher counts beside a student: weights from videos neither learned from.

Promise: the weights are learned on the videos that the student's run held out of its training, by a
recogniser that held them out, too, and by a teacher of the same settings that is trained without
them; so is the temperature of the recogniser. What is kept and scored on the validation split is
the teacher as it was trained. The folder appears as a whole or not at all.
Letters: N segments, C actions, H held-out segments.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments
from antcache.annotations.protocols import anchor_name
from antcache.errors import BadCheckpoint, BadConfig, MissingFeature, NotFound
from antcache.evaluation import Predictions, score
from antcache.evaluation.calibration import fit_temperature
from antcache.evaluation.fusion import fuse
from antcache.evaluation.mixture_weights import FITTED
from antcache.evaluation.predictions import FILE_NAME, HELD_OUT
from antcache.evaluation.scoring import load_predictions, rows_in
from antcache.files import atomic_folder
from antcache.predict.listening.hearing import (
    FrameEvidence,
    Hearing,
    ListenConfig,
    log_prior,
    ticks_of,
)
from antcache.predict.listening.listener import (
    ARRAYS,
    HEARD,
    HEARD_HELD_OUT,
    OUTPUT,
    RECOGNISER,
    SETTINGS,
    TEACHER,
    KnownPast,
    mark_of,
    write_past,
    write_settings,
)
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.handing.exporting import export_student
from antcache.student.runs.kept import read_account
from antcache.student.runs.place import CONFIG, RESULT, read_config
from antcache.student.runs.predicting import TrainedStudent
from antcache.teacher.base import Teacher, load_teacher, save_teacher
from antcache.teacher.histories import HistoryConfig, Timeline
from antcache.teacher.recognizing.beam import GuessedHistory
from antcache.teacher.scripts import Scripts
from antcache.teacher.targets import trained_without

log = logging.getLogger(__name__)
STUDENT, ALONE, BOTH = "student", "teacher, past recognised", "student and teacher"


@dataclass(frozen=True, kw_only=True)
class Listened:
    """What came of it.

    Attributes:
        folder: of the listening teacher.
        weights: of the student and of the teacher, together 1.
        nll: mean -log p(truth) of the held-out segments, nats: of the student, of the teacher, of
            both together.
        held_out: how many segments the weights were learned on, H.
        metrics: by `STUDENT`, `ALONE` and `BOTH`, of the validation segments; see
            `evaluation.score`.
        predictions: of both together, of the validation segments.
    """

    folder: Path
    weights: tuple[float, float]
    nll: tuple[float, ...]
    held_out: int
    metrics: dict[str, dict[str, float]]
    predictions: Predictions

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the scores."""
        return {
            "folder": str(self.folder),
            "weights": dict(zip((STUDENT, "teacher"), self.weights, strict=True)),
            "nll": dict(zip((STUDENT, ALONE, BOTH), self.nll, strict=True)),
            "held_out": self.held_out,
            "segments": len(self.predictions),
            **self.predictions.task.to_dict(),
            "metrics": self.metrics,
        }


def listen(
    store: Store,
    student: Path,
    recogniser: Path,
    teacher: Path,
    folder: Path,
    *,
    config: ListenConfig | None = None,
    scripts: Scripts | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Listened:
    """Let a teacher hear a recogniser, and learn how much both count beside a student.

    Args:
        store: which has the features of student and recogniser.
        student: folder of its run, which held videos out.
        recogniser: folder of its run, which held these videos out as well.
        teacher: folder of a trained teacher.
        folder: where the listening teacher is kept.
        config: how it hears; None: as usual.
        scripts: that the teacher was trained on beside the videos, if any.
        device: torch device of recogniser and teacher.
        overwrite: replace the listening teacher that is there.
        progress: called with `videos` heard, and with the epochs of the teacher.

    Raises:
        AlreadyExists: something is at `folder`.
        NotFound: a run or teacher is not there, or the student's run held nothing out.
        BadCheckpoint: it can't be read.
        BadConfig: the runs are none of these, the student's anchor is not the start, the recogniser
            was trained on videos that the student's run held out, or the teacher needs times.
        FingerprintMismatch: they are for other classes or features than the store's.
        MissingFeature: the recogniser's stream lacks a video.
        WriteFailed: the disk refused; nothing was changed.
    """
    OUTPUT.check(folder, overwrite=overwrite)
    config = ListenConfig() if config is None else config
    run = _Anticipating.of(store, student)
    hears = TrainedStudent(store, recogniser, device=device, allow_missing=True)
    _check_recogniser(recogniser, hears, run)
    told, history = load_teacher(teacher, store.taxonomy, device=device)
    timeline, train = Timeline.of_store(store), store.labels(run.train_split)
    away = _held_out_of(recogniser)
    prior = log_prior(train.action[~np.isin(train.video, away)], len(store.taxonomy.actions))
    past = KnownPast.of(train, prior)
    kept = past.guessing(told, config, run.protocol.gap_s)  # refuses what can't listen, at once
    apart = KnownPast.of(train[~np.isin(train.video, list(run.videos))], prior).guessing(
        _apart(told, timeline, history, run, scripts, device, progress),
        config,
        run.protocol.gap_s,
    )
    evidence = FrameEvidence(prior=prior, temperature=_temperature(store, recogniser))
    log.info("the recogniser's temperature is %.3f", evidence.temperature)
    heard = _Heard(store=store, recogniser=hears, config=config, evidence=evidence, run=run)
    with atomic_folder(folder, OUTPUT, overwrite=overwrite) as staged:
        for name, guessed, predictions in (
            (HEARD_HELD_OUT, apart, run.held_out),
            (HEARD, kept, run.predictions),
        ):
            account = {"teacher": told.kind, "history": "recognised"}
            heard.predictions(predictions, guessed, account, progress).save(staged / name)
        both = fuse(
            store,
            [str(student), str(staged / HEARD)],
            weights=FITTED,
            held_out=[str(student / HELD_OUT), str(staged / HEARD_HELD_OUT)],
            mixture=config.mixture,
        )
        weights = (both.weights[0], both.weights[1])
        names = [str(student), str(folder / HEARD)]
        fused = replace(both.predictions, config={**both.predictions.config, "fused": names})
        fused.save(staged / FILE_NAME)
        export_student(recogniser, staged / RECOGNISER)
        save_teacher(told, history, staged / TEACHER)
        write_past(staged / ARRAYS, past)
        write_settings(
            staged / SETTINGS,
            config,
            weights=weights,
            gap_s=run.protocol.gap_s,
            temperature=evidence.temperature,
            student=run.mark,
            nll=list(both.nll),
            held_out=both.held_out,
        )
        alone = Predictions.load(staged / HEARD)
    return Listened(
        folder=folder,
        weights=weights,
        nll=both.nll,
        held_out=both.held_out,
        metrics={
            STUDENT: _scored(store, run.predictions),
            ALONE: _scored(store, alone),
            BOTH: _scored(store, fused),
        },
        predictions=fused,
    )


@dataclass(frozen=True, kw_only=True)
class _Anticipating:
    """The student's run, as far as it matters here.

    Attributes:
        protocol: its windows.
        predictions: of the validation segments.
        held_out: of the segments held out.
        videos: names of the videos held out.
        train_split: of which these are.
        mark: see `listener.mark_of`.
    """

    protocol: Protocol
    predictions: Predictions
    held_out: Predictions
    videos: frozenset[str]
    train_split: str
    mark: str

    @classmethod
    def of(cls, store: Store, folder: Path) -> _Anticipating:
        config: StudentConfig = read_config(folder)
        account = read_account(folder)
        protocol: Protocol = account["protocol"]
        if protocol.recognises or protocol.anchor != 0:
            raise BadConfig(
                "a teacher that listens says what begins next",
                where=folder,
                expected="a student that anticipates the start of actions",
                found="a recogniser"
                if protocol.recognises
                else f"the anchor {anchor_name(protocol.anchor)}",
            )
        if not (folder / HELD_OUT).is_file():
            raise NotFound(
                "no predictions of held-out videos, by which weights are learned",
                where=folder / HELD_OUT,
                hint="train the student with --held-out",
            )
        predictions = load_predictions(store, str(folder))
        held = load_predictions(store, str(folder / HELD_OUT))
        labels = store.labels(held.split)
        return cls(
            protocol=protocol,
            predictions=predictions,
            held_out=held,
            videos=frozenset(labels.video[rows_in(held, labels, str(folder))].tolist()),
            train_split=held.split,
            mark=mark_of(config, protocol, account["stream fingerprint"], account["taxonomy"]),
        )


def _check_recogniser(folder: Path, found: TrainedStudent, run: _Anticipating) -> None:
    """Refuse a run that recognises nothing, or that has learned from the videos held out.

    Raises:
        BadConfig: says which.
        NotFound: the run is not finished.
    """
    if not found.protocol.recognises:
        raise BadConfig(
            "this run anticipates, and recognises nothing",
            where=folder,
            expected="a run of antcache student recognise",
        )
    split = found.config.data.train_split
    if split != run.train_split:
        raise BadConfig(
            "the recogniser was trained on another split than the student",
            where=folder,
            expected=run.train_split,
            found=split,
        )
    if not (folder / RESULT).is_file():
        raise NotFound(
            "the recogniser's run is not finished",
            where=folder,
            hint="antcache student recognise --resume trains it to its end",
        )
    seen = sorted(run.videos.difference(_held_out_of(folder)))
    if seen:
        raise BadConfig(
            "the recogniser was trained on videos that the student's run held out",
            where=folder,
            expected="none, so that weights can be learned on them",
            found=f"{len(seen)} of {len(run.videos)}, the first one {seen[0]}",
            hint="train it with as large a --held-out",
        )


def _held_out_of(folder: Path) -> list[str]:
    """The videos that a run held out."""
    names = read_account(folder).get("held out", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadCheckpoint(
            "the run's account can't be read", where=folder / CONFIG, expected="held out: names"
        )
    return names


def _temperature(store: Store, folder: Path) -> float:
    """That of a recogniser's scores, fitted on the moments that its run held out."""
    held = load_predictions(store, str(folder / HELD_OUT))
    labels = store.labels(held.split)
    rows = rows_in(held, labels, str(folder / HELD_OUT))
    return fit_temperature(held.scores, labels.action[rows])


def _apart(
    told: Teacher,
    timeline: Timeline,
    history: HistoryConfig,
    run: _Anticipating,
    scripts: Scripts | None,
    device: str,
    progress: Progress,
) -> Teacher:
    """The teacher, trained without the videos held out."""
    log.info("a %s teacher is trained without %d videos", told.kind, len(run.videos))
    return trained_without(
        told,
        timeline,
        history,
        run.videos,
        train_split=run.train_split,
        scripts=scripts,
        device=device,
        progress=progress,
    )


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """What teachers say of a store's videos that are recognised."""

    store: Store
    recogniser: TrainedStudent
    config: ListenConfig
    evidence: FrameEvidence
    run: _Anticipating

    def predictions(
        self,
        of: Predictions,
        guessed: GuessedHistory,
        account: Mapping[str, Any],
        progress: Progress,
    ) -> Predictions:
        """What is expected of the segments that a student predicted, at the same times."""
        labels = self.store.labels(of.split)
        segments = labels[rows_in(of, labels, of.split)]
        scores = np.empty(of.scores.shape, dtype=np.float32)
        self._check_features(segments.videos)
        for number, video in enumerate(segments.videos, 1):
            own = np.flatnonzero(segments.video == video)
            scores[own] = self._expected(guessed, segments[own], video)
            progress(f"{of.split} videos", number, len(segments.videos))
        return replace(of, scores=scores, verb_scores=None, noun_scores=None, config=dict(account))

    def _expected(
        self, guessed: GuessedHistory, segments: Segments, video: str
    ) -> NDArray[np.float64]:
        protocol = self.run.protocol
        times = protocol.reference_s(segments.start_s, segments.stop_s) - protocol.gap_s
        until, every = float(times.max()), self.config.every_s
        hearing = Hearing(guessed)
        hearing.recognised(*ticks_of(self.recogniser, video, until, every, self.evidence))
        out = np.empty((len(times), len(self.evidence.prior)))
        for row in np.argsort(times, kind="stable").tolist():
            out[row] = hearing.expected(float(times[row]))
        return out

    def _check_features(self, videos: Collection[str]) -> None:
        for stream in self.recogniser.streams:
            missing = sorted(set(videos).difference(self.store.videos(stream.name)))
            if missing:
                raise MissingFeature(
                    "the recogniser's stream lacks videos that the student was asked about",
                    where=f"{self.store.path}: features/{stream.name}",
                    found=f"{len(missing)} of {len(videos)}, the first one {missing[0]}",
                )


def _scored(store: Store, predictions: Predictions) -> dict[str, float]:
    labels = store.labels(predictions.split)
    segments = labels[rows_in(predictions, labels, predictions.split)]
    pair = predictions.verb_noun_scores
    return score(predictions.scores, segments, store.taxonomy, verb_noun_scores=pair)
