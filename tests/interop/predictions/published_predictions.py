"""Predictions as a teacher publishes them, a store that they are for, and what brings them in."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy
from antcache.interop.predictions.importing import (
    PredictionsConfig,
    PredictionsReport,
    import_predictions,
)
from antcache.store import SoftTargets, Store

CLASSES, WIDTH = 6, 4
ALL = [*range(1, 13), *range(101, 107)]
Entry = dict[str, Any]


def taxonomy() -> Taxonomy:
    return Taxonomy(
        dataset="tiny",
        verbs=("take", "cut"),
        nouns=("pan", "leek", "salt"),
        actions=tuple(f"action {i}" for i in range(CLASSES)),
        action_verbs=(0, 0, 0, 1, 1, 1),
        action_nouns=(0, 1, 2, 0, 1, 2),
    )


def segments(uids: list[str], video: str) -> Segments:
    n = len(uids)
    actions = np.arange(n) % CLASSES
    return Segments.of(
        uid=uids,
        video=[video] * n,
        start_s=5 + 3.0 * np.arange(n),
        stop_s=8 + 3.0 * np.arange(n),
        verb=taxonomy().verb_of[actions],
        noun=taxonomy().noun_of[actions],
        action=actions,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Training segments 1 to 12, validation segments 101 to 106."""
    made = Store.create(tmp_path / "kitchen.zarr")
    made.write_labels(
        "train", segments([str(i) for i in range(1, 13)], "v1"), taxonomy(), source="made up"
    )
    made.write_labels(
        "validation", segments([str(i) for i in range(101, 107)], "v2"), taxonomy(), source="made"
    )
    return made


def logits_of(uid: int) -> np.ndarray:
    return np.random.default_rng(uid).normal(size=CLASSES).astype(np.float32)


def feature_of(uid: int) -> np.ndarray:
    return np.random.default_rng(1000 + uid).normal(size=WIDTH).astype(np.float32)


def entry(uid: int, /, **changes: Any) -> Entry:
    """As the published teacher writes it: columns of shape (C, 1), history and target beside."""
    fields = {
        "uid": uid,
        "history": [[3, 1], [2]],
        "target": 4,
        "logit_action": logits_of(uid)[:, None],
        "LM_feat": feature_of(uid)[:, None],
    }
    return {**fields, **changes}


def write(path: Path, entries: Any) -> Path:
    path.write_bytes(pickle.dumps(entries))
    return path


def imported(store: Store, *paths: Path, **settings: Any) -> tuple[SoftTargets, PredictionsReport]:
    config = PredictionsConfig(**{"name": "bert", **settings})
    report = import_predictions(store, paths, config)
    return store.targets(config.name), report


def check_all(targets: SoftTargets) -> None:
    assert targets.uid.tolist() == [str(uid) for uid in ALL]
    assert targets.valid.all()
    assert targets.logits is not None
    assert targets.feature is not None
    np.testing.assert_array_equal(targets.logits, [logits_of(uid) for uid in ALL])
    np.testing.assert_array_equal(targets.feature, [feature_of(uid) for uid in ALL])
    assert targets.logits.dtype == targets.feature.dtype == np.float32


def columns() -> dict[str, np.ndarray]:
    return {
        "uid": np.array(ALL),
        "logits": np.stack([logits_of(u) for u in ALL]),
        "feature": np.stack([feature_of(u) for u in ALL]),
    }
