"""A student with slots foresees a split, and is scored: Ego4D's task, or that of frames.

Promise: tasks and figures are those of `antcache.evaluation.long_term`, as for a teacher; what is
seen is the window that ends before the next action starts, or with the observed frames. No history
of labels is told; of frames, the action that is under way at the moment and its start are the
labels', as a teacher has them.
Slots are drawn each by itself: the student says all of them at once.
Letters: N segments, M segments with a window, Z actions, K sequences, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.annotations import Segments
from antcache.annotations.protocols import anchor_name
from antcache.checks import one_of
from antcache.errors import BadConfig
from antcache.evaluation.long_term.saying import ActionDurations, chosen, say_frames
from antcache.evaluation.long_term.scores import (
    FORMS,
    OBSERVED,
    EditScore,
    ForeseeingConfig,
    FrameScore,
    distances,
    score_frames,
)
from antcache.evaluation.long_term.tasks import RestOfVideo, next_actions, rest_of_video
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.student.heads.head import HeadOutput
from antcache.student.runs.place import read_config
from antcache.student.runs.predicting import TrainedStudent
from antcache.timebase import ANNOTATION_FPS


class Said(NamedTuple):
    """What a student says of M segments.

    Attributes:
        uid: (M,) segments that have a window.
        likeliest: (M, Z) the likeliest action of each slot.
        drawn: (M, K, Z) sequences that are drawn, slot by slot.
    """

    uid: NDArray[np.str_]
    likeliest: NDArray[np.int64]
    drawn: NDArray[np.int64]


def say(
    student: TrainedStudent,
    segments: Segments,
    *,
    split: str,
    samples: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> Said:
    """What a student with slots says of segments, in their order; those without a window are left
    out.

    Args:
        student: with slots.
        segments: N, whose windows end before them.
        split: what errors call them.
        samples: K.
        seed: decides what is drawn.
        progress: told how many segments are done.

    Raises:
        MissingFeature, BadConfig, NotFinite: see `TrainedStudent.predict`.
    """
    rng = np.random.default_rng(seed)
    likeliest: list[NDArray[np.int64]] = []
    drawn: list[NDArray[np.int64]] = []

    def look(rows: Tensor, features: Tensor, output: HeadOutput) -> None:
        scores = slot_logits(output).cpu().numpy().swapaxes(0, 1)
        likeliest.append(np.stack([chosen(own) for own in scores], axis=1))
        shape = (len(rows), samples)
        several = [
            chosen(np.repeat(own, samples, axis=0), rng.random(shape).ravel()) for own in scores
        ]
        drawn.append(np.stack([one.reshape(shape) for one in several], axis=2))
        progress("sequences", sum(map(len, drawn)), len(segments))

    labels, _ = student.ask(segments, split=split, look=look)
    return Said(labels.uid, np.concatenate(likeliest), np.concatenate(drawn))


def slot_logits(output: HeadOutput) -> Tensor:
    """Scores (B, Z, C) float32 of all slots, of which the first are `logits`."""
    assert output.later_logits is not None
    first = output.logits[:, None]
    return torch.cat([first, output.later_logits[..., : first.shape[-1]]], dim=1).float()


def edits(
    student: TrainedStudent,
    segments: Segments,
    config: ForeseeingConfig,
    progress: Progress = silent,
) -> EditScore:
    """Ego4D's figures of the segments of a split; `config` says Z, K and the seed.

    Raises:
        BadConfig: no segment has Z others after it, or the student has fewer slots; see `say`.
    """
    slots = student.config.model.slots or 1
    if config.steps > slots:
        raise BadConfig(
            f"the student says {slots} actions",
            found=f"{config.steps} steps",
            hint=f"say fewer, or antcache student train --slots {config.steps}",
        )
    task = next_actions(segments, steps=config.steps, length=1)
    asked = segments[task.following[:, 0]]
    said = say(
        student,
        asked,
        split=config.split,
        samples=config.samples,
        seed=config.seed,
        progress=progress,
    )
    truth = task.truth[asked.locate(said.uid)]
    taxonomy = student.store.taxonomy
    return EditScore(
        n=len(truth),
        left_out=task.left_out + len(asked) - len(truth),
        sampled=distances(said.drawn[..., : config.steps], truth, taxonomy),
        likeliest=distances(said.likeliest[:, None, : config.steps], truth, taxonomy),
    )


def frames(
    student: TrainedStudent,
    segments: Segments,
    durations: ActionDurations,
    *,
    split: str,
    progress: Progress = silent,
) -> FrameScore:
    """Mean over classes on the videos of a split; what is said lasts as `durations` have it.

    After the last slot nothing is said.

    Raises:
        BadConfig: no video has a window, or what is to be said has no action; see `say`.
    """
    length = max(map(len, segments.in_order().values()))
    following: dict[tuple[float, str], list[int]] = {}
    for observed in OBSERVED:
        moments = {
            video: float(task.past.now_s[0])
            for video in segments.videos
            if (task := rest_of_video(segments, video, observed=observed, length=length))
        }
        if moments:
            asked = _ending(moments, student.protocol.gap_s)
            said = say(student, asked, split=f"{split}, {observed:.0%} observed")
            for video, actions in zip(said.uid.tolist(), said.likeliest.tolist(), strict=True):
                following[observed, video] = actions

    def own(observed: float, video: str, task: RestOfVideo) -> NDArray[np.int64] | None:
        actions = following.get((observed, video))
        return None if actions is None else say_frames(task, durations, lambda past: iter(actions))

    return score_frames(segments, length, own, progress)


def _ending(moments: dict[str, float], gap_s: float) -> Segments:
    """Unlabelled segments by video, whose windows end with the last frame before a moment."""
    start_s = np.array(list(moments.values())) - 1 / ANNOTATION_FPS + gap_s
    nothing = np.full(len(start_s), -1)
    names = list(moments)
    return Segments.of(
        uid=names,
        video=names,
        start_s=start_s,
        stop_s=start_s + 1,
        verb=nothing,
        noun=nothing,
        action=nothing,
    )


def foresee(
    store: Store,
    run_dir: Path,
    config: ForeseeingConfig,
    form: str = "ego4d",
    *,
    device: str | None = None,
    progress: Progress = silent,
) -> EditScore | FrameScore:
    """Load the student of the run in `run_dir`, and score what it foresees; `form` is of `FORMS`.

    Raises:
        MissingKey: the store has no such split.
        NotFound, BadCheckpoint, FingerprintMismatch: see `TrainedStudent`.
        BadConfig: an unknown form, a run without slots or not of windows before starts; and see
            `edits` and `frames`.
    """
    one_of("form", form, FORMS)
    if read_config(run_dir).model.slots is None:
        raise BadConfig(
            "the student says the next action alone",
            where=run_dir,
            expected="a run with slots",
            hint=f"antcache student train --slots {config.steps} trains one",
        )
    segments = store.labels(config.split)
    durations = ActionDurations.of(store.labels(config.train_split), len(store.taxonomy.actions))
    student = TrainedStudent(store, run_dir, device=device)
    if student.protocol.anchor != 0:
        raise BadConfig(
            "a student foresees from before starts alone",
            where=run_dir,
            expected="the anchor 'start'",
            found=f"the anchor {anchor_name(student.protocol.anchor)!r}",
        )
    if form == "ego4d":
        return edits(student, segments, config, progress)
    return frames(student, segments, durations, split=config.split, progress=progress)
