"""A video in, what comes next out: a trained student asked about a file, a folder or a camera.

Promise: what is said of a video is what `antcache student predict` says of a store that was made of
it; nothing is written. What loads PyTorch is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from antcache.exports import lazy_exports

if TYPE_CHECKING:
    from antcache.predict.answers import Anticipation, Anticipations, Likely, Unanswered
    from antcache.predict.anticipator import Anticipator
    from antcache.predict.rolling import RollingRows

__all__ = [
    "Anticipation",
    "Anticipations",
    "Anticipator",
    "Likely",
    "RollingRows",
    "Unanswered",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "answers": "Anticipation Anticipations Likely Unanswered",
        "anticipator": "Anticipator",
        "rolling": "RollingRows",
    },
)
