"""Soft targets: what a teacher expects for every segment, dense or its k best.

Promise: a segment without a target is marked as such (`valid` false, or row -1); no target is ever
made up for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, locate
from antcache.annotations.protocols import Anchor
from antcache.checks import check_type
from antcache.errors import BadConfig

Logits = NDArray[np.float32]
BLOCK = 1 << 20
"""Values that are looked through at once for the best ones."""


@dataclass(frozen=True, kw_only=True)
class SoftTargets:
    """Targets of N segments over C classes, as logits.

    Either `logits` is given, or `index`, `logit` and `tail`.

    Attributes:
        uid: (N,) str, the segments.
        valid: (N,) bool, false where the teacher has nothing to say.
        logits: (N, C) float32, dense form.
        index: (N, K) int32, the classes with the K highest logits, best first.
        logit: (N, K) float32, their logits.
        tail: (N,) float32, log of the probability (at temperature 1) of all other classes.
        feature: (N, E) float32, what the teacher's last layer saw, or None where it is not kept; as
            with logits, rows that are not valid mean nothing (imported ones are NaN).
        moment: (N,) str, `Segments.moments` of what was spoken of; None where nobody says. A store
            keeps no targets beside labels in which a valid row's uid is of another one.
        attributes: JSON-ready account of the teacher; `taxonomy` is the taxonomy's fingerprint.
    """

    uid: NDArray[np.str_]
    valid: NDArray[np.bool_]
    logits: Logits | None = None
    index: NDArray[np.int32] | None = None
    logit: Logits | None = None
    tail: Logits | None = None
    feature: NDArray[np.float32] | None = None
    moment: NDArray[np.str_] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sparse = (self.index, self.logit, self.tail)
        if (self.logits is None) == any(a is None for a in sparse) or (
            self.logits is not None and any(a is not None for a in sparse)
        ):
            raise BadConfig("soft targets need either logits, or index, logit and tail")
        if any(len(a) != len(self.uid) for a in self.arrays().values()):
            shapes = {name: a.shape for name, a in self.arrays().items()}
            raise BadConfig("soft targets of unequal length", found=shapes)

    def __len__(self) -> int:
        return len(self.uid)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that are present, by name."""
        names = ("uid", "valid", "logits", "index", "logit", "tail", "feature", "moment")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}

    def rows_for(self, uids: NDArray[np.str_]) -> NDArray[np.int64]:
        """Row of each segment in `uids` (n,), or -1 where it is absent or not valid."""
        rows = locate(self.uid, uids)
        known = rows >= 0
        known[known] = self.valid[rows[known]]
        return np.where(known, rows, -1)

    def top_k(self, k: int) -> SoftTargets:
        """The same targets cut to their k best classes, with the mass of the others as `tail`.

        Ties go to the lower class. Rows that are not valid keep k arbitrary classes.

        Raises:
            BadConfig: the targets are not dense, or k is not in 1 to C.
        """
        if self.logits is None:
            raise BadConfig("only dense soft targets can be cut to their k best")
        classes = self.logits.shape[1]
        if not 1 <= k <= classes:
            raise BadConfig("impossible k", expected=f"1 to {classes}", found=k)
        index = np.empty((len(self), k), dtype=np.int32)
        logit = np.empty((len(self), k), dtype=np.float32)
        tail = np.empty(len(self), dtype=np.float32)
        step = max(1, BLOCK // classes)
        for start in range(0, len(self), step):
            rows = slice(start, start + step)
            own = self.logits[rows]
            best = best_classes(own, k)
            index[rows], logit[rows] = best, np.take_along_axis(own, best, axis=1)
            exact = own.astype(np.float64)
            mass = np.exp(exact - exact.max(axis=1, keepdims=True))
            total = mass.sum(axis=1)
            np.put_along_axis(mass, best, 0.0, axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                tail[rows] = np.log(mass.sum(axis=1) / total)
        return SoftTargets(
            uid=self.uid,
            valid=self.valid,
            index=index,
            logit=logit,
            tail=tail,
            feature=self.feature,
            moment=self.moment,
            attributes={**self.attributes, "form": f"top-{k}", "classes": classes},
        )


def best_classes(logits: NDArray[Any], k: int) -> NDArray[np.int64]:
    """The k best classes (N, k) of each row (N, C), the best one first; ties go to the lower class.

    Only rows whose k-th place is shared, or that hold no numbers, are sorted as a whole.
    """
    least = -logits
    best = np.sort(np.argpartition(least, k - 1, axis=1)[:, :k], axis=1)
    found = np.take_along_axis(least, best, axis=1)
    best = np.take_along_axis(best, np.argsort(found, axis=1, kind="stable"), axis=1)
    shared = (least <= found.max(axis=1, keepdims=True)).sum(axis=1) != k
    best[shared] = np.argsort(least[shared], axis=1, kind="stable")[:, :k]
    return best


def elsewhere(
    uid: NDArray[np.str_], moment: NDArray[np.str_], segments: Segments, anchor: float = 0.0
) -> NDArray[np.str_]:
    """Those of `uid` (N,) whose segment is of another video than `moment` (N,) says, or of another
    time of it, at the anchor, than tables of the same segments give."""
    rows = segments.locate(uid)
    there = rows >= 0
    found: NDArray[np.str_] = uid[there][segments[rows[there]].apart_from(moment[there], anchor)]
    return found


def anchor_of(attributes: Mapping[str, Any]) -> float:
    """What the gap of a teacher's histories was counted back from, as in `Protocol.anchor`.

    Soft targets that say nothing of it are those of the start.

    Raises:
        BadConfig: they say what is no anchor.
    """
    anchor = attributes.get("anchor", 0.0)
    check_type("anchor", anchor, Anchor)
    return float(anchor)


def training_unknown(attributes: Mapping[str, Any], splits: Collection[str]) -> str:
    """Why it can't be told which segments a teacher learned from, if its training split is none of
    `splits`; empty if it is, or if nothing is said of one (as of imported predictions)."""
    split = attributes.get("train_split")
    if not isinstance(split, str) or split in splits:
        return ""
    return (
        f"made by a teacher trained on the split {split!r:.200}, which the store does not have: "
        "it is not known which segments it learned from, those of validation perhaps"
    )
