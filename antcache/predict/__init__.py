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
    from antcache.predict.listening.hearing import ListenConfig
    from antcache.predict.listening.learning import Listened, listen
    from antcache.predict.listening.listener import Listener
    from antcache.predict.rolling import RollingRows

__all__ = [
    "Anticipation",
    "Anticipations",
    "Anticipator",
    "Likely",
    "ListenConfig",
    "Listened",
    "Listener",
    "RollingRows",
    "Unanswered",
    "listen",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "answers": "Anticipation Anticipations Likely Unanswered",
        "anticipator": "Anticipator",
        "listening.hearing": "ListenConfig",
        "listening.learning": "Listened listen",
        "listening.listener": "Listener",
        "rolling": "RollingRows",
    },
)
