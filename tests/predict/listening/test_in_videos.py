"""A video in: student and listening teacher say what they say over a store of the video."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from predict_kitchen import GAP_S, Kitchen, action_at, extracted, labels, taxonomy, trained

from antcache.annotations import Segments
from antcache.cli.main import cli
from antcache.errors import BadConfig, FingerprintMismatch
from antcache.evaluation import Predictions
from antcache.extract import load_backbone
from antcache.predict import Anticipator
from antcache.predict.listening.hearing import ListenConfig
from antcache.predict.listening.learning import listen
from antcache.predict.listening.listener import HEARD
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


@pytest.fixture(scope="module")
def listening(made: Kitchen, vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Listening:
    folder = tmp_path_factory.mktemp("listening")
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


def heard(listening: Listening, weights: tuple[float, float]) -> Anticipator:
    """Student and teacher with other weights than those that were learned."""
    found = Anticipator.load(
        listening.student, teacher=listening.folder, backbone=listening.backbone, device="cpu"
    )
    assert found.listener is not None
    return replace(found, listener=replace(found.listener, weights=weights))


def test_equals_what_is_said_over_a_store(listening: Listening) -> None:
    """The teacher alone, and both with the weights that were learned."""
    own = Predictions.load(listening.folder / HEARD)
    where = listening.segments.locate(own.uid)
    times = listening.segments.start_s[where] - GAP_S
    assert len(times) >= 10
    video = listening.kitchen.folder / "held.mp4"
    alone = heard(listening, (0.0, 1.0)).predict(video, at=times)
    assert alone.times_s.tolist() == times.tolist()
    np.testing.assert_allclose(alone.scores, own.scores, atol=1e-5)
    assert np.ptp(own.scores, axis=0).max() > 1e-2  # what was recognised makes a difference
    both = Anticipator.load(
        listening.student, teacher=listening.folder, backbone=listening.backbone, device="cpu"
    ).predict(video, at=times)
    np.testing.assert_allclose(both.scores, listening.predictions.scores, atol=1e-5)


def test_with_all_the_weight_on_the_student_it_is_the_student(listening: Listening) -> None:
    video = listening.kitchen.folder / "odd.mkv"
    alone = Anticipator.load(listening.student, backbone=listening.backbone, device="cpu")
    said, wanted = heard(listening, (1.0, 0.0)).predict(video), alone.predict(video)
    np.testing.assert_array_equal(said.times_s, wanted.times_s)
    np.testing.assert_allclose(said.scores, wanted.scores, atol=1e-6)
    assert said.last_s == wanted.last_s


def test_half_and_half_is_between_and_later_times_change_nothing(listening: Listening) -> None:
    """Of all times and of a few; `each` says the same, and what has no answer is said."""
    video = listening.kitchen.folder / "even.mp4"
    every = heard(listening, (0.5, 0.5)).predict(video, every=0.7)
    few = heard(listening, (0.5, 0.5)).predict(video, at=[2.8, 7.0, 50.0])
    np.testing.assert_allclose(
        few.scores, every.scores[np.searchsorted(every.times_s, [2.7, 6.9])], atol=1e-6
    )
    assert [each.time_s for each in few.unanswered] == [50.0]
    np.testing.assert_allclose(np.exp(every.scores).sum(axis=1), 1.0, atol=1e-5)
    ends = [heard(listening, w).predict(video, every=0.7) for w in ((1.0, 0.0), (0.0, 1.0))]
    middle = (np.exp(ends[0].scores) + np.exp(ends[1].scores)) / 2
    np.testing.assert_allclose(np.exp(every.scores), middle, atol=1e-5)
    answers = list(heard(listening, (0.5, 0.5)).each(video, every=0.7))
    assert [a.time_s for a in answers] == every.times_s.tolist()


def test_the_command_says_it(listening: Listening) -> None:
    video = listening.kitchen.folder / "even.mp4"
    given = ["predict", str(video), "--student", str(listening.student), "--every", "2"]
    result = CliRunner().invoke(cli, [*given, "--teacher", str(listening.folder)])
    assert result.exit_code == 0, result.output
    assert "4 s: in 0.5 s, " in result.stdout
    # A recogniser is a student of another question.
    now = ["predict", str(video), "--student", str(listening.recogniser), "--at", "3"]
    assert "3 s: now, " in CliRunner().invoke(cli, now).stdout
    wrong = ["predict", str(video), "--student", str(listening.recogniser), "--at", "3"]
    result = CliRunner().invoke(cli, [*wrong, "--teacher", str(listening.folder)])
    assert result.exit_code == 2
    assert "the listening teacher has weights for another student" in result.stderr


def test_what_does_not_go_together_is_refused(listening: Listening, tmp_path: Path) -> None:
    both = heard(listening, (0.5, 0.5))
    for ask in (both.rolling, lambda: both.stream([])):
        with pytest.raises(BadConfig, match="a teacher that listens hears whole videos"):
            ask()
    other = trained(listening.kitchen, tmp_path / "other", "rgb", **APART, seed=1)
    load = {"teacher": listening.folder, "backbone": listening.backbone, "device": "cpu"}
    with pytest.raises(FingerprintMismatch, match="has weights for another student"):
        Anticipator.load(other, **load)
    extracted(listening.kitchen, listening.backbone, "coarse", fps=4.0)
    coarse = trained(listening.kitchen, tmp_path / "coarse", "coarse", **APART)
    with pytest.raises(FingerprintMismatch, match="hears a recogniser of other features"):
        Anticipator.load(coarse, **load)
