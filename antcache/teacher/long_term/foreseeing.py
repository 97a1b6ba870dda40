"""A trained teacher foresees a split, and is scored: Ego4D's task, or that of frames.

Promise: figures are those of `antcache.evaluation.long_term`, of tasks that
`antcache.teacher.long_term.tasks` makes; how a teacher goes on is in `rolling_out`. Histories are
those of true labels, up to the moment. Frames are said by the likeliest actions; the one that is
under way at the moment lasts as long as is left of its class's median duration, or not at all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.checks import Count, Seed, check_types, one_of
from antcache.errors import BadConfig
from antcache.evaluation.long_term import edit_distance, frames_ahead, mean_over_classes
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.teacher.base import Teacher, load_teacher
from antcache.teacher.histories import HistoryConfig
from antcache.teacher.long_term.rolling_out import Rollout, median_durations, say_sequences
from antcache.teacher.long_term.tasks import NOTHING, RestOfVideo, next_actions, rest_of_video
from antcache.timebase import ANNOTATION_FPS, exact_ceil

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
        left_out: segments with too few others after them.
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
        left_out: videos of which not one frame was observed.
        rows: `observed`, `ahead` (shares of a video) and `mean_over_classes` of each.
    """

    n: int
    left_out: int
    rows: list[dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


class Foresight:
    """A trained teacher that says more than the next action.

    Attributes:
        teacher: the teacher.
        median_s: (C,) float64, how long what it says lasts.
    """

    def __init__(
        self, teacher: Teacher, history: HistoryConfig, median_s: NDArray[np.float64]
    ) -> None:
        self.teacher = teacher
        self.median_s = median_s
        self._begin = partial(Rollout, teacher, history, median_s=median_s)

    def edits(
        self, segments: Segments, config: ForeseeingConfig, progress: Progress = silent
    ) -> EditScore:
        """Ego4D's figures of the segments of a split; `config` says Z, K and the seed.

        Raises:
            BadConfig: no segment has Z others after it; see also `Rollout`.
        """
        task = next_actions(segments, steps=config.steps, length=self.teacher.config.length)
        say = partial(say_sequences, self._begin, task.past, steps=config.steps, progress=progress)
        taxonomy = self.teacher.taxonomy
        drawn = say(samples=config.samples, seed=config.seed)
        return EditScore(
            n=len(task.past),
            left_out=task.left_out,
            sampled=_distances(drawn, task.truth, taxonomy),
            likeliest=_distances(say(), task.truth, taxonomy),
        )

    def frames(self, segments: Segments, progress: Progress = silent) -> FrameScore:
        """Mean over classes on the videos of a split, after each of `OBSERVED`.

        Raises:
            BadConfig: no video is long enough, or what is to be said has no action; see `Rollout`.
        """
        rows, videos = [], segments.videos
        left_out = set()
        for i, observed in enumerate(OBSERVED):
            said = []
            for j, video in enumerate(videos):
                progress("videos", i * len(videos) + j, len(OBSERVED) * len(videos))
                task = rest_of_video(
                    segments, video, observed=observed, length=self.teacher.config.length
                )
                if task is None:
                    left_out.add(video)
                else:
                    said.append((self.say_frames(task), task.truth))
            if not said:
                raise BadConfig("the videos are too short", expected="frames to observe", found=0)
            for ahead in AHEAD:
                parts = [
                    (guess[part], truth[part])
                    for guess, truth in said
                    for part in [frames_ahead(len(truth), observed, ahead)]
                ]
                figure = mean_over_classes(parts)
                rows.append({"observed": observed, "ahead": ahead, "mean_over_classes": figure})
        progress("videos", 1, 1)
        return FrameScore(n=len(videos), left_out=len(left_out), rows=rows)

    def say_frames(self, task: RestOfVideo) -> NDArray[np.int64]:
        """Action (F,) that is said at each frame of the video; `NOTHING` where it was observed."""
        past, count = task.past, len(task.truth)
        moment, now_s = past.now_s[0], past.now_s.copy()
        said = np.full(count, NOTHING, dtype=np.int64)
        stop_s = past.stop_s.copy()
        if task.under_way is not None:
            action = past.action[0, task.under_way]
            end = past.start_s[0, task.under_way] + self.median_s[action]
            now_s[:] = stop_s[0, task.under_way] = max(moment, end)
            said[_frames(moment, now_s[0])] = action
        rollout = self._begin(past=replace(past, stop_s=stop_s, now_s=now_s))
        last_s = (count - 1) / ANNOTATION_FPS
        while (begins := rollout.now_s[0]) <= last_s:
            (action,) = rollout.step()
            said[_frames(begins, rollout.now_s[0])] = action
        return said


def foresee(
    store: Store,
    folder: Path,
    config: ForeseeingConfig,
    form: str = "ego4d",
    *,
    device: str = "cpu",
    progress: Progress = silent,
) -> EditScore | FrameScore:
    """Load the teacher in `folder`, and score what it foresees; `form` is one of `FORMS`.

    Raises:
        MissingKey: the store has no such split.
        NotFound, BadCheckpoint: see `base.load_teacher`.
        BadConfig: an unknown form; and see `Foresight`.
    """
    one_of("form", form, FORMS)
    segments = store.labels(config.split)
    durations = median_durations(store.labels(config.train_split), len(store.taxonomy.actions))
    foresight = Foresight(*load_teacher(folder, store.taxonomy, device=device), durations)
    if form == "ego4d":
        return foresight.edits(segments, config, progress)
    return foresight.frames(segments, progress)


def _frames(start_s: float, stop_s: float) -> slice:
    """The frames from a time on and before another."""
    first, end = exact_ceil(np.array([start_s, stop_s]) * ANNOTATION_FPS)
    return slice(int(first), int(end))


def _distances(
    said: NDArray[np.int64], truth: NDArray[np.int64], taxonomy: Taxonomy
) -> dict[str, float]:
    """Edit distance by what there is a label of."""
    of = {"action": np.arange(len(taxonomy.actions))}
    if taxonomy.paired:
        of = {"verb": taxonomy.verb_of, "noun": taxonomy.noun_of, **of}
    return {kind: edit_distance(ids[said], ids[truth]) for kind, ids in of.items()}
