"""Edit distance of Ego4D: how far the next Z actions, said K times, are from the true ones.

Promise: ED@(Z, K) (Grauman et al. 2022): each of the K sequences is compared with the true one by
the edits that make one of the other, divided by Z; the best of the K counts; then the mean over
segments. 0 is perfect: lower is better. Verbs, nouns and actions each have one; ED@(20, 5) is the
challenge's. Its paper speaks of Damerau and Levenshtein, where two neighbours that changed places
are one edit; its code (EGO4D/forecasting, `lta_metrics.py`) counts Levenshtein's edits, two.
Published figures follow the code, and so does this; `transpositions` takes the paper's word for it.
Letters: N segments, K sequences, Z actions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.errors import BadConfig


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
