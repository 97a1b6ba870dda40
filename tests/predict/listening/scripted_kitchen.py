"""A store in which what comes next depends on what a short window does not see: how it began."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from antcache.annotations import Protocol, Segments, Taxonomy
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.recognition import recogniser
from antcache.student.runs.train import train
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import history_for, teach

NAMES = ("wash", "peel", "cut", "fry", "serve", "eat")
CLASSES, DIM, FPS, NOISE, HINT = len(NAMES), 10, 2.0, 1.2, 0.5
TAXONOMY = Taxonomy(
    dataset="own", verbs=(), nouns=(), actions=NAMES, action_verbs=(), action_nouns=()
)
SCRIPTS = ((0, 2, 4, 5), (1, 2, 3, 5))
"""Whether `fry` or `serve` comes after `cut` depends on what came before it; two videos in five do
as it likes, and only what is seen of the next action tells."""

SMALL: dict[str, Any] = {
    "head": "gru",
    "width": 16,
    "epochs": 10,
    "batch_size": 16,
    "lr": 1e-2,
    "device": "cpu",
    "precision": "float32",
    "held_out": 0.3,
    "metric": "action/top1",
}


@dataclass(frozen=True)
class Scripted:
    """A store, runs on it, and a teacher."""

    store: Store
    student: Path
    recogniser: Path
    teacher: Path


def split_of(prefix: str, videos: int, rng: np.random.Generator) -> Segments:
    """Videos of a script each, whose actions last 5 to 8 s."""
    rows = []
    for number in range(videos):
        start = 0.0
        actions = list(SCRIPTS[int(rng.integers(2))])
        if rng.random() < 0.4:
            actions[2:] = rng.permutation([3, 4, 5])[:2].tolist()
        for action in actions:
            stop = start + int(rng.integers(5, 9))
            rows.append((f"{prefix}{number}_{action}", f"{prefix}{number}", start, stop, action))
            start = stop
    uid, video, start_s, stop_s, action = zip(*rows, strict=True)
    none = [-1] * len(uid)
    return Segments.of(
        uid=uid, video=video, start_s=start_s, stop_s=stop_s, verb=none, noun=none, action=action
    )


def scripted_store(path: Path, stream: str = "rgb") -> Store:
    """Rows show the action under way, something of the next one, and noise; windows are of three
    seconds."""
    rng = np.random.default_rng(0)
    splits = {"train": split_of("t", 50, rng), "validation": split_of("v", 16, rng)}
    store = Store.create(path)
    protocol = Protocol(gap_s=1.0, num_frames=6, rate=2.0)
    store.write_splits(splits, TAXONOMY, source="a test", protocol=protocol)
    write_stream(store, stream, splits.values())
    return store


def write_stream(store: Store, stream: str, splits: Any, seed: int = 1, **config: Any) -> None:
    """A stream of the videos of some segments."""
    rng = np.random.default_rng(seed)
    directions, hints = rng.standard_normal((2, CLASSES, DIM))
    store.create_stream(stream, dim=DIM, dtype="float32", fps=FPS, source="made up", config=config)
    for segments in splits:
        for video in segments.videos:
            own = segments[segments.video == video]
            seconds = np.arange(int(own.stop_s.max() * FPS)) / FPS
            place = (seconds[:, None] >= own.start_s).sum(axis=1) - 1
            after = own.action[np.minimum(place + 1, len(own) - 1)]
            rows = directions[own.action[place]] + HINT * hints[after]
            rows += NOISE * rng.standard_normal((len(seconds), DIM))
            store.write_features(stream, video, rows.astype(np.float32))


def scripted(
    folder: Path, change: Callable[[StudentConfig], StudentConfig] = lambda config: config
) -> Scripted:
    """The store, and what is trained on it."""
    store = scripted_store(folder / "store.zarr")
    config = change(StudentConfig.of(**SMALL))
    train(store, folder / "student", config)
    train(store, folder / "recogniser", recogniser(config))
    teacher = TargetConfig(kind="count", history=history_for(store))
    teach(store, "count", teacher, folder / "teacher")
    return Scripted(
        store=store,
        student=folder / "student",
        recogniser=folder / "recogniser",
        teacher=folder / "teacher",
    )
