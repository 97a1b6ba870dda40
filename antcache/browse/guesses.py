"""What a system expected before each segment: its best classes, how likely, and the truth's rank.

Promise: a segment without an expectation is marked as such, and counts nowhere; probabilities are
the softmax over all classes, of the k best that soft targets keep with the mass of the others. The
scores themselves, N x C, are not kept. Letters: N segments of the catalog, K best that are kept, V
videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import locate
from antcache.annotations.segments import moments_of
from antcache.browse.catalog import NOTHING, Catalog
from antcache.browse.scores import FileOfScores, StoredTargets
from antcache.errors import FingerprintMismatch
from antcache.evaluation.metrics import NEVER, true_class_ranks
from antcache.evaluation.predictions import check_moments
from antcache.store.soft_targets import SoftTargets, best_classes

KEPT = 5
"""K."""
BEYOND = -2
"""Rank of a truth that is not among the classes that soft targets keep."""


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """The expectations of one system.

    Attributes:
        best: (N, K) ids, best first; `NOTHING` where there are none.
        share: (N, K) float32 probabilities.
        rank: (N,) of the truth, 0 for the best; `NOTHING` without an expectation, or `BEYOND`.
    """

    best: NDArray[np.int32]
    share: NDArray[np.float32]
    rank: NDArray[np.int32]

    @classmethod
    def none(cls, count: int) -> Guesses:
        """No expectation of any of so many segments."""
        return cls(
            best=np.full((count, KEPT), NOTHING, np.int32),
            share=np.zeros((count, KEPT), np.float32),
            rank=np.full(count, NOTHING, np.int32),
        )

    def figures(self, catalog: Catalog) -> dict[str, Any]:
        """How right they are, by video and in all, JSON-ready.

        `n` is the number of expectations, `top1` and `top5` how many have the truth among the best
        and `mean` the mean rank from 1; None without any, or where a truth has no rank.
        """
        known = self.rank != NOTHING
        beyond = self.rank == BEYOND
        video, total = catalog.video, len(catalog.videos)

        def counted(which: NDArray[np.bool_]) -> NDArray[np.int64]:
            return np.bincount(video[which], minlength=total)

        n, lost = counted(known), counted(beyond)
        ranks = np.bincount(
            video[known & ~beyond], weights=self.rank[known & ~beyond] + 1.0, minlength=total
        )
        top1, top5 = (counted((self.rank >= 0) & (self.rank < k)) for k in (1, 5))
        mean = [
            round(float(r / c), 1) if c and not b else None
            for r, c, b in zip(ranks, n, lost, strict=True)
        ]
        whole: dict[str, Any] = {
            "n": int(n.sum()),
            "top1": int(top1.sum()),
            "top5": int(top5.sum()),
        }
        whole["mean"] = (
            round(float(ranks.sum() / n.sum()), 1) if n.sum() and not lost.any() else None
        )
        columns = {"n": n.tolist(), "top1": top1.tolist(), "top5": top5.tolist(), "mean": mean}
        return {"videos": columns, "all": whole}

    def of(self, rows: slice) -> dict[str, Any]:
        """Those of a video's segments, JSON-ready; `rank` alone tells which have any."""
        return {
            "rank": self.rank[rows].tolist(),
            "best": self.best[rows].tolist(),
            "share": [[round(float(p), 4) for p in each] for each in self.share[rows]],
        }


def guesses_of_file(catalog: Catalog, scores: FileOfScores) -> Guesses:
    """The expectations of a run.

    Raises:
        FingerprintMismatch: it predicts segments that its split does not have.
        BadCheckpoint, BadPredictions: see `FileOfScores.blocks`.
    """
    rows = rows_of(catalog, scores)
    found = Guesses.none(len(catalog))
    for part, block in scores.blocks():
        here = rows[part]
        best, share = _best(block)
        found.best[here, : best.shape[1]] = best
        found.share[here, : best.shape[1]] = share
        found.rank[here] = _ranks(block, catalog.action[here])
    return found


