"""What comes after the action that a window anticipates: labels of the actions after the next.

Promise: pure numpy; labels are those of one split, in the order of `Segments.in_order`, whether or
not those segments have windows. Where a video ends there is no action, and none is made up.
Letters: N windows, L later actions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments
from antcache.windows.frame_labels import UNLABELLED


def later_actions(segments: Segments, uid: NDArray[np.str_], count: int) -> NDArray[np.int64]:
    """The actions (N, L) that follow each of the segments `uid` (N,) in its video.

    Args:
        segments: the split, which has the segments asked for.
        uid: segments that are anticipated; several windows may be of one.
        count: L.

    Returns:
        (N, L) ids, `UNLABELLED` after the last segment of the video.
    """
    later = np.full((len(segments), count), UNLABELLED, dtype=np.int64)
    for own in segments.in_order().values():
        action = segments.action[own]
        for k in range(min(count, len(own) - 1)):
            later[own[: -1 - k], k] = action[k + 1 :]
    return later[segments.locate(uid)]
