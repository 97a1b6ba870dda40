"""The count teacher: a hand-worked interpolation, distributions that sum to one, and memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.errors import BadCheckpoint, BadConfig
from antcache.teacher.counting.ngrams import SMOOTHINGS
from antcache.teacher.counting.teacher import CountConfig, CountTeacher
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


def test_the_start_of_a_video_is_a_context(taxonomy):
    teacher = teacher_of(taxonomy, [([], 5), ([0], 1), ([0], 2)], order=2)
    first = teacher._models(examples([([], 0)]))[0][0, 0]
    assert first.argmax() == 5


histories = st.lists(
    st.tuples(st.lists(st.integers(0, 11), max_size=4), st.integers(0, 11)),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    rows=histories,
    order=st.integers(1, 5),
    smoothing=st.sampled_from(SMOOTHINGS),
    queries=histories,
)
def test_every_model_and_the_mixture_sum_to_one(taxonomy, rows, order, smoothing, queries):
    config = CountConfig(length=4, order=order, smoothing=smoothing, folds=0)
    teacher = CountTeacher(taxonomy, config)
    teacher.fit(examples(rows, 4))
    asked = examples(queries, 4)
    models, depth = teacher._models(asked)
    assert (models > 0).all()
    np.testing.assert_allclose(models.sum(axis=2), 1)
    assert ((depth >= 0) & (depth < order)).all()
    logits = teacher.predict(asked).logits
    assert logits.dtype == np.float32
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)


def test_weights_depend_on_how_much_of_the_history_is_known(taxonomy):
    """After 0 comes 1 in every video; what else a history holds was never seen before."""
    rng = np.random.default_rng(0)
    rows, groups = [], []
    for video in range(30):
        rows += [([0], 1), ([int(rng.integers(2, 12))], int(rng.integers(2, 12)))]
        groups += [video, video]
    asked = examples(rows)
    known = Examples(history=asked.history, target=asked.target, group=np.array(groups))
    teacher = CountTeacher(taxonomy, CountConfig(length=3))
    teacher.fit(known)
    weights = teacher._weights
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights[3, 0] > weights[:3, 0].max()  # the n-gram of actions knows best


def test_times_must_be_there_if_asked_for(taxonomy, timeline):
    teacher = CountTeacher(taxonomy, CountConfig(times=True))
    timed = timeline.examples(HistoryConfig(), 20, times=True)
    plain = timeline.examples(HistoryConfig(), 20)
    with pytest.raises(BadConfig, match="times=True"):
        teacher.fit(plain)
    teacher.fit(timed, scripts=plain[:5])  # a text has no times: unknown
    with pytest.raises(BadConfig, match="times=True"):
        teacher.predict(plain)
    np.testing.assert_allclose(np.exp(teacher.predict(timed).logits).sum(axis=1), 1, rtol=1e-5)


def test_the_mixture_is_fitted_on_videos_held_out(taxonomy):
    """Each video repeats an action of its own: n-grams of a video held out were never counted."""
    everything = Examples(
        history=np.repeat(np.arange(10), 8)[:, None].repeat(3, axis=1),
        target=np.repeat(np.arange(10), 8),
        group=np.repeat(np.arange(10), 8),
    )
    teacher = CountTeacher(taxonomy, CountConfig(length=3, folds=5))
    teacher.fit(everything)
    np.testing.assert_allclose(teacher._weights.sum(axis=1), 1)
    assert teacher._weights[0, 0] < 0.05


def test_scripts_are_counted_but_not_held_out(taxonomy, timeline):
    labelled = timeline.examples(HistoryConfig(), 3)
    text = examples([([9, 9, 9], 11)] * 20)
    plain = CountTeacher(taxonomy, CountConfig(length=3))
    plain.fit(labelled)
    told = CountTeacher(taxonomy, CountConfig(length=3))
    told.fit(labelled, scripts=text)
    asked = examples([([9, 9, 9], 0)])
    assert told.predict(asked).logits[0, 11] > plain.predict(asked).logits[0, 11]
    alone = CountTeacher(taxonomy, CountConfig(length=3, folds=0))
    alone.fit(examples([]), scripts=text)
    assert alone.predict(asked).logits[0].argmax() == 11


def test_a_teacher_can_be_taken_up_again(taxonomy, timeline):
    labelled = timeline.examples(HistoryConfig(), 20)
    teacher = CountTeacher(taxonomy, CountConfig())
    teacher.fit(labelled)
    other = CountTeacher(taxonomy, CountConfig())
    other.restore(teacher.arrays())
    np.testing.assert_array_equal(other.predict(labelled).logits, teacher.predict(labelled).logits)
    arrays = teacher.arrays()
    for name in ("weights", "noun.2.keys", "recency.there.1", "recency.verb.1.counts"):
        with pytest.raises(BadCheckpoint, match=name.removeprefix("recency.").split(".", 1)[-1]):
            other.restore({n: a for n, a in arrays.items() if n != name})
    with pytest.raises(BadCheckpoint, match="weights"):
        CountTeacher(taxonomy, CountConfig(order=3)).restore(arrays)


@pytest.mark.parametrize(
    ("name", "value"), [("order", 0), ("order", 6), ("length", 2), ("folds", 1), ("folds", -2)]
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(BadConfig, match=rf"impossible {name}: expected .*, found {value}$"):
        CountConfig(**{name: value})


def test_an_unknown_smoothing_is_refused():
    with pytest.raises(BadConfig, match=r"unknown smoothing: expected kneser-ney or .*, found x"):
        CountConfig(smoothing="x")


def test_nothing_to_count_is_refused(taxonomy):
    with pytest.raises(BadConfig, match="nothing to train on"):
        CountTeacher(taxonomy, CountConfig(length=3)).fit(examples([]))


def test_one_video_cannot_be_held_out_from_itself(taxonomy):
    teacher = CountTeacher(taxonomy, CountConfig(length=3))
    teacher.fit(examples([([], 1), ([1], 2), ([], 1)]))  # three groups: three folds
    assert (teacher._weights != teacher._weights[0, 0]).any()
    teacher.fit(examples([([], 1)]))
    np.testing.assert_allclose(teacher._weights, 1 / 3)


def test_another_device_is_refused(taxonomy):
    with pytest.raises(BadConfig, match="CPU"):
        CountTeacher(taxonomy, CountConfig(), "cuda")


def test_a_balance_divides_by_the_prior_of_the_training_split(taxonomy, timeline):
    labelled = timeline.examples(HistoryConfig(), 20)
    plain, balanced = (CountTeacher(taxonomy, CountConfig(balance=b)) for b in (0.0, 0.5))
    for teacher in (plain, balanced):
        teacher.fit(labelled)
    counts = np.bincount(labelled.target, minlength=12) + 1
    expected = np.exp(plain.predict(labelled).logits.astype(float)) / np.sqrt(counts)
    expected /= expected.sum(axis=1, keepdims=True)
    found = np.exp(balanced.predict(labelled).logits.astype(float))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert "prior" not in plain.arrays()  # as those written before there was a balance
    other = CountTeacher(taxonomy, CountConfig(balance=0.5))
    other.restore(balanced.arrays())
    np.testing.assert_array_equal(other.predict(labelled).logits, balanced.predict(labelled).logits)
    for prior, match in ((None, "no prior"), (counts * 0, "damaged: found prior")):
        arrays = {n: a for n, a in balanced.arrays().items() if n != "prior"}
        arrays |= {} if prior is None else {"prior": prior}
        with pytest.raises(BadCheckpoint, match=match):
            other.restore(arrays)
