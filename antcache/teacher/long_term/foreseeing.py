"""A trained teacher foresees a split, and is scored: Ego4D's task, or that of frames.

Promise: tasks and figures are those of `antcache.evaluation.long_term`; how a teacher goes on is in
`rolling_out`. Histories are those of true labels, up to the moment. Frames are said by the
likeliest actions; how long these last, and the one that is under way at the moment, is that of
`antcache.evaluation.long_term.saying`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments
from antcache.checks import one_of
from antcache.evaluation.long_term.saying import ActionDurations, say_frames
from antcache.evaluation.long_term.scores import (
    FORMS,
    EditScore,
    ForeseeingConfig,
    FrameScore,
    distances,
    score_frames,
)
from antcache.evaluation.long_term.tasks import ObservedPast, RestOfVideo, next_actions
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.teacher.base import Teacher, load_teacher
from antcache.teacher.histories import HistoryConfig
from antcache.teacher.long_term.rolling_out import Rollout, say_sequences


class Foresight:
    """A trained teacher that says more than the next action.

    Attributes:
        teacher: the teacher.
        durations: how long what it says lasts.
    """

    def __init__(
        self, teacher: Teacher, history: HistoryConfig, durations: ActionDurations
    ) -> None:
        self.teacher = teacher
        self.durations = durations
        self._begin = partial(Rollout, teacher, history, median_s=durations.median_s)

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
            sampled=distances(drawn, task.truth, taxonomy),
            likeliest=distances(say(), task.truth, taxonomy),
        )

    def frames(self, segments: Segments, progress: Progress = silent) -> FrameScore:
        """Mean over classes on the videos of a split, after each of `OBSERVED`.

        Raises:
            BadConfig: no video is long enough, or what is to be said has no action; see `Rollout`.
        """
        return score_frames(
            segments,
            self.teacher.config.length,
            lambda observed, video, task: self.say_frames(task),
            progress,
        )

    def say_frames(self, task: RestOfVideo) -> NDArray[np.int64]:
        """Action (F,) that is said at each frame of the video; `NOTHING` where it was observed."""
        return say_frames(task, self.durations, self._go_on)

    def _go_on(self, past: ObservedPast) -> Iterator[int]:
        rollout = self._begin(past=past)
        while True:
            yield int(rollout.step()[0])


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
    durations = ActionDurations.of(store.labels(config.train_split), len(store.taxonomy.actions))
    foresight = Foresight(*load_teacher(folder, store.taxonomy, device=device), durations)
    if form == "ego4d":
        return foresight.edits(segments, config, progress)
    return foresight.frames(segments, progress)
