"""Mean over classes: how much of the next part of a video is said right, frame by frame.

Promise: the measure of Abu Farha, Richard and Gall 2018 on Breakfast and 50 Salads. After 20 or
30 % of a video, the label of every frame of the next 10, 20, 30 or 50 % of it is said (of the whole
video, not of its rest); the share of the frames of each class that are right, over all videos
together, then the mean over the classes that occur. Higher is better. Letter: F frames.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from antcache.checks import Range, within
from antcache.errors import BadConfig
from antcache.evaluation.metrics import class_mean_recall
from antcache.timebase import exact_floor


def frames_ahead(num_frames: int, observed: float, ahead: float) -> slice:
    """The frames of a video of F that are to be said, after a share of it was observed.

    Args:
        num_frames: F.
        observed: share of the video that is seen, such as 0.2 or 0.3.
        ahead: share of the video that follows and is said, such as 0.1, 0.2, 0.3 or 0.5.

    Raises:
        BadConfig: no shares, or more than the video together.
    """
    for name, share in (("observed", observed), ("ahead", ahead)):
        within(name, share, Range(0, 1, above=True, below=True))
    within("observed + ahead", observed + ahead, Range(0, 1))
    start, stop = exact_floor(np.array([observed, observed + ahead]) * num_frames)
    return slice(int(start), int(stop))


def mean_over_classes(videos: Iterable[tuple[ArrayLike, ArrayLike]]) -> float:
    """Mean over classes, in percent, of the share of its frames that are right.

    Frames whose truth is -1 are of no action and do not count, whatever is said of them. To stand
    beside figures that count the background as a class (`SIL` of Breakfast), it must be one.

    Args:
        videos: of each, what was said and the truth, (F,) ids of the frames that were to be said
            (see `frames_ahead`); -1 is said where nothing is.

    Raises:
        BadConfig: shapes do not fit, or no frame has an action.
    """
    said, truth = [], []
    for one, own in videos:
        guess, true = np.asarray(one, dtype=np.int64), np.asarray(own, dtype=np.int64)
        if guess.ndim != 1 or guess.shape != true.shape:
            raise BadConfig(
                "what was said and the truth do not fit each other",
                expected="a label of each frame, (F,) and (F,)",
                found=f"{guess.shape} and {true.shape}",
            )
        said.append(guess[true >= 0])
        truth.append(true[true >= 0])
    if not sum(map(len, truth)):
        raise BadConfig("no frame has an action")
    labels = np.concatenate(truth)
    wrong = (np.concatenate(said) != labels).astype(np.int64)  # as a rank: 0 is right
    return class_mean_recall(wrong, labels, 1)
