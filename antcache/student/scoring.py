"""Scores of windows by a model: the same in a run's validation and for a student asked later.

Promise: windows are taken in the order asked for, and no value is fetched from the device before
all are scored. Letters: B windows of a batch, N windows, C classes, V verbs, O nouns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.student.heads.head import HeadOutput
from antcache.student.training.distributed import ALONE, Processes
from antcache.windows.dataset import Windows

SCORING_BATCH = 512
"""Windows that are scored at a time."""

SCORING_TOKENS = 1 << 15
"""Tokens that are scored at a time: windows of rows of many tokens are fewer."""

Model = Callable[[Tensor], HeadOutput]
"""Anticipates from features (B, T, D), or (B, T, K, D) of tokens, of any float type."""

Look = Callable[[Tensor, Tensor, HeadOutput], None]
"""Is shown the positions (B,), the features and the output of each batch."""


class Scores(NamedTuple):
    """Logits of N windows.

    Attributes:
        action: (N, C) float32.
        verb: (N, V) float32 of the student's own verb classifier, or None without one.
        noun: (N, O) float32 likewise.
    """

    action: NDArray[np.float32]
    verb: NDArray[np.float32] | None
    noun: NDArray[np.float32] | None

    @property
    def own(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Own verb and noun scores, or None."""
        return None if self.verb is None or self.noun is None else (self.verb, self.noun)


def scoring_batch(shape: tuple[int, ...]) -> int:
    """How many windows of features (N, T, D), or (N, T, K, D) of tokens, are scored at a time."""
    if len(shape) < 4:
        return SCORING_BATCH
    return max(1, min(SCORING_BATCH, SCORING_TOKENS // (shape[1] * shape[2])))


@torch.no_grad()
def predict(
    model: Model,
    windows: Windows,
    rows: Tensor | None = None,
    *,
    group: Processes = ALONE,
    look: Look | None = None,
) -> Scores:
    """Scores of all windows, or of those at `rows` (n,), given on the host.

    Args:
        model: what scores them, in evaluation mode.
        windows: packed or lazy.
        rows: which windows; None is all.
        group: the processes that share the windows; each gets the scores of all.
        look: called with each batch, as soon as it is scored.
    """
    order = torch.arange(len(windows)) if rows is None else rows
    size = scoring_batch(windows.features.shape)
    found: list[list[Tensor]] = []
    for positions, features in windows.batches(group.part_of(order), size):
        output = model(features)
        if look is not None:
            look(positions, features, output)
        kept = (output.logits, output.verb_logits, output.noun_logits)
        found.append([scores.float() for scores in kept if scores is not None])
    columns = [torch.cat(parts) for parts in zip(*found, strict=True)]
    arrays = [group.gathered(column, len(order)).cpu().numpy() for column in columns]
    return Scores(*arrays) if len(arrays) > 1 else Scores(arrays[0], None, None)
