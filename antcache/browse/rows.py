"""Where a video has rows of features, as stretches of time.

Promise: no row is read, only when rows were seen; what can't be read says why.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from antcache.errors import AntcacheError
from antcache.store import Features, Store, Stream
from antcache.text import plain

MOST = 500
"""Stretches that are told apart; rows kept for the ends of windows are rarely one."""


def rows_of_video(store: Store, stream: str, video: str) -> dict[str, Any]:
    """What a stream has of a video, JSON-ready.

    `rows` is their number, `spans` the stretches of time that they stand for in seconds, `of` what
    a row is, and `why` says why there is none of it all.
    """
    found: dict[str, Any] = {"name": plain(stream)}
    try:
        settings = store.stream(stream)
        if not store.has_features(stream, video):
            return {**found, "why": "the stream does not have this video"}
        features = store.features(stream, video, settings=settings)
    except AntcacheError as error:
        return {**found, "why": plain(error)}
    return {
        **found,
        "rows": features.num_rows,
        "spans": spans(features),
        "of": words_of(settings),
        "listed": features.listed,
    }


def spans(features: Features) -> list[list[float]]:
    """Stretches of time, in seconds, for which there is a row that is not too old."""
    seconds = features.seconds
    if not len(seconds):
        return []
    step = 0.0 if features.listed else features.step_s or 2 / features.fps
    last = 0.0 if features.listed else 1 / features.fps
    apart = np.flatnonzero(np.diff(seconds) > max(step, features.max_age_s or 0.0) + 1e-9)
    first = seconds[np.concatenate([[0], apart + 1])]
    end = seconds[np.concatenate([apart, [len(seconds) - 1]])] + last
    if len(first) > MOST:  # as many as can be drawn, together from the first to the last
        cut = np.linspace(0, len(first) - 1, MOST).astype(int)
        first, end = first[cut], end[cut]
    return [[round(float(a), 2), round(float(b), 2)] for a, b in zip(first, end, strict=True)]


def words_of(stream: Stream) -> str:
    """What a row is, in words."""
    if stream.grid is None:
        return f"{stream.dim} numbers, {stream.fps:g} per second"
    when = "where windows end" if stream.at is not None else f"{stream.fps:g} per second"
    grid = "x".join(map(str, stream.grid))
    return f"{grid} tokens of {stream.dim} numbers, {when}"
