"""Predictions of the small store, and files of theirs that say something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from antcache.evaluation import Predictions
from antcache.store import Store
from antcache.tensors import read_tensors, write_tensors


def made(store: Store, split: str = "validation", **changes: object) -> Predictions:
    segments = store.labels(split)
    scores = np.random.default_rng(0).normal(size=(len(segments), 5)).astype(np.float32)
    found = Predictions(
        uid=segments.uid, scores=scores, split=split, taxonomy=store.taxonomy.fingerprint
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def rewritten(path: Path, **changes: str | None) -> None:
    tensors, metadata = read_tensors(path)
    kept = {k: v for k, v in {**metadata, **changes}.items() if v is not None}
    path.unlink()
    write_tensors(path, {k: np.asarray(v) for k, v in tensors.items()}, kept)
