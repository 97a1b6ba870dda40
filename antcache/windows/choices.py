"""Which window of a segment is looked at: its only one, or one of several, drawn for every epoch.

Promise: what is drawn follows from the generator alone, wherever windows lie; a segment whose
choices are fewer than others' is seen as often. With one window each nothing is drawn.
Letters: N segments, M windows, P choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DRAWN_FROM = 1 << 31
"""Numbers that are drawn; the remainder counts. No choice is 1e-6 likelier than another."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The windows of N segments, on the host.

    Attributes:
        windows: (N, P) int64, positions among M windows, those that a segment has in front.
        count: (N,) int64, how many it has, at least one.
        own: (N,) int64, its window under the protocol that it is scored by, -1 without.
    """

    windows: Tensor
    count: Tensor
    own: Tensor

    @classmethod
    def only(cls, num_segments: int) -> Choices:
        """One window of each segment, in order."""
        each = torch.arange(num_segments)
        return cls(windows=each[:, None], count=torch.ones_like(each), own=each)

    @classmethod
    def of(cls, windows: NDArray[np.int64], own: NDArray[np.int64]) -> Choices:
        """Out of positions (N, P) and (N,), -1 where a segment has no such window."""
        front = np.argsort(windows < 0, axis=1, kind="stable")
        return cls(
            windows=torch.from_numpy(np.take_along_axis(windows, front, axis=1)),
            count=torch.from_numpy((windows >= 0).sum(axis=1)),
            own=torch.from_numpy(own),
        )

    def __len__(self) -> int:
        return len(self.count)

    @property
    def first(self) -> Tensor:
        """(N,) a window of each segment, for what is the same in all of them."""
        return self.windows[:, 0]

    def draw(self, segments: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A window (n,) of each of the segments (n,), each of its own as likely as another.

        Without a generator, PyTorch's own.
        """
        if self.windows.shape[1] == 1:
            return self.first[segments]
        number = torch.randint(DRAWN_FROM, segments.shape, generator=generator)
        return self.windows[segments, number % self.count[segments]]
