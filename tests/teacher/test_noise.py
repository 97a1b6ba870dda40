"""Imperfect histories: which labels are wrong, what is in their place, what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations import Taxonomy
from antcache.errors import BadConfig, FingerprintMismatch
from antcache.evaluation.predictions import Predictions
from antcache.teacher.histories import HistoryConfig, Timeline
from antcache.teacher.noise import ABSENT, corrupt, recognized, relabeled

COMPLETE = HistoryConfig()


def predict(taxonomy, uids, actions, split="validation"):
    scores = np.zeros((len(uids), len(taxonomy.actions)), dtype=np.float32)
    scores[np.arange(len(uids)), actions] = 1
    return Predictions(
        uid=np.array(uids), scores=scores, split=split, taxonomy=taxonomy.fingerprint
    )


def test_the_rate_is_that_of_wrong_labels(taxonomy):
    actions = np.random.default_rng(0).integers(0, 12, 20000)
    for kind in ("uniform", "confused"):
        np.testing.assert_array_equal(corrupt(actions, taxonomy, 0.0, kind=kind), actions)
        assert (corrupt(actions, taxonomy, 1.0, kind=kind) != actions).all()
        wrong = corrupt(actions, taxonomy, 0.3, kind=kind) != actions
        assert wrong.mean() == pytest.approx(0.3, abs=0.015)


def test_uniform_noise_is_any_other_action(taxonomy):
    wrong = corrupt(np.full(11000, 4), taxonomy, 1.0, kind="uniform")
    counts = np.bincount(wrong, minlength=12)
    assert counts[4] == 0
    assert counts[np.arange(12) != 4].min() > 850  # 1,000 each on average


def test_confused_labels_keep_the_verb_or_the_noun(taxonomy):
    wrong = corrupt(np.full(12000, 4), taxonomy, 1.0)  # verb 1, noun 1
    same_verb, same_noun = wrong // 3 == 1, wrong % 3 == 1
    assert (same_verb ^ same_noun).all()
    assert same_verb.mean() == pytest.approx(0.5, abs=0.02)
    assert set(wrong) == {3, 5, 1, 7, 10}
    counts = np.bincount(wrong, minlength=12)
    assert counts[[3, 5]].min() > 2800
    assert counts[[1, 7, 10]].min() > 1850


def test_confusion_without_a_sibling():
    """Action 0 shares its verb with 1 only, and its noun with none; action 2 shares neither."""
    taxonomy = Taxonomy(
        dataset="odd",
        verbs=("a", "b"),
        nouns=("x", "y", "z"),
        actions=("a_x", "a_y", "b_z"),
        action_verbs=(0, 0, 1),
        action_nouns=(0, 1, 2),
    )
    assert set(corrupt(np.zeros(200, int), taxonomy, 1.0)) == {1}
    assert set(corrupt(np.full(200, 2), taxonomy, 1.0)) == {0, 1}


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 50),
    low=st.floats(0, 1),
    high=st.floats(0, 1),
    kind=st.sampled_from(["uniform", "confused"]),
)
def test_mistakes_at_a_low_rate_are_among_those_at_a_higher(taxonomy, seed, low, high, kind):
    low, high = sorted((low, high))
    actions = np.random.default_rng(9).integers(0, 12, 300)
    few = corrupt(actions, taxonomy, low, kind=kind, seed=seed)
    many = corrupt(actions, taxonomy, high, kind=kind, seed=seed)
    wrong = few != actions
    np.testing.assert_array_equal(few[wrong], many[wrong])
    assert ((many >= 0) & (many < 12)).all()
    again = corrupt(actions, taxonomy, high, kind=kind, seed=seed)
    np.testing.assert_array_equal(many, again)


def test_bad_noise(taxonomy):
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(BadConfig, match="impossible noise"):
            corrupt(np.zeros(2, int), taxonomy, rate)
    with pytest.raises(BadConfig, match="uniform or confused"):
        corrupt(np.zeros(2, int), taxonomy, 0.5, kind="gaussian")
    single = replace(
        taxonomy, actions=("a",), action_verbs=(0,), action_nouns=(0,), many_shot_actions=None
    )
    with pytest.raises(BadConfig, match="several actions"):
        corrupt(np.zeros(2, int), single, 0.5)


def test_true_labels_give_the_true_histories(timeline):
    expected = timeline.examples(COMPLETE, 4)
    found = relabeled(timeline, timeline.segments.action, COMPLETE, 4)
    for name in ("history", "target", "group"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_segment_has_one_label_in_all_histories_and_keeps_its_target(make_segments, taxonomy):
    segments = make_segments("v", [0, 2, 4, 6], [5, 6, 7, 8])
    timeline = Timeline.of({"validation": segments}, taxonomy)
    found = relabeled(timeline, np.array([1, 2, 3, 4]), COMPLETE, 3)
    assert found.history.tolist() == [[-1, -1, -1], [-1, -1, 1], [-1, 1, 2], [1, 2, 3]]
    assert found.target.tolist() == [5, 6, 7, 8]


def test_an_older_segment_takes_the_place_of_an_absent_one(make_segments, taxonomy, join):
    segments = join(
        [
            make_segments("v", range(0, 12, 2), [0, 1, 2, 3, 4, 5]),
            make_segments("w", [0, 2], [6, 7]),
        ]
    )
    timeline = Timeline.of({"validation": segments}, taxonomy)
    labels = np.array([0, 1, ABSENT, ABSENT, 4, 5, ABSENT, 7])
    found = relabeled(timeline, labels, COMPLETE, 2)
    assert found.history.tolist() == [
        [-1, -1],
        [-1, 0],
        [0, 1],
        [0, 1],
        [0, 1],
        [1, 4],
        [-1, -1],
        [-1, -1],
    ]
    assert found.target.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    nothing = relabeled(timeline, np.full(8, ABSENT), COMPLETE, 2)
    assert (nothing.history == -1).all()


def test_times_go_with_their_segments(make_segments, taxonomy):
    segments = make_segments("v", [0, 2, 5, 9], [0, 1, 2, 3])
    timeline = Timeline.of({"validation": segments}, taxonomy)
    config = HistoryConfig(gap_s=1.0)
    found = relabeled(timeline, np.array([0, ABSENT, 2, 3]), config, 3, times=True)
    assert found.history[3].tolist() == [-1, 0, 2]
    np.testing.assert_allclose(found.ago_s[3], [np.nan, 8, 3])
    np.testing.assert_allclose(found.lasted_s[3], [np.nan, 1, 1])
    assert found.ago_s.dtype == np.float32


def test_recognised_labels_are_the_first_of_the_predictions(timeline, taxonomy, splits):
    uids = splits["validation"].uid
    some = predict(taxonomy, [uids[4], uids[0]], [11, 3])
    labels = recognized(timeline, [some])
    row = {uid: i for i, uid in enumerate(timeline.segments.uid.tolist())}
    assert (labels[row[uids[4]]], labels[row[uids[0]]]) == (11, 3)
    assert (labels == ABSENT).sum() == len(labels) - 2
    more = predict(taxonomy, splits["train"].uid[:3], [1, 1, 1], split="train")
    assert (recognized(timeline, [some, more]) != ABSENT).sum() == 5


def test_predictions_that_do_not_fit(timeline, taxonomy, splits):
    uids = splits["validation"].uid
    some = predict(taxonomy, uids[:2], [1, 1])
    with pytest.raises(BadConfig, match="same segment"):
        recognized(timeline, [some, some])
    with pytest.raises(FingerprintMismatch, match="none of the segments"):
        recognized(timeline, [predict(taxonomy, ["x"], [1])])
    with pytest.raises(FingerprintMismatch, match="another taxonomy"):
        recognized(timeline, [replace(some, taxonomy="0" * 32)])
    segments = timeline.segments
    moment = segments.moments()[segments.locate(some.uid)]
    assert (recognized(timeline, [replace(some, moment=moment)]) == 1).sum() == 2
    with pytest.raises(FingerprintMismatch, match="2 of 2 others"):
        recognized(timeline, [replace(some, moment=moment[::-1])])
