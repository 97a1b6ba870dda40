"""The count teacher: a hand-worked interpolation, distributions that sum to one, and memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.errors import BadCheckpoint, BadConfig
from antcache.teacher.count import CountConfig, CountTeacher, maximise
from antcache.teacher.histories import Examples, HistoryConfig


def examples(rows, length=3):
    """Examples from (history, target) pairs, each a group of its own."""
    history = [[-1] * (length - len(past)) + list(past) for past, _ in rows]
    return Examples(
        history=np.array(history, dtype=np.int64).reshape(len(rows), length),
        target=np.array([t for _, t in rows], dtype=np.int64),
        group=np.arange(len(rows)),
    )


def teacher_of(taxonomy, rows, **config):
    teacher = CountTeacher(taxonomy, CountConfig(length=3, folds=0, **config))
    teacher.fit(examples(rows))
    return teacher


def test_witten_bell_by_hand(taxonomy):
    """C = 12. After action 0 came 3, 3 and 4; after action 1 came 4.

    Unigrams: counts 3: 2, 4: 2 of 4, 2 types -> P(3) = (2 + 2/12) / 6 = 13/36, the same for 4,
    and (2/12) / 6 = 1/36 for each of the ten others.
    After 0: 3 events, 2 types -> P(3 | 0) = (2 + 2 * 13/36) / 5 = 49/90.
    """
    teacher = teacher_of(taxonomy, [([0], 3), ([0], 3), ([0], 4), ([1], 4)], order=2)
    action = teacher._ngram("action", np.array([[-1, -1, 0], [-1, -1, 1], [-1, -1, 7]]))
    assert action[0, 3] == pytest.approx(49 / 90)
    assert action[0, 4] == pytest.approx((1 + 2 * 13 / 36) / 5)
    assert action[0, 0] == pytest.approx((2 / 36) / 5)
    # After 1: one event, one type -> P(4 | 1) = (1 + 13/36) / 2.
    assert action[1, 4] == pytest.approx((1 + 13 / 36) / 2)
    # A context that never occurred keeps the unigrams.
    np.testing.assert_allclose(action[2, [3, 4, 0]], [13 / 36, 13 / 36, 1 / 36])


def test_the_start_of_a_video_is_a_context(taxonomy):
    teacher = teacher_of(taxonomy, [([], 5), ([0], 1), ([0], 2)], order=2)
    first = teacher._ngram("action", np.array([[-1, -1, -1]]))
    assert first[0].argmax() == 5


def test_recency_by_hand(taxonomy):
    """Nouns by recency: tap 0, cup 1; pan is new. What was taken (0) is put (1)."""
    rows = [([0, 2], 3), ([1, 0], 4), ([2, 1], 5), ([2], 5)]
    teacher = teacher_of(taxonomy, rows)
    rank, last = teacher._recent(np.array([[1, 4, 8], [-1, -1, -1]]))
    assert rank.tolist() == [[-1, 1, 0], [-1, -1, -1]]
    assert last.tolist() == [[4, 1, 2], [4, 4, 4]]  # 4: never
    # Ranks seen in training: 1, 1, 1, 0. Both nouns were taken, so both are put, the older first.
    expected = teacher._models(np.array([[-1, 0, 2]]))[2, 0]
    assert expected.argsort()[::-1][:2].tolist() == [3, 5]


histories = st.lists(
    st.tuples(st.lists(st.integers(0, 11), max_size=4), st.integers(0, 11)),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(rows=histories, order=st.integers(1, 5), queries=histories)
def test_every_model_and_the_mixture_sum_to_one(taxonomy, rows, order, queries):
    teacher = CountTeacher(taxonomy, CountConfig(length=4, order=order, folds=0))
    teacher.fit(examples(rows, 4))
    asked = examples(queries, 4)
    models = teacher._models(asked.history)
    assert (models > 0).all()
    np.testing.assert_allclose(models.sum(axis=2), 1)
    for kind in ("action", "noun", "verb"):
        np.testing.assert_allclose(teacher._ngram(kind, asked.history).sum(axis=1), 1)
    logits = teacher.logits(asked)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)


def test_em_finds_the_weights_of_a_known_mixture():
    rng = np.random.default_rng(0)
    first = rng.random(20000) < 0.7
    # Two models over two outcomes that disagree.
    outcome = np.where(first, rng.random(20000) < 0.9, rng.random(20000) < 0.2)
    likelihood = np.stack([np.where(outcome, 0.9, 0.1), np.where(outcome, 0.2, 0.8)])
    np.testing.assert_allclose(maximise(likelihood), [0.7, 0.3], atol=0.02)


def test_the_mixture_is_fitted_on_videos_held_out(taxonomy):
    """Each video repeats an action of its own: n-grams of a video held out were never counted."""
    everything = Examples(
        history=np.repeat(np.arange(10), 8)[:, None].repeat(3, axis=1),
        target=np.repeat(np.arange(10), 8),
        group=np.repeat(np.arange(10), 8),
    )
    teacher = CountTeacher(taxonomy, CountConfig(length=3, folds=5))
    teacher.fit(everything)
    assert teacher._weights.sum() == pytest.approx(1)
    assert teacher._weights[0] < 0.05


def test_scripts_are_counted_but_not_held_out(taxonomy, timeline):
    labelled = timeline.examples(HistoryConfig(), 3)
    text = examples([([9, 9, 9], 11)] * 20)
    plain = CountTeacher(taxonomy, CountConfig(length=3))
    plain.fit(labelled)
    told = CountTeacher(taxonomy, CountConfig(length=3))
    told.fit(labelled, scripts=text)
    asked = examples([([9, 9, 9], 0)])
    assert told.logits(asked)[0, 11] > plain.logits(asked)[0, 11]
    alone = CountTeacher(taxonomy, CountConfig(length=3, folds=0))
    alone.fit(examples([]), scripts=text)
    assert alone.logits(asked)[0].argmax() == 11


def test_a_teacher_can_be_taken_up_again(taxonomy, timeline):
    labelled = timeline.examples(HistoryConfig(), 20)
    teacher = CountTeacher(taxonomy, CountConfig())
    teacher.fit(labelled)
    other = CountTeacher(taxonomy, CountConfig())
    other.restore(teacher.arrays())
    np.testing.assert_array_equal(other.logits(labelled), teacher.logits(labelled))
    arrays = teacher.arrays()
    del arrays["state.1.keys"]
    with pytest.raises(BadCheckpoint, match=r"state\.1\.keys"):
        other.restore(arrays)


@pytest.mark.parametrize(
    "bad", [{"order": 0}, {"order": 6}, {"length": 2}, {"folds": 1}, {"folds": -2}]
)
def test_impossible_settings_are_refused(bad):
    with pytest.raises(BadConfig):
        CountConfig(**bad)


def test_nothing_to_count_is_refused(taxonomy):
    with pytest.raises(BadConfig, match="nothing to count"):
        CountTeacher(taxonomy, CountConfig(length=3)).fit(examples([]))


def test_one_video_cannot_be_held_out_from_itself(taxonomy):
    teacher = CountTeacher(taxonomy, CountConfig(length=3))
    teacher.fit(examples([([], 1), ([1], 2), ([], 1)]))  # three groups: three folds
    assert (teacher._weights != teacher._weights[0]).any()
    teacher.fit(examples([([], 1)]))
    np.testing.assert_allclose(teacher._weights, 1 / 3)


def test_another_device_is_refused(taxonomy):
    with pytest.raises(BadConfig, match="CPU"):
        CountTeacher(taxonomy, CountConfig(), "cuda")
