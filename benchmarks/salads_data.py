"""50 Salads with the scores of a real recogniser: a store for every set of videos that is held out.

Promise: labels are the published timeline, read as MS-TCN's form; the scores of a video are those
of a recogniser that was trained without the video's split. The five splits are those by which the
scores were made (Lea et al.); MS-TCN's are others. A store holds one or two splits out
(`validation`), and has all other videos in `train`:

- one split f: the fold of f, which is what is reported.
- two, f and g: what is chosen for fold f is chosen by what was trained without f and g and scored
  on g, for every g: training videos of the fold, told nothing of its test videos. One training
  serves f and g alike.

Streams, one row a second, each row made of the scores up to its time and of no later ones:

- `scores` (18): the recogniser's scores of the 17 actions, in their order, and of the background.
- `memory` (108): what was seen so far. Of the softmax of the scores at the inverse temperature
  `SHARPNESS`: means that forget with the time constants `MEMORY_S`, and the highest that the second
  of them was so far; square roots of these.
"""

from __future__ import annotations

import csv
import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from record import DATA

from antcache.annotations import Dataset, Protocol, read_annotations
from antcache.files.locks import hold
from antcache.store import Store

Floats = NDArray[np.float64]
FOLDER = DATA / "50salads"
SCORES, MEMORY = "scores", "memory"
FPS = 1.0
PROTOCOL = Protocol(gap_s=1.0, num_frames=10, rate=2.0)
MEMORY_S = (1.0, 2.0, 5.0, 15.0, 40.0)
SHARPNESS = 2.0


def write_frames(folder: Path, source: Path) -> None:
    """The timeline in `source` written out in MS-TCN's form, a label a frame, into a new folder."""
    (folder / "groundTruth").mkdir(parents=True)
    with (source / "segments.csv").open(encoding="utf-8", newline="") as file:
        for video, rows in itertools.groupby(csv.DictReader(file), key=lambda r: r["video"]):
            lines = "".join(
                f"{r['label']}\n" * (int(r["stop_frame"]) - int(r["start_frame"])) for r in rows
            )
            (folder / "groundTruth" / f"{video}.txt").write_text(lines, "utf-8")
    shutil.copyfile(source / "mapping.txt", folder / "mapping.txt")


def published(work: Path) -> Dataset:
    """All segments, in one split: the timeline written out, and read again."""
    folder = work / "frames"
    if not folder.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        staged = work / f".{os.getpid()}-frames"
        shutil.rmtree(staged, ignore_errors=True)
        write_frames(staged, FOLDER)
        staged.rename(folder)
    return read_annotations("frames", folder)


def forgetting_mean(values: Floats, time_s: float) -> Floats:
    """Means (R, D) of the rows (R, D) up to each, older ones counting less by `time_s`."""
    means = np.empty_like(values)
    mean = np.zeros(values.shape[1])
    for row, own in enumerate(values):  # the first ones are plain means
        mean = mean + (own - mean) * max(1 / (time_s * FPS), 1 / (row + 1))
        means[row] = mean
    return means


def memory_of(scores: Floats) -> Floats:
    """Rows (R, 6 D) of what was seen so far, of scores (R, D); see the module."""
    likely = np.exp(SHARPNESS * (scores - scores.max(axis=1, keepdims=True)))
    likely /= likely.sum(axis=1, keepdims=True)
    means = [forgetting_mean(likely, time_s) for time_s in MEMORY_S]
    return np.sqrt(np.concatenate([*means, np.maximum.accumulate(means[1], axis=0)], axis=1))


def recorded() -> dict[str, NDArray[np.float32 | np.int64]]:
    """The file of scores: `VIDEO/scores` (R, D), `VIDEO/start_s`, `VIDEO/split`."""
    with np.load(FOLDER / "frame_scores_mid.npz") as file:
        return {name: file[name] for name in file.files}


def folds() -> list[int]:
    """Numbers of the splits."""
    return sorted({int(own) for name, own in recorded().items() if name.endswith("/split")})


def make_store(work: Path, held_out: Iterable[int]) -> Store:
    """The store without the videos of these splits, written into `work` unless it is there."""
    numbers = sorted(held_out)
    path = work / f"without-{'-'.join(map(str, numbers))}.zarr"
    if not path.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        with hold(work / ".stores.lock", wait=True):
            if not path.is_dir():
                _write_store(work, path, numbers)
    return Store.open(path)


def _write_store(work: Path, path: Path, numbers: list[int]) -> None:
    read = published(work)
    (everything,) = read.splits.values()
    arrays = recorded()
    home = np.array([int(arrays[f"{video}/split"]) for video in everything.video.tolist()])
    held = np.isin(home, numbers)
    staged = work / f".{os.getpid()}-{path.name}"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(features_alone(work), staged)
    splits = {"train": everything[~held], "validation": everything[held]}
    Store.open(staged).write_splits(
        splits, read.taxonomy, source="published timeline", protocol=PROTOCOL
    )
    staged.rename(path)


def features_alone(work: Path) -> Path:
    """A store of both streams without labels, written unless it is there."""
    path = work / "features.zarr"
    if path.is_dir():
        return path
    arrays, actions = recorded(), published(work).taxonomy.actions
    columns = (FOLDER / "labels_mid.txt").read_text("utf-8").split()
    order = [columns.index(label) for label in (*actions, "background")]
    staged = work / f".{os.getpid()}-{path.name}"
    shutil.rmtree(staged, ignore_errors=True)
    store = Store.create(staged, dataset="50salads")
    for stream, dim in ((SCORES, len(order)), (MEMORY, (len(MEMORY_S) + 1) * len(order))):
        store.create_stream(
            stream,
            dim=dim,
            dtype="float32",
            fps=FPS,
            source="frame-wise SVM on a spatial CNN",
            config={"forgets after": list(MEMORY_S), "sharpness": SHARPNESS}
            if stream == MEMORY
            else {},
        )
    for name in (name for name in arrays if name.endswith("/scores")):
        video = name.removesuffix("/scores")
        scores = arrays[name][:, order].astype(np.float64)
        for stream, rows in ((SCORES, scores), (MEMORY, memory_of(scores))):
            start_s = float(arrays[f"{video}/start_s"])
            store.write_features(stream, video, rows.astype(np.float32), start_s=start_s)
    staged.rename(path)
    return path
