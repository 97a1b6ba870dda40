"""A store in numbers: what `antcache store info` prints.

Promise: JSON-ready, and read from metadata and labels alone; no feature row is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from antcache.annotations import Segments
from antcache.store.backends import format_of
from antcache.store.features import Stream
from antcache.store.store import Store


def describe(store: Store) -> dict[str, Any]:
    """Labels per split, features per stream, soft targets per teacher."""
    labels = {split: store.labels(split) for split in store.splits()}
    return {
        "path": str(store.path),
        "format": format_of(store.backend.group_attributes("")),
        "backend": store.kind,
        "dataset": store.dataset,
        "labels": {
            split: {"segments": len(s), "videos": len(s.videos)} for split, s in labels.items()
        },
        "features": {name: _stream(store, name, labels) for name in store.streams()},
        "targets": {name: _targets(store, name) for name in store.target_names()},
    }


def _stream(store: Store, name: str, labels: Mapping[str, Segments]) -> dict[str, Any]:
    stream = store.stream(name)
    videos = store.row_counts(name)
    rows = sum(videos.values())
    wanted = {video for segments in labels.values() for video in segments.videos}
    return {
        "videos": len(videos),
        "labelled_videos_missing": len(wanted.difference(videos)),
        "rows": rows,
        "hours": None if stream.at else rows / stream.fps / 3600,
        "bytes": rows * _row_bytes(stream),
        "dim": stream.dim,
        "dtype": stream.dtype,
        "fps": stream.fps,
        "source": stream.source,
        "fingerprint": stream.fingerprint,
        **stream.token_fields,
    }


def _row_bytes(stream: Stream) -> int:
    """Bytes of a row, with its scales where it is of int8 tokens."""
    scales = 2 * stream.num_tokens if stream.dtype == "int8" else 0
    return math.prod(stream.row_shape) * np.dtype(stream.dtype).itemsize + scales


def _targets(store: Store, name: str) -> dict[str, Any]:
    targets = store.targets(name)
    return {"segments": len(targets), "valid": int(targets.valid.sum()), **targets.attributes}