def rows_of(catalog: Catalog, scores: FileOfScores) -> NDArray[np.int64]:
    """Position (n,) among the catalog's segments of each that is predicted.

    Raises:
        FingerprintMismatch: its split does not have one of them, or another one under its uid, or
            its classes are others.
    """
    taxonomy = catalog.taxonomy
    known = (taxonomy.fingerprint, len(taxonomy.actions)) if taxonomy else ("none", 0)
    found = scores.taxonomy, scores.num_classes
    if known != found:
        raise FingerprintMismatch(
            "predictions for another taxonomy than the store's",
            where=scores.path,
            expected=f"{known[1]} actions, {known[0]}",
            found=f"{found[1]} actions, {found[0]}",
            hint="look at them with the store they were made from",
        )
    own = np.flatnonzero(catalog.split == catalog.splits.index(scores.split))
    rows = locate(catalog.uid[own], scores.uid)
    if (rows < 0).any():
        unknown = scores.uid[rows < 0]
        raise FingerprintMismatch(
            f"predictions for segments that the split {scores.split!r} does not have",
            where=scores.path,
            found=f"{len(unknown)}, the first one {unknown[0]}",
            hint="look at them with the store they were made from",
        )
    there = own[rows]
    video = [catalog.videos[number] for number in catalog.video[there].tolist()]
    now = moments_of(video, catalog.start_s[there], catalog.stop_s[there])
    check_moments(scores.uid, scores.moment, now, scores.path)
    return there


def guesses_of_targets(catalog: Catalog, targets: StoredTargets) -> Guesses:
    """The expectations of a teacher; those of segments without labels are left out.

    Raises:
        DamagedStore, BadPredictions: see `StoredTargets.blocks`.
    """
    place = locate(targets.uid, catalog.uid)  # row of the soft targets of each segment, or -1
    found = Guesses.none(len(catalog))
    order = np.flatnonzero(place >= 0)
    order = order[np.argsort(place[order], kind="stable")]
    wanted = place[order]
    for part, block in targets.blocks():
        low, high = np.searchsorted(wanted, (part.start, part.stop))
        here = order[low:high]
        own = wanted[low:high] - part.start
        best, share, ranks = _of_targets(block, own, catalog.action[here])
        found.best[here, : best.shape[1]] = best
        found.share[here, : best.shape[1]] = share
        found.rank[here] = ranks
    return found


def _of_targets(
    block: SoftTargets, rows: NDArray[np.int64], truth: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int32]]:
    """Best classes, their probabilities, and the rank of the true ones."""
    if block.logits is not None:
        logits = block.logits[rows]
        return (*_best(logits), _ranks(logits, truth))
    assert block.index is not None
    assert block.logit is not None
    assert block.tail is not None
    index, logit = block.index[rows], block.logit[rows].astype(np.float64)
    mass = np.exp(logit - logit.max(axis=1, keepdims=True))
    kept = np.clip(1.0 - np.exp(block.tail[rows].astype(np.float64)), 0.0, 1.0)[:, None]
    share = kept * mass / mass.sum(axis=1, keepdims=True)
    hit = index == truth[:, None]
    ranks = np.where(hit.any(axis=1), hit.argmax(axis=1), BEYOND).astype(np.int32)
    return index[:, :KEPT], share[:, :KEPT].astype(np.float32), ranks


def _best(scores: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best classes (b, up to K) and their softmax probabilities."""
    best = best_classes(scores, min(KEPT, scores.shape[1]))
    own = np.take_along_axis(scores, best, axis=1).astype(np.float64)
    peak = own[:, :1]
    total = np.exp(scores - peak.astype(scores.dtype)).sum(axis=1, dtype=np.float64)
    return best, (np.exp(own - peak) / total[:, None]).astype(np.float32)


def _ranks(scores: NDArray[np.floating], truth: NDArray[np.int64]) -> NDArray[np.int32]:
    ranks = true_class_ranks(scores, truth)
    return np.where(ranks == NEVER, BEYOND, ranks).astype(np.int32)
