"""Students on 50 Salads, each trained once and kept in a work folder, and their teachers.

Promise: a run is one student with one seed on one store (`salads_data.make_store`); its scores of
the segments that are asked for are kept (`<key>.npz`), so that an interrupted benchmark goes on
where it stopped, and several processes can share the work. Delete the work folder to measure anew.
Letters: N segments, C actions.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from distillation_runs import equal_entropy_smoothing, shuffled
from numpy.typing import NDArray
from salads_data import MEMORY, SCORES, make_store
from salads_rivals import rows_of

from antcache.annotations import Segments
from antcache.evaluation.metrics import true_class_ranks
from antcache.files.locks import hold
from antcache.store import Store
from antcache.student.config import StudentConfig, read_settings
from antcache.student.runs.train import train
from antcache.teacher.mixing.ensemble import EnsembleConfig, ensemble
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import history_for, teach

Settings = dict[str, Any]
Scores = NDArray[np.float32]
Ints = NDArray[np.int64]
BASE = StudentConfig.of(
    lr=4e-3,
    epochs=20,
    batch_size=256,
    evaluate_every=1000,
    precision="float32",
    allow_missing=True,
    device="cpu",
)
"""What all students share."""
LIGHT: Settings = {"head": "light", "layers": 1, "heads": 4, "width": 64, "dropout": 0.5}
LINEAR: Settings = {"head": "mean", "dropout": 0.5, "weight_decay": 0.5}
ROW: Settings = {"stream": [MEMORY], "num_frames": 1, "rate": 1.0}
GAPS = [0.5, 1.0, 2.0, 3.0, 5.0]
"""Other moments than the one that is scored, in seconds before the start."""

TEACHERS: dict[str, Settings] = {
    "count": {},
    "sequence": {"width": 64, "layers": 1, "batch": 128, "epochs": 12},
}
JOINT = "joint"
SHUFFLED = "-shuffled"
PAPER: Settings = {"targets": ["sequence"], "temperature": 10.0, "weight": 150 / 17}
"""As on EGTEA Gaze+: in-sample targets of one network, all classes; its weight 150, in ours."""

PLAIN, OURS, SMOOTHING = "labels alone", "ours", "smoothing"
TRIALS: dict[str, dict[str, tuple[tuple[Settings, ...], ...]]] = {
    "window": {
        PLAIN: (
            (
                {"stream": [SCORES], **LIGHT},
                {"stream": [SCORES], **LIGHT, "rate": 1.0},
            ),
            ({}, {"gaps": GAPS}),
        ),
        OURS: (
            ({"targets": ["count"]},),
            ({}, {"targets": [JOINT]}),
            ({}, {"weight": 10.0}),
        ),
    },
    "memory": {
        PLAIN: (({**ROW, **LINEAR}, {**ROW, **LINEAR, "dropout": 0.8}), ({}, {"gaps": GAPS})),
        OURS: (
            ({"targets": ["count"], "weight": 1.0, "temperature": 1.0},),
            ({}, {"targets": [JOINT]}),
            ({}, {"weight": 3.0, "temperature": 2.0}),
        ),
    },
}
"""What is tried, stage by stage: each changes the best so far; `ours` begins with what labels alone
have chosen. Both have three trials."""


def asked(store: Store) -> Segments:
    """Validation segments before which there is something to be seen, in order of the labels."""
    labels = store.labels("validation")
    rows = np.empty(len(labels), dtype=np.int64)
    for video in labels.videos:
        own = labels.video == video
        rows[own] = rows_of(store, str(video), labels[np.flatnonzero(own)])
    return labels[np.flatnonzero(rows >= 0)]


@functools.cache
def asked_without(work: Path, held: tuple[int, ...]) -> Segments:
    """`asked` of the store without these splits."""
    return asked(make_store(work, held))


@functools.cache
def inner_rows(work: Path, fold: int, other: int) -> Ints:
    """Which of the segments of the store without both belong to the split `other`."""
    videos = make_store(work, (other,)).labels("validation").videos
    return np.flatnonzero(np.isin(asked_without(work, pair(fold, other)).video, videos))


def pair(fold: int, other: int) -> tuple[int, ...]:
    """Both, in order."""
    return tuple(sorted((fold, other)))


def require_targets(store: Store, name: str) -> None:
    """Write these soft targets into the store unless they are there; teachers lie beside it."""
    if name in store.target_names():
        return
    folder = Path(str(store.path)).with_suffix(".teachers") / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(SHUFFLED):
        straight = name.removesuffix(SHUFFLED)
        require_targets(store, straight)
        store.write_targets(name, shuffled(store, straight))
    elif name == JOINT:
        for member in TEACHERS:
            require_targets(store, member)
        ensemble(store, name, EnsembleConfig(members=tuple(TEACHERS)), folder, overwrite=True)
    else:
        config = TargetConfig(kind=name, settings=TEACHERS[name], history=history_for(store))
        teach(store, name, config, folder, overwrite=True)


def alone(work: Path, held: tuple[int, ...]) -> AbstractContextManager[bool]:
    """One process at a time for each store: another one may be writing the same targets."""
    make_store(work, held)
    return hold(work / f".students-{'-'.join(map(str, held))}.lock", wait=True)


def student(work: Path, held: tuple[int, ...], settings: Settings, seed: int) -> Scores:
    """Logits (N, C) of a student for the segments `asked` of the store without `held`.

    It is trained now unless it is kept; teachers are trained as they are needed.
    """
    given = {"epochs": BASE.optimization.epochs, **settings}
    about = json.dumps([held, given, seed], sort_keys=True)
    kept = work / f"student-{hashlib.blake2b(about.encode(), digest_size=8).hexdigest()}.npz"
    if not kept.is_file():
        with alone(work, held):
            if not kept.is_file():
                _train(work, held, settings, seed, kept)
    with np.load(kept) as arrays:
        scores: Scores = arrays["scores"]
    return scores


def _train(work: Path, held: tuple[int, ...], settings: Settings, seed: int, kept: Path) -> None:
    """Train a student and keep its scores."""
    store = make_store(work, held)
    config = BASE.replace(**read_settings(settings), seed=seed)
    for name in config.distillation.targets:
        require_targets(store, name)
    predictions = train(store, None, config).predictions
    row_of = {uid: row for row, uid in enumerate(predictions.uid.tolist())}
    wanted = asked_without(work, held).uid.tolist()
    assert set(wanted) == set(row_of), "a student is asked for other segments"
    staged = work / f".{os.getpid()}-{kept.name}"
    np.savez(staged, scores=predictions.scores[[row_of[uid] for uid in wanted]])
    staged.rename(kept)
    print(f"trained without {held}, seed {seed}: {settings}", flush=True)


def reciprocal_rank(scores: NDArray[np.floating], segments: Segments) -> float:
    """Mean of 1 / rank of the true action, in percent: by this, what is tried is compared."""
    return float(100 * np.mean(1 / (1 + true_class_ranks(scores, segments.action))))


def choose(work: Path, fold: int, numbers: list[int], stages: Any, begin: Settings) -> Settings:
    """The settings that are best on the training videos of a fold, after all stages."""
    best, reached = dict(begin), -1.0
    for stage, options in enumerate(stages):
        changed = [{**best, **option} for option in options]
        if stage and {} in options:
            changed.remove(best)
        for settings in changed:
            values = []
            for other in numbers:
                if other != fold:
                    held, inner = pair(fold, other), inner_rows(work, fold, other)
                    segments = asked_without(work, held)[inner]
                    scores = student(work, held, settings, 0)[inner]
                    values.append(reciprocal_rank(scores, segments))
            if np.mean(values) > reached:
                best, reached = settings, float(np.mean(values))
    return best


def conditions(work: Path, fold: int, plain: Settings, ours: Settings) -> Mapping[str, Settings]:
    """Settings of a fold's students by condition."""
    store = make_store(work, (fold,))
    (name,) = ours["targets"]
    with alone(work, (fold,)):
        require_targets(store, name)
    # What the student's defaults are where a trial did not say.
    weight = BASE.replace(**read_settings(ours)).distillation.weight
    smoothing = equal_entropy_smoothing(store, {"targets": name, "weight": weight})
    taught = ("targets", "weight", "temperature")
    return {
        PLAIN: plain,
        SMOOTHING: {
            **{k: v for k, v in ours.items() if k not in taught},
            "label_smoothing": round(smoothing, 4),
        },
        "paper": {**plain, **PAPER},
        OURS: ours,
        "shuffled": {**ours, "targets": [name + SHUFFLED]},
    }
