"""Training videos that are not trained on: by them epochs are compared, and streams are fused.

Promise: no window of a held-out video is trained on. Which videos are held out follows from their
names alone: it is the same for every seed and setting, and a larger share holds the same ones.
Letters: N segments, H segments held out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.annotations import Segments, Taxonomy
from antcache.checks import one_of
from antcache.errors import BadConfig
from antcache.evaluation.metrics import metrics_of
from antcache.student.training.optimization_config import SelectionConfig


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The segments of the videos that are held out.

    Attributes:
        rows: (H,) positions among the segments that are trained on or held out, ascending.
        segments: the H segments, in that order.
        videos: names of the videos.
    """

    rows: Tensor
    segments: Segments
    videos: tuple[str, ...]

    def scored(self, own: Tensor) -> HeldOut:
        """The windows that the segments are scored by, where they have one: `own` (N,), or -1.

        `rows` are positions of windows then.

        Raises:
            BadConfig: no segment has one.
        """
        rows = own[self.rows]
        there = rows >= 0
        if not there.any():
            raise BadConfig(
                "no segment that is held out has a window of the gap and anchor that is scored"
            )
        return replace(
            self, rows=rows[there], segments=self.segments[np.flatnonzero(there.numpy())]
        )


def hold_out(
    uid: NDArray[np.str_], labels: Segments, taxonomy: Taxonomy, config: SelectionConfig
) -> tuple[Tensor, HeldOut | None]:
    """Positions (n,) of the segments to train on, and what is held out, if anything.

    Args:
        uid: (N,) segments that have windows.
        labels: the training split.
        taxonomy: the classes, which say whether the metric is there.
        config: `held_out` and `metric`.

    Raises:
        BadConfig: no video would be left on one side, or there is no such metric.
    """
    if not config.held_out:
        return torch.arange(len(uid)), None
    segments = labels[labels.locate(uid)]
    videos = sorted(set(segments.video.tolist()), key=_place)
    count = max(1, round(config.held_out * len(videos)))
    if count >= len(videos):
        raise BadConfig(
            "no training video is left beside those held out",
            expected="held_out well below 1, and at least two videos",
            found=f"held_out = {config.held_out} of {len(videos)} videos",
        )
    held = np.isin(segments.video, videos[:count])
    chosen = segments[np.flatnonzero(held)]
    defined = [n for n, m in metrics_of(taxonomy).items() if m.defined(getattr(chosen, m.kind))]
    one_of("metric of the videos held out", config.metric, defined)
    rows = torch.from_numpy(held)
    return (~rows).nonzero()[:, 0], HeldOut(
        rows=rows.nonzero()[:, 0], segments=chosen, videos=tuple(sorted(videos[:count]))
    )


def _place(video: str) -> str:
    """What videos are sorted by: as good as chance, and the same everywhere."""
    return hashlib.sha256(video.encode()).hexdigest()


def best_epoch(history: list[dict[str, Any]], metric: str) -> int:
    """Epoch of the best held-out metric, the first of several; 0 before any."""
    values = [(record["held_out"][metric], -record["epoch"]) for record in history]
    return -max(values)[1] if values else 0
