"""Which segments a second system fixed or broke, and whether a teacher was right about them.

Promise: every segment that counts is in exactly one cell per pair of seeds, so that the counts of a
table add up to N. Letters: N segments, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation.comparing.systems import System
from antcache.evaluation.metrics import NEVER

CHANGES = ("fixed", "broken", "right", "wrong")
"""A wrong and B right; A right and B wrong; both right; both wrong."""
TEACHER = ("right", "wrong", "absent")
"""The teacher's own guess; `absent`: it has none for the segment, or no teacher is given."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One segment, in words. Ranks are from 0; None: not ranked, or no prediction.

    Attributes:
        uid: of the segment.
        video: its name.
        start_s: when the action begins, seconds.
        stop_s: when it ends.
        truth: name of the true action.
        a: best guess of A.
        b: best guess of B.
        teacher: best guess of the teacher.
        rank_a: rank of the truth under A.
        rank_b: under B.
        rank_teacher: under the teacher.
        seeds: in how many pairs of seeds it is in this cell; the guesses are the first such pair's.
    """

    uid: str
    video: str
    start_s: float
    stop_s: float
    truth: str
    a: str | None
    b: str | None
    teacher: str | None
    rank_a: int | None
    rank_b: int | None
    rank_teacher: int | None
    seeds: int


@dataclass(frozen=True, kw_only=True)
class BucketCell:
    """One cell of the table.

    Attributes:
        teacher: one of `TEACHER`.
        change: one of `CHANGES`.
        count: segments, mean over the seeds.
        share: of the N segments, percent.
        examples: of `fixed` and `broken`: first those of the most seeds, then those whose
            truth's probability changed most.
    """

    teacher: str
    change: str
    count: float
    share: float
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """All cells for one k.

    Attributes:
        k: a guess is right if the truth is among the k best.
        cells: by `TEACHER`, then `CHANGES`; without a teacher those of `absent` alone.
    """

    k: int
    cells: tuple[BucketCell, ...]

    def cell(self, teacher: str, change: str) -> BucketCell:
        """The cell of these names."""
        return next(c for c in self.cells if (c.teacher, c.change) == (teacher, change))


def sort_into_buckets(
    a: Sequence[System],
    b: Sequence[System],
    teacher: System | None,
    segments: Segments,
    taxonomy: Taxonomy,
    *,
    k: int,
    examples: int,
) -> Buckets:
    """Count fixed and broken segments of S pairs of systems by what the teacher knew.

    A guess is right if the truth is among the `k` best; `examples` are kept of each cell.
    """
    absent = np.ones(len(segments), dtype=bool) if teacher is None else ~teacher.known
    groups = {"absent": absent}
    if teacher is not None:
        right = teacher.right(k) & ~absent
        groups = {"right": right, "wrong": ~right & ~absent, "absent": absent}
    before, after = (np.stack([s.right(k) for s in side]) for side in (a, b))
    outcomes = (~before & after, before & ~after, before & after, ~before & ~after)
    changes = dict(zip(CHANGES, outcomes, strict=True))
    gains = [np.exp(y.log_p) - np.exp(x.log_p) for x, y in zip(a, b, strict=True)]
    shift = np.mean(gains, axis=0)  # of the truth's probability (N,)

    def cell(group: str, change: str) -> BucketCell:
        inside = changes[change] & groups[group]
        count = float(inside.sum() / len(a))
        seeds = inside.sum(axis=0)
        order = np.lexsort([np.arange(len(seeds)), -np.abs(shift), -seeds])
        shown = [int(i) for i in order[:examples] if seeds[i] and change in ("fixed", "broken")]
        return BucketCell(
            teacher=group,
            change=change,
            count=count,
            share=100.0 * count / len(segments),
            examples=tuple(
                _example(i, inside[:, i], a, b, teacher, segments, taxonomy) for i in shown
            ),
        )

    cells = [cell(group, change) for group in groups for change in CHANGES]
    return Buckets(k=k, cells=tuple(cells))


def _example(
    i: int,
    pairs: NDArray[np.bool_],
    a: Sequence[System],
    b: Sequence[System],
    teacher: System | None,
    segments: Segments,
    taxonomy: Taxonomy,
) -> Example:
    first = int(np.argmax(pairs))

    def guess(system: System | None) -> str | None:
        if system is None or system.guess[i] < 0:
            return None
        return taxonomy.actions[int(system.guess[i])]

    def rank(system: System | None) -> int | None:
        own = NEVER if system is None else system.ranked.ranks["action"][i]
        return None if own == NEVER else int(own)

    return Example(
        uid=str(segments.uid[i]),
        video=str(segments.video[i]),
        start_s=float(segments.start_s[i]),
        stop_s=float(segments.stop_s[i]),
        truth=taxonomy.actions[segments.action[i]],
        a=guess(a[first]),
        b=guess(b[first]),
        teacher=guess(teacher),
        rank_a=rank(a[first]),
        rank_b=rank(b[first]),
        rank_teacher=rank(teacher),
        seeds=int(pairs.sum()),
    )
