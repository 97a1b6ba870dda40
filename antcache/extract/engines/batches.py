"""Clips of several videos put together to batches, and the rows given back to their videos.

Promise: a batch has one shape; clips of a shape are computed in the order in which they came, so
that the rows of a video keep theirs. A video that fails takes its clips with it, and no other's.
Letters: B clips of a batch, T frames of a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import torch
from torch import Tensor

Made = Iterator[tuple[str, Tensor]]
"""Videos, and the next of their rows."""


class SharedBatches:
    """Clips that wait until a batch of their shape is full.

    Args:
        make: rows (B, ...) of clips (B, T, ...).
        size: clips of a full batch.
    """

    def __init__(self, make: Callable[[Tensor], Tensor], size: int) -> None:
        self._make, self._size = make, size
        self._waiting: dict[tuple[int, ...], list[tuple[str, Tensor]]] = {}

    def add(self, video: str, clip: Tensor) -> Made:
        """Take one more clip (T, ...); rows, if it fills a batch.

        A clip of another shape than the last of its video is computed after it.
        """
        shape = tuple(clip.shape)
        for other in [s for s in self._waiting if s != shape]:
            if any(name == video for name, _ in self._waiting[other]):
                yield from self._computed(other)
        waiting = self._waiting.setdefault(shape, [])
        waiting.append((video, clip))
        if len(waiting) == self._size:
            yield from self._computed(shape)

    def flush(self) -> Made:
        """Rows of all that waits."""
        for shape in list(self._waiting):
            yield from self._computed(shape)

    def drop(self, video: str) -> None:
        """Forget what waits of a video."""
        for shape, waiting in list(self._waiting.items()):
            if kept := [each for each in waiting if each[0] != video]:
                self._waiting[shape] = kept
            else:
                del self._waiting[shape]

    def _computed(self, shape: tuple[int, ...]) -> Made:
        waiting = self._waiting.pop(shape)
        made = self._make(torch.stack([clip for _, clip in waiting]))
        place = 0
        for video, clips in groupby(waiting, key=lambda each: each[0]):
            count = len(list(clips))
            yield video, made[place : place + count]
            place += count
