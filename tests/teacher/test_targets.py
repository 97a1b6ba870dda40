"""Soft targets: for every segment, cross-fitted without its video, the same every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from antcache.errors import BadConfig, MissingKey
from antcache.teacher import targets as module
from antcache.teacher.base import KINDS, TeacherOutput
from antcache.teacher.counting.teacher import CountConfig, CountTeacher
from antcache.teacher.histories import HistoryConfig, Timeline
from antcache.teacher.scripts import Scripts
from antcache.teacher.targets import TargetConfig, examples_for, make_targets, score_segments

SMALL = {
    "count": {"length": 6, "folds": 2},
    "sequence": {
        "length": 6,
        "attended": 3,
        "width": 16,
        "heads": 2,
        "layers": 1,
        "epochs": 2,
        "batch": 16,
    },
}


@pytest.mark.parametrize("kind", list(SMALL))
@pytest.mark.parametrize("folds", [0, 2])
def test_every_segment_of_every_split_has_a_target(kind, folds, timeline, taxonomy):
    config = TargetConfig(kind=kind, settings=SMALL[kind], folds=folds)
    teacher, targets = make_targets(timeline, config)
    np.testing.assert_array_equal(targets.uid, timeline.segments.uid)
    assert targets.valid.all()
    assert targets.logits.shape == (len(timeline.segments), 12)
    assert targets.logits.dtype == np.float32
    # Empty histories are predictions like others: the first segments of all videos agree.
    first = timeline.segments.start_s == 0
    assert first.sum() == 11
    given = {k: targets.attributes[k] for k in ("kind", "history", "gap_s", "folds", "form")}
    assert given == {
        "kind": kind,
        "history": "complete",
        "gap_s": 1.0,
        "folds": folds,
        "form": "dense",
    }
    assert targets.attributes["taxonomy"] == taxonomy.fingerprint
    assert targets.attributes["config"]["length"] == 6
    # Segments outside the training split are scored by the teacher of the whole training split.
    alone = score_segments(timeline, teacher, HistoryConfig())
    other = timeline.split == "validation"
    np.testing.assert_array_equal(targets.logits[other], alone.logits[other])
    same = (targets.logits[~other] == alone.logits[~other]).all()
    assert same == (folds == 0)


@pytest.mark.parametrize("kind", list(SMALL))
def test_the_same_settings_and_seed_give_the_same_targets(kind, timeline):
    config = TargetConfig(kind=kind, settings=SMALL[kind], folds=2)
    first, again = make_targets(timeline, config)[1], make_targets(timeline, config)[1]
    np.testing.assert_array_equal(first.logits, again.logits)
    reseeded = TargetConfig(kind=kind, settings={**SMALL[kind], "seed": 5}, folds=2)
    assert (make_targets(timeline, reseeded)[1].logits != first.logits).any()


def test_cross_fitting_never_sees_the_video(make_segments, join, taxonomy):
    """Only the canary video ever closes the tap after taking the cup, again and again."""
    canary = [1, 11] * 10
    others = [make_segments(f"t{i}", np.arange(20) * 2.0, [0, 3, 1, 4] * 5) for i in range(5)]
    train = join([make_segments("canary", np.arange(20) * 2.0, canary), *others])
    timeline = Timeline.of({"train": train}, taxonomy)
    rows = np.flatnonzero((train.video == "canary") & (train.action == 11))
    chance = {}
    for folds in (0, 3):
        config = TargetConfig(kind="count", settings=SMALL["count"], folds=folds)
        logits = make_targets(timeline, config)[1].logits
        chance[folds] = np.exp(logits[rows, 11].astype(np.float64))
    assert chance[0].min() > 0.3  # in-sample: it knows
    assert chance[3].max() < 0.1  # cross-fitted: never heard of it


def test_no_teacher_is_fitted_on_a_video_that_it_scores(timeline, monkeypatch):
    """From the calls themselves: whatever the kind, train and held-out videos are disjoint."""
    seen = []

    class Spy(CountTeacher):
        def fit(self, examples, **_):
            self.groups = set(examples.group.tolist())

        def predict(self, examples):
            seen.append((self.groups, set(examples.group.tolist())))
            return TeacherOutput(logits=np.zeros((len(examples), 12), dtype=np.float32))

    monkeypatch.setattr(
        module, "make_teacher", lambda *_, **__: Spy(timeline.taxonomy, CountConfig())
    )
    make_targets(timeline, TargetConfig(folds=4))
    assert len(seen) == 5
    assert all(not fitted & scored for fitted, scored in seen[:4])
    assert set().union(*(scored for _, scored in seen[:4])) == seen[4][0]
    assert not seen[4][0] & seen[4][1]  # here the splits share no video


def test_a_split_that_cuts_through_videos(make_segments, join, taxonomy):
    """As in EGTEA Gaze+: with a complete history the other split's segments are past actions."""
    parts = {
        "train": join([make_segments(f"v{i}", [0, 4, 8, 12], [0, 3, 1, 4]) for i in range(4)]),
        "validation": join([make_segments(f"v{i}", [2, 6], [6, 9], prefix="x") for i in range(4)]),
    }
    timeline = Timeline.of(parts, taxonomy)
    logits = {}
    for mode in ("complete", "gappy"):
        config = TargetConfig(
            kind="count", settings=SMALL["count"], folds=2, history=HistoryConfig(mode=mode)
        )
        targets = make_targets(timeline, config)[1]
        assert targets.valid.all()
        assert len(targets) == 24
        logits[mode] = targets.logits
    # Only the training split is predicted in training: the actions of the other stay unlikely.
    held_out = timeline.split == "validation"
    assert set(logits["complete"][held_out].argmax(axis=1)) <= {0, 1, 3, 4}
    assert (logits["complete"][held_out] != logits["gappy"][held_out]).any()


