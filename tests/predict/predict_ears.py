"""A teacher that hears what a student recognises in the kitchen's videos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from predict_kitchen import Kitchen, action_at, extracted, labels, taxonomy, trained

from antcache.annotations import Segments
from antcache.evaluation import Predictions
from antcache.extract import load_backbone
from antcache.predict import Anticipator
from antcache.predict.listening.hearing import ListenConfig
from antcache.predict.listening.learning import listen
from antcache.store import Store
from antcache.student.recognition import MOMENTS
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import history_for, teach

NOW: dict[str, Any] = {"gap_s": 0.0, "anchor": 0.5, "anchors": MOMENTS, "num_frames": 3}
APART: dict[str, Any] = {"held_out": 0.5, "metric": "action/top1"}


@dataclass(frozen=True)
class Listening:
    """What listens, to whom, and what makes features."""

    folder: Path
    student: Path
    recogniser: Path
    kitchen: Kitchen
    backbone: Any
    predictions: Predictions
    segments: Segments


def often(video: str, length: float, first: int) -> Segments:
    """Segments that begin at all kinds of times, between those of the recogniser and at them."""
    begin = np.array([0.62, 0.9, 1.5, 2.0, 2.31, 3.5, 3.51, 4.77, 5.05, 6.4, 7.0, 7.9])
    begin = begin[begin < length]
    action = [action_at(start, first) for start in begin]
    classes = taxonomy()
    return Segments.of(
        uid=[f"{video}_often_{i}" for i in range(len(begin))],
        video=[video] * len(begin),
        start_s=begin,
        stop_s=begin + 0.3,
        verb=classes.verb_of[action],
        noun=classes.noun_of[action],
        action=action,
    )


def heard(listening: Listening, weights: tuple[float, float]) -> Anticipator:
    """Student and teacher with other weights than those that were learned."""
    found = Anticipator.load(
        listening.student, teacher=listening.folder, backbone=listening.backbone, device="cpu"
    )
    assert found.listener is not None
    return replace(found, listener=replace(found.listener, weights=weights))


def ears(folder: Path, made: Kitchen, vit: Path) -> Listening:
    """A teacher that listens to a recogniser of the kitchen's videos."""
    store = Store.create(folder / "store.zarr")
    lengths = {name: made.lengths[name] for name in ("even", "odd")}
    segments = often("held", 8.0, 2)
    splits = {"train": labels(lengths, {"even": 0, "odd": 1}), "validation": segments}
    store.write_splits(splits, taxonomy(), source="a test")
    kitchen = Kitchen(folder=made.folder, store=store, lengths=made.lengths)
    backbone = load_backbone(vit, device="cpu")
    extracted(kitchen, backbone, "rgb", fps=5.0)
    student = trained(kitchen, folder / "student", "rgb", **APART)
    recogniser = trained(kitchen, folder / "recogniser", "rgb", **APART, **NOW)
    teach(store, "count", TargetConfig(history=history_for(store), folds=0), folder / "teacher")
    found = listen(
        store,
        student,
        recogniser,
        folder / "teacher",
        folder / "ears",
        config=ListenConfig(every_s=0.5),
    )
    return Listening(
        folder=folder / "ears",
        student=student,
        recogniser=recogniser,
        kitchen=kitchen,
        backbone=backbone,
        predictions=found.predictions,
        segments=segments,
    )
