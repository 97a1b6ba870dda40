"""Features of a SIMULATED recogniser on the real timelines: no video was looked at to make them.

Promise: videos, segments and times are those of the published annotations (EPIC-KITCHENS-55, EGTEA
Gaze+); the features are made up by the rule below and by nothing else, the same in every run. They
stand in for the real ones where those are not at hand, and say nothing about pixels.

A row seen at t is the sum of
- for every segment under way (start <= t < stop, of any split): a fixed random direction of its
  verb and one of its noun, each of length 1; nothing when none is under way,
- a random offset of length about `OFFSET`, the same for all rows of a video,
- Gaussian noise of standard deviation `NOISE` per component.
Rows are `DIM` wide, `FPS` per second, from 0 s on until the last annotated segment has stopped.

`NOISE` was set once, by `python benchmarks/distillation.py --set-noise`, on the training videos of
EPIC-KITCHENS-55: a light student trained on four fifths of them has top-5 28.5 percent on the
others, as AVT has with TSN features (`benchmarks/results/simulated_noise.json`). EGTEA Gaze+ has
the same noise.

Letters: S segments, R rows of a video, V verbs, O nouns, D width.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from record import DATA
from teacher_runs import FOLDERS

from antcache.annotations import Segments, Taxonomy, read_annotations
from antcache.store import Store
from antcache.timebase import exact_floor

STREAM = "simulated"
DIM, FPS = 256, 2.0
OFFSET = 0.3
NOISE = 0.032
SEED = 20260

FINAL, TUNING = "final", "tuning"
"""Stores: the published splits, or training videos alone, a fifth of them for validation."""
CONTEXT = "context"
"""Split of a tuning store, never trained on or scored: what else happens in its videos."""
HELD_OUT = 0.2


def directions(taxonomy: Taxonomy) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors of the verbs (V, D) and nouns (O, D)."""
    rng = np.random.default_rng(SEED)
    drawn = rng.standard_normal((len(taxonomy.verbs) + len(taxonomy.nouns), DIM))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn[: len(taxonomy.verbs)], drawn[len(taxonomy.verbs) :]


def under_way(
    segments: Segments, num_rows: int, classes: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """How many of a video's segments of each class are under way at each row.

    Args:
        segments: S of one video.
        num_rows: R.
        classes: (S,) class of each segment.
        count: number of classes V.

    Returns:
        (R, V) float64.
    """
    # A segment counts from the first row at or after its start to the last one before its stop.
    first, after = (-exact_floor(-s * FPS) for s in (segments.start_s, segments.stop_s))
    change = np.zeros((num_rows + 1, count))
    np.add.at(change, (np.clip(first, 0, num_rows), classes), 1.0)
    np.add.at(change, (np.clip(after, 0, num_rows), classes), -1.0)
    return np.cumsum(change[:-1], axis=0)


def features_of(
    video: str, segments: Segments, taxonomy: Taxonomy, noise: float = NOISE
) -> NDArray[np.float16]:
    """Rows (R, D) of a video, given all its segments (S,) of whatever split.

    Offset and noise depend on the video's name alone.
    """
    digest = hashlib.blake2b(video.encode(), digest_size=8).digest()
    rng = np.random.default_rng([SEED, int.from_bytes(digest, "little")])
    num_rows = int(exact_floor(segments.stop_s.max() * FPS)) + 1
    offset = rng.normal(0.0, OFFSET / np.sqrt(DIM), DIM)
    rows = rng.standard_normal((num_rows, DIM))
    rows *= noise
    rows += offset
    verbs, nouns = directions(taxonomy)
    rows += under_way(segments, num_rows, segments.verb, len(verbs)) @ verbs
    rows += under_way(segments, num_rows, segments.noun, len(nouns)) @ nouns
    return rows.astype(np.float16)


def held_out_videos(videos: Iterable[str]) -> set[str]:
    """A fifth of the videos, chosen by their names alone: as good as chance."""
    order = sorted(videos, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return set(order[: max(1, round(HELD_OUT * len(order)))])


def splits_of(dataset: str, part: str) -> tuple[dict[str, Segments], Taxonomy]:
    """The splits of a store.

    Args:
        dataset: `epic-kitchens-55` or `egtea`.
        part: `final`, or `tuning`, where no segment of the published validation split is trained on
            or scored. On EGTEA Gaze+ these happen in the training videos, too: they are `context`.

    Raises:
        NotFound, BadAnnotations: the annotations are not there, or can't be read.
    """
    read = read_annotations(dataset, DATA / FOLDERS[dataset])
    train, validation = read.splits["train"], read.splits["validation"]
    if part == FINAL:
        return {"train": train, "validation": validation}, read.taxonomy
    held = np.isin(train.video, sorted(held_out_videos(train.videos)))
    splits = {
        "train": train[np.flatnonzero(~held)],
        "validation": train[np.flatnonzero(held)],
        CONTEXT: validation[np.flatnonzero(np.isin(validation.video, train.videos))],
    }
    return {name: s for name, s in splits.items() if len(s)}, read.taxonomy


def store_path(folder: Path, dataset: str, part: str, noise: float = NOISE) -> Path:
    """Where `make_store` keeps a store."""
    return folder / f"{dataset}-{part}-{noise:g}.zarr"


def make_store(folder: Path, dataset: str, part: str, noise: float = NOISE) -> Store:
    """The store of `part` with features of every video, written into `folder` unless it is there.

    Raises:
        NotFound, BadAnnotations: see `splits_of`.
    """
    path = store_path(folder, dataset, part, noise)
    if path.is_dir():
        return Store.open(path)
    splits, taxonomy = splits_of(dataset, part)
    staged = path.with_name(f".{os.getpid()}-{path.name}")
    shutil.rmtree(staged, ignore_errors=True)
    store = Store.create(staged, dataset=taxonomy.dataset)
    for name, segments in splits.items():
        store.write_labels(name, segments, taxonomy, source="published annotations")
    store.create_stream(
        STREAM,
        dim=DIM,
        dtype="float16",
        fps=FPS,
        source="simulated from the labels: no video was looked at",
        config={"simulated": True, "noise": noise, "offset": OFFSET, "seed": SEED},
    )
    everything = Segments.of(
        **{
            name: np.concatenate([s.arrays()[name] for s in splits.values()])
            for name in next(iter(splits.values())).arrays()
        }
    )
    for video in everything.videos:
        own = everything[np.flatnonzero(everything.video == video)]
        store.write_features(STREAM, video, features_of(video, own, taxonomy, noise))
    staged.rename(path)
    return Store.open(path)
