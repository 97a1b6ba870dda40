"""Trainings of teachers that several figures share, each done once and kept in a work folder.

Promise: a run is one teacher with one seed on one kind of history of one dataset. Its scores of all
segments it may be judged on are kept (`<key>.npz`, `<key>.json`), so that an interrupted benchmark
goes on where it stopped and ensembles need no training; other settings are another run. Delete the
work folder to measure anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from language_models import with_model
from numpy.typing import NDArray
from other_labels import BREAKFAST, COOK, SALADS, other_timeline
from record import DATA, Figure

from antcache.annotations import protocol_for, read_annotations
from antcache.annotations.taxonomy import KINDS
from antcache.devices import pick_device
from antcache.evaluation.lists import ListFiles, participants, with_tail
from antcache.evaluation.metrics import score
from antcache.teacher.base import make_teacher
from antcache.teacher.histories import HistoryConfig, Timeline
from antcache.teacher.targets import examples_for

WORK = Path(__file__).resolve().parent / "work"
EK55, EK100, EGTEA = "epic-kitchens-55", "epic-kitchens-100", "egtea"
UNSEEN = "participants without a training video: "
FOLDERS = {EK55: "epic-kitchens-55", EK100: "epic-kitchens-100/rulstm", EGTEA: "egtea"}
SINGLE = {
    "top-1": "action/top1",
    "top-5": "action/top5",
    "class-mean top-1": "action/class_mean_top1",
}
METRICS = {
    EK55: {
        "top-1": "action/top1",
        "top-5": "action/top5",
        "many-shot recall@5": "action/many_shot_recall@5",
    },
    EGTEA: {
        "top-1": "action/top1",
        "top-5": "action/top5",
        "class-mean top-1": "action/class_mean_top1",
        "class-mean recall@5": "action/recall@5",
    },
    EK100: {
        "top-1": "action/top1",
        "top-5": "action/top5",
        "recall@5": "action/recall@5",
        "tail recall@5": "action/tail_recall@5",
        "unseen recall@5": f"{UNSEEN}action/recall@5",
    },
    **dict.fromkeys((*BREAKFAST, *SALADS, COOK), SINGLE),
}
FOLDS, FOLD_SEED = 5, 0


@dataclass(frozen=True, kw_only=True)
class TeacherRun:
    """One training.

    Attributes:
        dataset: a key of `METRICS`.
        kind: kind of the teacher.
        history: mode of its histories, the same in training and after.
        seed: of the teacher.
        settings: what differs from the kind's default settings.
        held_out: leave one of five folds of the training videos out, and score it as well.
        training: score the training split too: `in-sample`, or `cross-fitted` on two folds of
            videos; empty: not at all.
    """

    dataset: str
    kind: str
    history: str
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    held_out: bool = False
    training: str = ""

    @property
    def key(self) -> str:
        """Hash of all settings."""
        fields = {name: value for name, value in asdict(self).items() if value != ""}
        text = json.dumps(fields, sort_keys=True, default=str)
        return f"{self.kind}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


@functools.cache
def timeline(dataset: str) -> Timeline:
    """All segments of the dataset."""
    if dataset not in FOLDERS:
        return other_timeline(dataset, DATA)
    read = read_annotations(dataset, DATA / FOLDERS[dataset])
    taxonomy = read.taxonomy
    if dataset == EK100:  # in RULSTM's form, the lists lie elsewhere
        official = DATA / "epic-kitchens-100/official"
        lists = {f"tail_{kind}s": official / f"EPIC_100_tail_{kind}s.csv" for kind in KINDS[1:]}
        taxonomy = with_tail(taxonomy, ListFiles(**lists))
    return Timeline.of(read.splits, taxonomy)


def rows_of(run: TeacherRun) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the timeline that are trained on, held out, and validated on."""
    line = timeline(run.dataset)
    train = np.flatnonzero(line.split == "train")
    validation = np.flatnonzero(line.split == "validation")
    if not run.held_out:
        return train, train[:0], validation
    fold = line.examples(HistoryConfig(mode=run.history), 1)[train].folds(FOLDS, FOLD_SEED)
    return train[fold != 0], train[fold == 0], validation


