"""What was foreseen, scored: the settings and figures of Ego4D's task and of that of frames.

Promise: a teacher and a student that are asked with the same settings have figures of the same
tasks, by the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.checks import Count, Seed, check_types
from antcache.errors import BadConfig
from antcache.evaluation.long_term.edits import edit_distance
from antcache.evaluation.long_term.frames import frames_ahead, mean_over_classes
from antcache.evaluation.long_term.tasks import RestOfVideo, rest_of_video
from antcache.progress import Progress, silent

FORMS = ("ego4d", "frames")
OBSERVED = (0.2, 0.3)
AHEAD = (0.1, 0.2, 0.3, 0.5)
"""Shares of a video, as published."""


@dataclass(frozen=True, kw_only=True)
class ForeseeingConfig:
    """What is foreseen."""

    split: str = "validation"
    """The split that is scored."""
    train_split: str = "train"
    """Split whose durations are taken."""
    steps: Count = 20
    """Next actions that are said, Z, of Ego4D's task."""
    samples: Count = 5
    """Sequences that are drawn, K, of Ego4D's task."""
    seed: Seed = 0
    """Decides what is drawn."""

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class EditScore:
    """Ego4D's figures.

    Attributes:
        n: segments after which the next actions were said.
        left_out: segments with too few others after them, or that nothing could be said after.
        sampled: ED@(Z, K) of the best of K drawn sequences, by `verb`, `noun` and `action`, or
            `action` alone; 0 is perfect.
        likeliest: ED@(Z, 1) of the likeliest action at each step, alike.
    """

    n: int
    left_out: int
    sampled: dict[str, float]
    likeliest: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FrameScore:
    """Mean over classes, percent.

    Attributes:
        n: videos.
        left_out: videos of which nothing could be said after some share.
        rows: `observed`, `ahead` (shares of a video) and `mean_over_classes` of each.
    """

    n: int
    left_out: int
    rows: list[dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def distances(
    said: NDArray[np.int64], truth: NDArray[np.int64], taxonomy: Taxonomy
) -> dict[str, float]:
    """Edit distance of sequences (N, K, Z) to the true ones (N, Z), by what there is a label of."""
    of = {"action": np.arange(len(taxonomy.actions))}
    if taxonomy.paired:
        of = {"verb": taxonomy.verb_of, "noun": taxonomy.noun_of, **of}
    return {kind: edit_distance(ids[said], ids[truth]) for kind, ids in of.items()}


def score_frames(
    segments: Segments,
    length: int,
    say: Callable[[float, str, RestOfVideo], NDArray[np.int64] | None],
    progress: Progress = silent,
) -> FrameScore:
    """Mean over classes on the videos of a split, after each of `OBSERVED`.

    Args:
        segments: the split.
        length: past actions that a task has at most.
        say: the action (F,) of each frame of a video, after a share of it, or None where nothing
            can be said.
        progress: told how many videos are done.

    Raises:
        BadConfig: nothing can be said of any video, or what is to be said has no action.
    """
    rows, videos = [], segments.videos
    left_out = set()
    for i, observed in enumerate(OBSERVED):
        pairs = []
        for j, video in enumerate(videos):
            progress("videos", i * len(videos) + j, len(OBSERVED) * len(videos))
            task = rest_of_video(segments, video, observed=observed, length=length)
            said = None if task is None else say(observed, video, task)
            if task is None or said is None:
                left_out.add(video)
            else:
                pairs.append((said, task.truth))
        if not pairs:
            raise BadConfig("the videos are too short", expected="frames to observe", found=0)
        for ahead in AHEAD:
            parts = [
                (guess[part], truth[part])
                for guess, truth in pairs
                for part in [frames_ahead(len(truth), observed, ahead)]
            ]
            figure = mean_over_classes(parts)
            rows.append({"observed": observed, "ahead": ahead, "mean_over_classes": figure})
    progress("videos", 1, 1)
    return FrameScore(n=len(videos), left_out=len(left_out), rows=rows)
