"""What is known of windows beside their features: whose they are, and what happens.

Promise: pure numpy; one record has all columns, so that who selects or joins windows names none of
them. Letters: N windows, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class WindowLabels:
    """What is known of N windows.

    Attributes:
        uid: (N,) str, the segment that each is anticipated for.
        video: (N,) str.
        action: (N,) int64 label.
        verb: (N,) int64 label.
        noun: (N,) int64 label.
        padded: (N, T) bool, frames that losses pass over.
        frame_action: (N, T) int64, action under way at each frame (of several, the one that began
            last), `frame_labels.UNLABELLED` where none is or losses pass the frame over.
    """

    uid: NDArray[np.str_]
    video: NDArray[np.str_]
    action: NDArray[np.int64]
    verb: NDArray[np.int64]
    noun: NDArray[np.int64]
    padded: NDArray[np.bool_]
    frame_action: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.uid)

    @classmethod
    def joined(cls, parts: Sequence[WindowLabels]) -> WindowLabels:
        """The windows of all parts, one part after the other."""
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )

    def __getitem__(self, places: NDArray[np.int64]) -> WindowLabels:
        """The windows at `places` (n,)."""
        return WindowLabels(**{f.name: getattr(self, f.name)[places] for f in fields(self)})