@dataclass(frozen=True, kw_only=True)
class TeacherOutcome:
    """Scores of a run, `held_out` (H, C), `validation` (N, C) and `training` (M, C), H or M being 0
    where they were not asked for; `seconds` of its training."""

    held_out: NDArray[np.float32]
    validation: NDArray[np.float32]
    training: NDArray[np.float32]
    seconds: float


def outcome(run: TeacherRun, work: Path) -> TeacherOutcome:
    """The run's scores, trained now unless they are kept."""
    work.mkdir(parents=True, exist_ok=True)
    kept = work / f"{run.key}.npz"
    if not kept.is_file():
        print(f"training {run}", flush=True)
        staged = work / f".{run.key}.{os.getpid()}.npz"
        np.savez(staged, **_trained(run, work))
        staged.rename(kept)
        (work / f"{run.key}.json").write_text(json.dumps(asdict(run), indent=1, default=str))
    with np.load(kept) as arrays:
        return TeacherOutcome(
            held_out=arrays["held_out"],
            validation=arrays["validation"],
            training=arrays["training"] if "training" in arrays else arrays["validation"][:0],
            seconds=float(arrays["seconds"]),
        )


def _trained(run: TeacherRun, work: Path) -> dict[str, Any]:
    """Train the run's teacher, and score what is asked for; arrays named as in `TeacherOutcome`."""
    line = timeline(run.dataset)
    settings = with_model(run.settings, work)
    device = str(pick_device("auto"))
    teacher = make_teacher(run.kind, line.taxonomy, {**settings, "seed": run.seed}, device=device)
    config = HistoryConfig(mode=run.history, gap_s=protocol_for(run.dataset).gap_s)
    examples = examples_for(teacher, line, config)
    train, held_out, validation = rows_of(run)
    empty = np.empty((0, len(line.taxonomy.actions)), dtype=np.float32)
    scored = {"training": empty}
    started = time.perf_counter()
    if run.training == "cross-fitted":
        scored["training"] = np.empty((len(train), empty.shape[1]), dtype=np.float32)
        fold = examples[train].folds(2, FOLD_SEED)
        for k in range(2):
            teacher.fit(examples[train[fold != k]])
            scored["training"][fold == k] = teacher.predict(examples[train[fold == k]]).logits
    else:
        teacher.fit(examples[train])
        if run.training:
            scored["training"] = teacher.predict(examples[train]).logits
    seconds = time.perf_counter() - started
    scored["held_out"] = teacher.predict(examples[held_out]).logits if len(held_out) else empty
    return {
        **scored,
        "validation": teacher.predict(examples[validation]).logits,
        "seconds": seconds,
    }


def metrics(dataset: str, logits: NDArray[np.float32]) -> list[float]:
    """The dataset's `METRICS` of validation logits (N, C), in percent."""
    line = timeline(dataset)
    segments = line.segments[line.split == "validation"]
    figures = score(logits, segments, line.taxonomy)
    if dataset == EK100:
        seen = np.isin(participants(segments), participants(line.segments[line.split == "train"]))
        unseen = np.flatnonzero(~seen)
        own = score(logits[unseen], segments[unseen], line.taxonomy)
        figures |= {f"{UNSEEN}{name}": value for name, value in own.items()}
    return [figures[key] for key in METRICS[dataset].values()]


def figures(
    name: str, dataset: str, values: list[list[float]], bounds: tuple[float, ...] | None = None
) -> list[Figure]:
    """Mean and deviation over runs of each metric, `NAME: METRIC`."""
    runs = len(values)
    spread = np.std(values, axis=0, ddof=1) if runs > 1 else [None] * len(values[0])
    shown = " / ".join(f"{v:.2f}" for v in np.mean(values, axis=0))
    print(f"{name}: {shown} ({runs} runs)", flush=True)
    return [
        Figure(
            figure=f"{name}: {metric}",
            value=round(float(mean), 3),
            unit="percent",
            at_least=None if bounds is None else bounds[i],
            spread=None if deviation is None else round(float(deviation), 3),
            n=runs,
        )
        for i, (metric, mean, deviation) in enumerate(
            zip(METRICS[dataset], np.mean(values, axis=0), spread, strict=True)
        )
    ]
