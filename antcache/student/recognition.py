"""A recogniser: an ordinary run whose question is what is being done now, not what comes next.

Promise: nothing is trained by other code. A window ends inside an action and not before it: the gap
is 0, and the anchor a point between the action's start and end. In every epoch each segment is seen
at one of `MOMENTS`, drawn anew, so that a short action counts as much as a long one and its first
frames as much as its last; it is scored in its middle. By gap and anchor a recogniser's figures are
those of another task than any anticipation's (`antcache.evaluation.task`).
"""

from __future__ import annotations

from antcache.errors import BadConfig
from antcache.student.config import StudentConfig

MOMENTS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Parts of an action after which it is looked at in training: even, and none at its very ends,
where annotators differ about which action it is."""

MIDDLE = 0.5
"""The one at which it is scored."""


def recogniser(config: StudentConfig) -> StudentConfig:
    """The settings of a run that recognises, from those of a run.

    Args:
        config: its own anchor and anchors are kept, where they are points inside an action.

    Raises:
        BadConfig: it has a gap, or looks at what is no point inside an action.
    """
    if config.window.gap_s or config.data.gaps:
        raise BadConfig(
            "a recogniser says what is under way: there is no gap",
            expected="a gap of 0 s, and none to draw",
            found=f"{config.window.gap_s or config.data.gaps} s",
            hint="antcache student train anticipates",
        )
    anchor = MIDDLE if config.window.anchor is None else config.window.anchor
    anchors = config.data.anchors or MOMENTS
    for each in (anchor, *anchors):
        if not 0 < each < 1:
            raise BadConfig(
                "a recogniser looks at a point inside an action",
                expected="anchors between 0 and 1, these left out",
                found=f"{each:g}",
            )
    return config.replace(
        gap_s=0.0, anchor=anchor, anchors=anchors, parity=config.window.parity or "exact"
    )
