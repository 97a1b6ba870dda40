"""A store of EPIC-KITCHENS-55's size: real annotations and video lengths, random features.

Without the annotation data (`record.DATA`), lengths and segments of that size are made up.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from record import DATA

from antcache.annotations import Segments, protocol_for, read_annotations
from antcache.store import Features, Store
from antcache.windows.index import WindowIndex, stream_features

WINDOWS, FPS, DIM = 28_472, 4.0, 1_024


def random_rows(num_rows: int, rng: np.random.Generator) -> NDArray[np.float16]:
    """Rows that do not repeat, quickly made."""
    block = rng.standard_normal((min(num_rows, 512), DIM), dtype=np.float32)
    tiled = np.resize(block.astype(np.float16), (num_rows, DIM))
    return tiled + np.arange(num_rows, dtype=np.float16)[:, None] / 1024


def segments_and_seconds() -> tuple[Segments, dict[str, float]]:
    """All segments of EPIC-KITCHENS-55, and the seconds of their videos; made up without the data.

    Those that start too early for a window make room for repetitions of later ones: 28,472 in all.
    """
    folder = DATA / "epic-kitchens-55"
    if folder.is_dir():
        splits = read_annotations("epic-kitchens-55", folder).splits
        parts = [splits[name].arrays() for name in ("train", "validation")]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        with (folder / "EPIC_video_info.csv").open() as file:
            seconds = {row["video"]: float(row["duration"]) for row in csv.DictReader(file)}
    else:
        rng = np.random.default_rng(1)
        seconds = {f"P{v:03d}": float(s) for v, s in enumerate(rng.gamma(1.2, 610, 272) + 60)}
        share = np.array(list(seconds.values()))
        video = np.sort(rng.choice(list(seconds), WINDOWS, p=share / share.sum()))
        start = rng.uniform(2, [seconds[v] - 2 for v in video])
        label = np.zeros(len(video), dtype=np.int64)
        columns = {"uid": np.arange(len(video)).astype(str), "video": video, "start_s": start}
        columns |= {"stop_s": start + 1, "verb": label, "noun": label, "action": label}
    segments = Segments.of(**columns)
    early = segments.start_s < 1.1
    if early.any():
        spare = np.flatnonzero(~early)[: early.sum()]
        segments = segments[np.concatenate([np.flatnonzero(~early), spare])]
    last = {
        video: float(segments.stop_s[segments.video == video].max()) for video in segments.videos
    }
    return segments, {video: max(seconds.get(video, 0), last[video]) for video in last}


def write(path: Path) -> int:
    """A store of EK55's size at `path`; returns its bytes of features."""
    rng = np.random.default_rng(2)
    _, seconds = segments_and_seconds()
    store = Store.create(path)
    store.create_stream("rgb", dim=DIM, dtype="float16", fps=FPS, source="random", config={})
    total = 0
    for video, length in seconds.items():
        rows = random_rows(int(np.ceil(length * FPS)) + 1, rng)
        store.write_features("rgb", video, rows)
        total += rows.nbytes
    return total


def open_windows(path: Path, memory_map: bool) -> tuple[dict[str, Features], WindowIndex]:
    """Features and windows of the store that `write` wrote."""
    segments, _ = segments_and_seconds()
    features = stream_features(Store.open(path, memory_map=memory_map), "rgb", segments)
    return features, WindowIndex.build(features, segments, protocol_for("epic-kitchens-55"))
