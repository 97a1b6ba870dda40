"""Long-term anticipation: figures of what is said of the actions after the next, as pure functions.

Promise: two published measures, each by its own definition, and nothing about models.

- *Edit distance* ED@(Z, K) (Grauman et al. 2022, Ego4D): the next Z actions are said K times; each
  sequence is compared with the true one by the edits that make one of the other, divided by Z; the
  best of the K counts; then the mean over segments. 0 is perfect: lower is better. Verbs, nouns and
  actions each have one; ED@(20, 5) is the challenge's. Its paper speaks of Damerau and Levenshtein,
  where two neighbours that changed places are one edit; its code (EGO4D/forecasting,
  `lta_metrics.py`) counts Levenshtein's edits, two. Published figures follow the code, and so does
  this; `transpositions` takes the paper's word for it.
- *Mean over classes* (Abu Farha, Richard and Gall 2018, on Breakfast and 50 Salads): after 20 or
  30 % of a video, the label of every frame of the next 10, 20, 30 or 50 % of it is said (of the
  whole video, not of its rest); the share of the frames of each class that are right, over all
  videos together, then the mean over the classes that occur. Higher is better.

Letters: N segments, K sequences, Z actions, F frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.checks import Range, within
from antcache.errors import BadConfig
from antcache.evaluation.metrics import class_mean_recall
from antcache.timebase import exact_floor


def edits(said: Sequence[int], truth: Sequence[int], *, transpositions: bool = False) -> int:
    """Insertions, deletions and substitutions that make one sequence of ids of another.

    With `transpositions`, two neighbours that changed places are one edit (optimal string
    alignment: no part is edited twice).
    """
    earlier: list[int] = []
    before: list[int] = []
    own = list(range(len(truth) + 1))
    for i, one in enumerate(said):
        earlier, before, own = before, own, [i + 1]
        for j, other in enumerate(truth):
            best = min(before[j + 1] + 1, own[j] + 1, before[j] + (one != other))
            if transpositions and i and j and one == truth[j - 1] and said[i - 1] == other:
                best = min(best, earlier[j - 1] + 1)
            own.append(best)
    return own[-1]


def edit_distances(
    said: ArrayLike, truth: ArrayLike, *, transpositions: bool = False
) -> NDArray[np.float64]:
    """Normalised edit distance (N,) of the best of K sequences to the true one, 0 to 1.

    Args:
        said: (N, K, Z) ids.
        truth: (N, Z) ids.
        transpositions: see `edits`.

    Raises:
        BadConfig: shapes do not fit, or there is nothing to compare.
    """
    sequences, true = np.asarray(said), np.asarray(truth)
    if sequences.ndim != 3 or true.shape != (len(sequences), sequences.shape[-1]):
        raise BadConfig(
            "sequences and truth do not fit each other",
            expected="(N, K, Z) and (N, Z)",
            found=f"{sequences.shape} and {true.shape}",
        )
    if not sequences.size:
        raise BadConfig("there is no sequence to score", found=sequences.shape)
    best = [
        min(edits(one, own, transpositions=transpositions) for one in several)
        for several, own in zip(sequences.tolist(), true.tolist(), strict=True)
    ]
    return np.asarray(best, dtype=np.float64) / float(true.shape[1])


def edit_distance(said: ArrayLike, truth: ArrayLike, *, transpositions: bool = False) -> float:
    """ED@(Z, K): the mean of `edit_distances`, whose arguments and errors it has."""
    return float(edit_distances(said, truth, transpositions=transpositions).mean())


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