def test_scripts_reach_the_targets(timeline):
    text = Scripts(actions=np.array([0, 9, 2, 11] * 200), starts=np.arange(0, 801, 4))
    config = TargetConfig(kind="count", settings=SMALL["count"], folds=2)
    plain, told = make_targets(timeline, config)[1], make_targets(timeline, config, scripts=text)[1]
    assert (plain.attributes["scripts"], told.attributes["scripts"]) == (0, 200)
    after_take_pan = timeline.examples(HistoryConfig(), 1).history[:, 0] == 0
    assert (told.logits[after_take_pan, 9] > plain.logits[after_take_pan, 9]).all()


def test_progress_names_the_fold(timeline):
    labels = []
    config = TargetConfig(kind="sequence", settings=SMALL["sequence"], folds=2)
    make_targets(timeline, config, progress=lambda label, *_: labels.append(label))
    assert list(dict.fromkeys(labels)) == [
        "fold 1 of 2: epochs",
        "fold 2 of 2: epochs",
        "epochs",
    ]


def test_what_cannot_be_is_refused(timeline):
    with pytest.raises(BadConfig, match="folds"):
        TargetConfig(folds=1)
    with pytest.raises(BadConfig, match=r"folds.*2 to 8"):
        make_targets(timeline, TargetConfig(settings=SMALL["count"], folds=9))
    with pytest.raises(MissingKey, match="training split 'training'"):
        make_targets(timeline, TargetConfig(train_split="training"))
    with pytest.raises(BadConfig, match="unknown kind"):
        make_targets(timeline, TargetConfig(kind="oracle"))


def test_features_of_a_language_model(timeline, language_models, tmp_path):
    settings = {"model": language_models("bert"), "epochs": 1, "held_out": 0.0}
    config = TargetConfig(kind="language", settings=settings, features=True)
    teacher, targets = make_targets(timeline, config)
    output = teacher.predict(examples_for(teacher, timeline, config.history))
    np.testing.assert_array_equal(targets.feature, output.features)
    np.testing.assert_array_equal(targets.logits, output.logits)
    again = score_segments(timeline, teacher, config.history, features=True)
    np.testing.assert_array_equal(again.feature, output.features)
    assert score_segments(timeline, teacher, config.history).feature is None
    with pytest.raises(BadConfig, match="has no features"):
        make_targets(timeline, TargetConfig(folds=0, features=True))
    with pytest.raises(BadConfig, match="a network of its own"):
        TargetConfig(kind="language", folds=2, features=True)


@pytest.mark.parametrize("kind", KINDS)
def test_folds_are_those_of_the_kind_unless_given(kind, timeline, monkeypatch):
    made = replace(KINDS["count"], folds=3 if kind == "count" else 0)
    monkeypatch.setitem(KINDS, kind, made)
    settings = SMALL["count"]
    _, targets = make_targets(timeline, TargetConfig(kind=kind, settings=settings))
    assert targets.attributes["folds"] == made.folds
    _, targets = make_targets(timeline, TargetConfig(kind=kind, settings=settings, folds=2))
    assert targets.attributes["folds"] == 2


def test_a_teacher_of_times_is_told_them(timeline):
    config = TargetConfig(settings={**SMALL["count"], "times": True}, folds=2)
    _, targets = make_targets(timeline, config)
    assert targets.valid.all()
    assert targets.attributes["train_split"] == "train"
