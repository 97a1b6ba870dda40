"""Videos whose colours tell the action under way, a store of them, and students trained on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antcache.annotations import Segments, Taxonomy
from antcache.extract import ExtractConfig, extract, find_videos
from antcache.extract.videos.film_frames import FilmFile
from antcache.predict import Anticipation
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.train import train

COLOURS = np.array([[220, 40, 40], [40, 200, 60], [50, 60, 220], [200, 200, 40]])
CLASSES = len(COLOURS)
SECONDS = 2.0
GAP_S = 0.5

Write = Callable[..., Path]


def taxonomy() -> Taxonomy:
    """Four actions, each a pair of its own."""
    return Taxonomy(
        dataset="colours",
        verbs=("take", "cut"),
        nouns=("pan", "leek"),
        actions=("take pan", "take leek", "cut pan", "cut leek"),
        action_verbs=(0, 0, 1, 1),
        action_nouns=(0, 1, 0, 1),
    )


def action_at(time: float, first: int) -> int:
    """Which action is under way in a video that begins with `first`."""
    return int(first + time // SECONDS) % CLASSES


def labels(lengths: dict[str, float], first: dict[str, int]) -> Segments:
    """An action after another, of two seconds each."""
    rows = [
        (f"{video}_{i}", video, i * SECONDS, min((i + 1) * SECONDS, length))
        for video, length in lengths.items()
        for i in range(int(length / SECONDS))
    ]
    uid, videos, start_s, stop_s = zip(*rows, strict=True)
    action = [action_at(start, first[video]) for _, video, start, _ in rows]
    classes = taxonomy()
    return Segments.of(
        uid=uid,
        video=videos,
        start_s=start_s,
        stop_s=stop_s,
        verb=classes.verb_of[action],
        noun=classes.noun_of[action],
        action=action,
    )


def write_coloured(
    write: Write, path: Path, times: Sequence[Fraction], first: int, shift: float = 0.0
) -> Path:
    """A film whose pictures have the colour of the action under way, and a moving bar."""

    def picture(number: int, height: int, width: int) -> np.ndarray:
        shown = np.empty((height, width, 3), np.uint8)
        shown[:] = COLOURS[action_at(float(times[number]) - shift, first)]
        shown[:, number * 3 % width : number * 3 % width + 5] = 255 - number % 100
        return shown

    return write(path, times, picture=picture)


def uneven(length: float, seed: int) -> list[Fraction]:
    """Times of frames of a variable rate, in milliseconds, about 15 a second."""
    steps = np.random.default_rng(seed).integers(20, 120, int(length * 20))
    times = np.cumsum([0, *steps])
    return [Fraction(int(t), 1000) for t in times if t <= length * 1000]


@dataclass(frozen=True)
class Kitchen:
    """A folder of videos, their lengths, and a store with their labels."""

    folder: Path
    store: Store
    lengths: dict[str, float]


def kitchen(folder: Path, write: Write) -> Kitchen:
    """Three videos: of a constant rate, of a variable one, and a short one for validation."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    lengths, first = {"even": 12.0, "odd": 10.0, "held": 8.0}, {"even": 0, "odd": 1, "held": 2}
    write_coloured(write, videos / "even.mp4", [Fraction(i, 25) for i in range(300)], 0)
    write_coloured(write, videos / "odd.mkv", uneven(10.0, 1), 1)
    write_coloured(write, videos / "held.mp4", [Fraction(i, 20) for i in range(161)], 2)
    store = Store.create(folder / "store.zarr")
    segments = labels(lengths, first)
    held = segments.video == "held"
    splits = {"train": segments[~held], "validation": segments[held]}
    store.write_splits(splits, taxonomy(), source="a test")
    return Kitchen(folder=videos, store=store, lengths=lengths)


def extracted(made: Kitchen, backbone: Any, name: str, **settings: Any) -> None:
    """A stream of the kitchen's videos."""
    config = ExtractConfig(stream=name, **settings)
    report = extract(find_videos(made.folder), made.store, backbone, config)
    assert not report.failed


def trained(made: Kitchen, run: Path, stream: str, **settings: Any) -> Path:
    """A student of a few epochs."""
    given: dict[str, Any] = {
        "stream": (stream,),
        "gap_s": GAP_S,
        "num_frames": 4,
        "rate": 2.0,
        **({} if "head" in settings else {"head": "gru", "width": 16}),
        "epochs": 2,
        "batch_size": 8,
        "lr": 3e-3,
        "device": "cpu",
        "precision": "float32",
        "allow_missing": True,
    }
    torch.manual_seed(0)
    train(made.store, run, StudentConfig.of(**{**given, **settings}))
    return run


def require_same(found: Iterable[Anticipation], wanted: Iterable[Any], tolerance: float) -> None:
    """Two answers at each time are the same: actions and their probabilities."""
    ours, theirs = ({each.time_s: each for each in answers} for answers in (found, wanted))
    assert ours.keys() == theirs.keys()
    assert len(ours) > 15
    for time_s, answer in ours.items():
        one, two = ({x.action: x.probability for x in y.top} for y in (answer, theirs[time_s]))
        assert one == pytest.approx(two, abs=tolerance)


def frames(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """All frames of a video, with their times."""
    reader = FilmFile(path).frames(max_gap_s=2.0, allow_partial=False)
    for time, frame in reader:
        yield float(time), reader.picture(frame)
