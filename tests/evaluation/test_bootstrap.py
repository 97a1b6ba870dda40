"""The bootstrap against what is known: analytic errors, true class means, and draws by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations import read_annotations
from antcache.errors import BadConfig
from antcache.evaluation.bootstrap import Difference, Resamples, bootstrap, difference
from antcache.evaluation.metrics import Metric, metrics_of, rank

TOP1 = Metric(kind="action", k=1)
MEAN = Metric(kind="action", k=1, class_mean=True)


def ranks_of(hits):
    return np.where(np.asarray(hits, dtype=bool), 0, 9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_draw_is_the_metric_of_the_segments_drawn(data):
    n = data.draw(st.integers(2, 12))
    groups = np.array(data.draw(st.lists(st.sampled_from("abcd"), min_size=n, max_size=n)))
    if len(np.unique(groups)) < 2:
        groups[0] = "e"
    ints = st.lists(st.integers(0, 3), min_size=n, max_size=n)
    labels, ranks = np.array(data.draw(ints)), np.array(data.draw(ints))
    draws = Resamples.of(groups, 5, seed=data.draw(st.integers(0, 99)))
    for metric in (
        Metric(kind="action", k=2),
        Metric(kind="action", k=2, class_mean=True),
        Metric(kind="action", k=2, class_mean=True, classes=(0, 2)),
        Metric(kind="action", k=2, class_mean=True, over=7),
    ):
        for value, counts in zip(
            draws.values(metric, ranks[None], labels)[0], draws.counts, strict=True
        ):
            drawn = np.repeat(np.arange(n), counts[draws.member].astype(int))
            if metric.defined(labels[drawn]):
                assert value == pytest.approx(metric.value(ranks[drawn], labels[drawn]), abs=1e-4)
            else:
                assert math.isnan(value)


def test_draws_are_whole_groups_and_the_same_for_the_same_seed():
    groups = np.array(["v", "w", "v", "x", "x", "x"])
    draws = Resamples.of(groups, 50, seed=3)
    assert draws.member.tolist() == [0, 1, 0, 2, 2, 2]
    assert draws.counts.shape == (50, 3)
    assert (draws.counts.sum(axis=1) == 3).all()
    np.testing.assert_array_equal(draws.counts, Resamples.of(groups, 50, seed=3).counts)
    np.testing.assert_array_equal(draws.counts[:20], Resamples.of(groups, 20, seed=3).counts)
    assert (draws.counts != Resamples.of(groups, 50, seed=4).counts).any()


def test_error_of_independent_segments_is_the_binomial_one():
    rng = np.random.default_rng(0)
    hits = rng.random(2000) < 0.3
    interval = bootstrap(
        TOP1, ranks_of(hits), np.zeros(2000, int), Resamples.of(np.arange(2000), 2000)
    )
    share = hits.mean()
    error = 100 * math.sqrt(share * (1 - share) / 2000)
    assert interval.value == pytest.approx(100 * share)
    assert interval.error == pytest.approx(error, rel=0.08)
    assert interval.low == pytest.approx(100 * share - 1.96 * error, abs=0.25)
    assert interval.high == pytest.approx(100 * share + 1.96 * error, abs=0.25)


def test_videos_that_agree_within_themselves_widen_the_interval():
    """Ten segments of each video are all right or all wrong: the error is that of 100 videos."""
    rng = np.random.default_rng(1)
    videos = np.repeat(np.arange(100), 10)
    ranks, labels = ranks_of(np.repeat(rng.random(100) < 0.5, 10)), np.zeros(1000, int)
    by_video = bootstrap(TOP1, ranks, labels, Resamples.of(videos))
    by_segment = bootstrap(TOP1, ranks, labels, Resamples.of(np.arange(1000)))
    assert by_video.error == pytest.approx(5, rel=0.1)  # 100 * sqrt(0.25 / 100)
    assert by_video.error / by_segment.error == pytest.approx(math.sqrt(10), rel=0.1)


def test_intervals_hold_the_true_class_mean_as_often_as_they_say():
    """Frequent classes are easier, as in real labels; half of the classes have one segment."""
    rng = np.random.default_rng(2)
    sizes = 300 // np.arange(1, 301)
    labels = np.repeat(np.arange(300), sizes)
    draws = Resamples.of(np.arange(len(labels)), 200, seed=5)
    mean_ease = 0.05 + 0.35 * np.log(sizes) / np.log(300)
    held, plain = [], []
    for _ in range(150):
        ease = rng.beta(mean_ease, 1 - mean_ease)
        ranks = ranks_of(rng.random(len(labels)) < ease[labels])
        interval = bootstrap(MEAN, ranks, labels, draws)
        held.append(interval.low <= 100 * ease.mean() <= interval.high)
        low, high = np.quantile(draws.values(MEAN, ranks[None], labels)[0], [0.025, 0.975])
        plain.append(low <= 100 * ease.mean() <= high)
        assert interval.low < interval.value < interval.high
    assert np.mean(held) > 0.9
    assert np.mean(plain) < 0.85  # percentiles of draws that lean towards the frequent classes


def gained(ranks, other, labels, draws) -> Difference:
    """What top-1 gains from `other` to `ranks`, on the same draws."""
    new, old = draws.values(TOP1, np.stack([ranks, other]), labels)
    return difference(TOP1.value(ranks, labels) - TOP1.value(other, labels), new - old)


def test_paired_draws_see_a_small_gain_that_single_ones_do_not():
    rng = np.random.default_rng(3)
    base = rng.random(1000) < 0.4
    better = base | (rng.random(1000) < 0.02)
    labels, draws = np.zeros(1000, int), Resamples.of(np.arange(1000), seed=1)
    gain = gained(ranks_of(better), ranks_of(base), labels, draws)
    assert gain.value == pytest.approx(100 * (better.mean() - base.mean()))
    assert gain.low > 0
    assert gain.p_value == pytest.approx(2 / 1001)
    single = bootstrap(TOP1, ranks_of(base), labels, draws)
    assert single.high > 100 * better.mean()
    loss = gained(ranks_of(base), ranks_of(better), labels, draws)
    assert (loss.value, loss.low, loss.high) == pytest.approx((-gain.value, -gain.high, -gain.low))
    assert loss.p_value == gain.p_value


def test_equal_systems_do_not_differ_and_p_values_are_even():
    labels, draws = np.zeros(400, int), Resamples.of(np.arange(400), 200)
    rng = np.random.default_rng(4)
    hits = ranks_of(rng.random(400) < 0.5)
    same = gained(hits, hits, labels, draws)
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    p_values = [
        gained(
            ranks_of(rng.random(400) < 0.5), ranks_of(rng.random(400) < 0.5), labels, draws
        ).p_value
        for _ in range(200)
    ]
    # Without a difference, 10 % are below 0.1; 200 of them stray by a standard error of 2.1 %.
    assert 0.03 < np.mean(np.array(p_values) < 0.1) < 0.18


def test_resamples_without_the_classes_are_left_out():
    labels = np.array([0, 1, 1, 1])
    rare = Metric(kind="action", k=1, class_mean=True, classes=(0,))
    interval = bootstrap(rare, ranks_of([1, 0, 0, 0]), labels, Resamples.of(np.arange(4), 100))
    assert 40 < interval.resamples < 95  # 1 - (3/4)^4 = 68 % have it
    assert (interval.low, interval.value, interval.high) == (100, 100, 100)


def test_bad_settings():
    ranks, labels = ranks_of([1, 0]), np.zeros(2, int)
    draws = Resamples.of([0, 1], 10)
    with pytest.raises(BadConfig, match=r"number of groups to draw: expected from 2 .*, found 1"):
        Resamples.of(["v", "v"])
    with pytest.raises(BadConfig, match="number of resamples: expected from 2"):
        Resamples.of(["v", "w"], 1)
    with pytest.raises(BadConfig, match=r"impossible seed: expected from 0 .*, found -1"):
        Resamples.of(["v", "w"], seed=-1)
    with pytest.raises(BadConfig, match="of other segments: expected 2, found 3"):
        bootstrap(TOP1, np.zeros(3, int), np.zeros(3, int), draws)
    for level in (0, 1, 95):
        with pytest.raises(BadConfig, match="level"):
            bootstrap(TOP1, ranks, labels, draws, level=level)
    absent = Metric(kind="action", k=1, class_mean=True, classes=(5,))
    with pytest.raises(BadConfig, match="none of the classes"):
        bootstrap(absent, ranks, labels, draws)
    # Of two resamples of four segments, with this seed, one has the segment of class 1.
    once = Resamples.of(np.arange(4), 2, seed=seed_with_one_draw_of(3))
    rare = Metric(kind="action", k=1, class_mean=True, classes=(1,))
    with pytest.raises(BadConfig, match=r"too few resamples have the metric: .*found 1"):
        bootstrap(rare, ranks_of([1, 1, 1, 1]), np.array([0, 0, 0, 1]), once)


def seed_with_one_draw_of(segment):
    """The first seed whose two resamples of four segments have this one in one of them."""
    return next(
        seed
        for seed in range(100)
        if (Resamples.of(np.arange(4), 2, seed=seed).counts[:, segment] > 0).sum() == 1
    )


def test_every_metric_of_real_labels_lies_in_its_interval(data_dir):
    """With the plain percentiles of single segments, class means would lie outside."""
    dataset = read_annotations("epic-kitchens-55", data_dir / "epic-kitchens-55")
    train, validation = dataset.splits["train"], dataset.splits["validation"]
    counts = np.bincount(train.action, minlength=len(dataset.taxonomy.actions))
    noise = np.random.default_rng(0).gumbel(size=(len(validation), len(counts)))
    scores = (np.log(counts + 1e-3) + noise).astype(np.float32)
    ranked = rank(scores, validation, dataset.taxonomy)
    for groups in (validation.video, validation.uid):
        draws = Resamples.of(groups, 200)
        for name, metric in metrics_of(dataset.taxonomy).items():
            ranks, labels = ranked.ranks[metric.kind], ranked.labels[metric.kind]
            interval = bootstrap(metric, ranks, labels, draws)
            assert interval.low <= interval.value <= interval.high, name
