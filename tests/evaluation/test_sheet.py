"""Coverage, denominators and the sheet of all figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations import Segments, read_annotations
from antcache.annotations.protocols import Protocol, protocol_for
from antcache.errors import BadConfig
from antcache.evaluation.coverage import coverage
from antcache.evaluation.denominators import counted
from antcache.evaluation.metrics import score, true_class_ranks
from antcache.evaluation.scoring import target_logits
from antcache.evaluation.sheet import BootstrapConfig, Scored, fill_sheet
from antcache.store import SoftTargets

PROTOCOL = Protocol(gap_s=1.0, num_frames=10, rate=2.0)


def starting(*starts):
    count = len(starts)
    return Segments.of(
        uid=[f"u{i}" for i in range(count)],
        video=["v", "w"] * (count // 2) + ["v"] * (count % 2),
        start_s=starts,
        stop_s=np.asarray(starts) + 1,
        verb=[0] * count,
        noun=[0] * count,
        action=[0] * count,
    )


def test_coverage_by_hand():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    labels = np.array([0, 1, 2])
    ranks = true_class_ranks(p, labels)  # 0, 1, 2
    one, two, three = coverage(ranks, labels, np.log(p), [2, 1, 9], many_shot=(0, 2))
    assert (one.k, two.k, three.k) == (1, 2, 3)
    assert [c.recall for c in (one, two, three)] == pytest.approx([100 / 3, 200 / 3, 100])
    assert [c.many_shot_recall for c in (one, two, three)] == pytest.approx([50, 50, 100])
    assert [c.mass for c in (one, two, three)] == pytest.approx([60, 86.66667, 100])
    assert two.tail == pytest.approx(40 / 3)
    assert coverage(ranks, labels, p, [1])[0].many_shot_recall is None
    assert coverage(ranks, labels, p, [1], many_shot=(7,))[0].many_shot_recall is None
    for ks in ((), (0, 1)):
        with pytest.raises(BadConfig, match=r"(impossible|no) k"):
            coverage(ranks, labels, p, ks)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), count=st.integers(1, 30))
def test_more_classes_never_cover_less(seed, count):
    rng = np.random.default_rng(seed)
    logits, labels = rng.standard_normal((count, 9)), rng.integers(0, 9, count)
    points = coverage(true_class_ranks(logits, labels), labels, logits, range(1, 10))
    for name in ("recall", "class_mean_recall", "mass"):
        values = [getattr(p, name) for p in points]
        assert (np.diff(values) >= -1e-9).all()
        assert values[-1] == pytest.approx(100)
    assert all(p.mass + p.tail == pytest.approx(100) for p in points)


def test_denominators_by_hand():
    segments = starting(0.0, 0.28, 0.29, 1.03, 1.04, 9.0)
    assert counted(segments, "all", PROTOCOL).all()
    # 0.25 s and a frame: from 0.2833 s on; 1 s and a frame: from 1.0333 s on.
    assert counted(segments, "rulstm", PROTOCOL).tolist() == [0, 0, 1, 1, 1, 1]
    assert counted(segments, "avt", PROTOCOL).tolist() == [0, 0, 0, 0, 1, 1]
    with pytest.raises(BadConfig, match="all or rulstm or avt"):
        counted(segments, "ours", PROTOCOL)


def test_denominators_of_the_published_figures(data_dir):
    dataset = read_annotations("epic-kitchens-55", data_dir / "epic-kitchens-55")
    protocol = protocol_for("epic-kitchens-55")
    validation = dataset.splits["validation"]
    found = {name: counted(validation, name, protocol).sum() for name in ("all", "rulstm", "avt")}
    assert found == {"all": 4979, "rulstm": 4972, "avt": 4969}


def test_top_k_targets_spread_their_tail():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4, 6)).astype(np.float32)
    dense = SoftTargets(uid=np.array(list("abcd")), valid=np.ones(4, bool), logits=logits)
    rows = np.array([2, 0])
    full = target_logits(dense.top_k(4), rows, 6)
    p = np.exp(logits[rows].astype(float)) / np.exp(logits[rows].astype(float)).sum(1)[:, None]
    q = np.exp(full) / np.exp(full).sum(axis=1, keepdims=True)
    best = np.argsort(-p, axis=1)
    np.testing.assert_allclose(
        np.take_along_axis(q, best[:, :4], 1), np.take_along_axis(p, best[:, :4], 1), rtol=1e-5
    )
    rest = np.take_along_axis(p, best[:, 4:], 1).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(np.take_along_axis(q, best[:, 4:], 1), rest.repeat(2, 1), rtol=1e-4)
    np.testing.assert_array_equal(target_logits(dense, rows, 6), logits[rows])
    np.testing.assert_allclose(target_logits(dense.top_k(6), rows, 6), logits[rows], rtol=1e-6)


def scored(segments, taxonomy, rows=None):
    rows = np.arange(len(segments)) if rows is None else np.array(rows)
    logits = np.random.default_rng(0).standard_normal((len(rows), 5)).astype(np.float32)
    return Scored(
        segments=segments, taxonomy=taxonomy, rows=rows, scores=logits, logits=logits, depth=5
    )


def test_the_sheet_is_score_over_each_denominator(taxonomy):
    segments = starting(0.1, 0.5, 2.0, 3.0, 4.0)
    given_scores = scored(segments, taxonomy, [4, 0, 1, 2])  # in any order
    sheet = fill_sheet(given_scores, ks=(1, 2, 5, 50))
    assert {n: (c.n, c.unpredicted) for n, c in sheet.counted.items()} == {
        "all": (5, 1),
        "rulstm": (4, 1),
        "avt": (3, 1),
    }
    everything = score(given_scores.scores, segments, taxonomy, rows=given_scores.rows)
    assert sheet.counted["all"].metrics == everything
    late = score(given_scores.scores[[3, 0]], segments[2:], taxonomy, rows=np.array([0, 2]))
    assert sheet.counted["avt"].metrics == late
    assert set(sheet.counted["all"].intervals) == set(everything) - {"n"}
    for name, interval in sheet.counted["all"].intervals.items():
        assert interval.value == everything[name]
    assert [point.k for point in sheet.coverage] == [1, 2, 5]
    assert sheet.calibration.n == 4


def test_without_a_bootstrap_there_are_no_intervals(taxonomy):
    none = BootstrapConfig(resamples=0)
    sheet = fill_sheet(scored(starting(0.1, 0.1, 0.1), taxonomy), sampling=none)
    assert sheet.counted["all"].intervals == {}
    assert set(sheet.counted) == {"all"}  # nothing to see before any of them


def test_clusters(taxonomy):
    found = scored(starting(*np.arange(2.0, 42.0)), taxonomy)
    by = {
        cluster: fill_sheet(found, sampling=BootstrapConfig(cluster=cluster)).counted["all"]
        for cluster in ("video", "segment")
    }
    assert by["video"].metrics == by["segment"].metrics
    widths = {k: c.intervals["action/top1"].high for k, c in by.items()}
    assert widths["video"] != widths["segment"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"resamples": 1}, "0, or 2 and more"),
        ({"resamples": -5}, "impossible resamples: expected from 0 .*found -5"),
        ({"cluster": "kitchen"}, "video or segment"),
        ({"level": 95}, "impossible level: expected above 0 to below 1"),
    ],
)
def test_bad_sampling(setting, words):
    with pytest.raises(BadConfig, match=words):
        BootstrapConfig(**setting)
