"""Which segments of a split count: published figures on the same videos leave different ones out.

Promise: each denominator is a rule on the start of a segment (with another anchor: its reference
point), exact in frames, and no segment is left out for what a model says about it
(docs/protocol.md). On EPIC-KITCHENS-55 validation:

- `all`: every labelled segment (4,979; the distillation paper's teachers).
- `rulstm`: those with a frame to see 0.25 s before they start, the last time step of RULSTM's
  sequences (4,972; fpv-iplab/rulstm, `dataset.py`: a sequence whose last frame is below 1 is
  discarded).
- `avt`: those with a frame to see at `start - gap` (4,969; see `annotations.protocols`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments
from antcache.annotations.protocols import Protocol, sample_windows
from antcache.checks import one_of
from antcache.timebase import last_observed_frames

DENOMINATORS = ("all", "rulstm", "avt")
RULSTM_STEP_S = 0.25


def counted(segments: Segments, denominator: str, protocol: Protocol) -> NDArray[np.bool_]:
    """Mask (N,) of the segments that count.

    Args:
        segments: N segments.
        denominator: one of `DENOMINATORS`.
        protocol: whose gap `avt` means, and whose anchor both do.

    Raises:
        BadConfig: unknown denominator.
    """
    one_of("denominator", denominator, DENOMINATORS)
    if denominator == "all":
        return np.ones(len(segments), dtype=bool)
    if denominator == "rulstm":
        reference_s = protocol.reference_s(segments.start_s, segments.stop_s)
        return np.asarray(last_observed_frames(reference_s, RULSTM_STEP_S) >= 1)
    return sample_windows(segments.start_s, protocol, segments.stop_s).kept
