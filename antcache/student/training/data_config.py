"""Which features and splits a student learns from, and which it is scored on.

Promise: what has a default fits every store that has one stream and the usual splits.
"""

from __future__ import annotations

from dataclasses import dataclass

from antcache.checks import check_types, distinct


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Streams and splits."""

    stream: tuple[str, ...] = ()
    """Feature stream, or several side by side (rgb,flow); none takes the store's only one."""
    train_split: str = "train"
    """Split that is trained on."""
    validation_split: str = "validation"
    """Split that is scored after the epochs, and never selected on."""
    allow_missing: bool = False
    """Leave segments out whose features are missing, instead of refusing to train."""
    allow_future: bool = False
    """Train on features that have seen what comes after their rows' times; the result says so."""

    def __post_init__(self) -> None:
        check_types(self)
        distinct("stream", self.stream)
