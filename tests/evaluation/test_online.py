"""Streaming: which window counts, by hand and against a simulated clock; scores; timing."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations.protocols import Protocol, sample_windows
from antcache.errors import BadConfig
from antcache.evaluation import Predictions, score
from antcache.evaluation.online import (
    OnlineClock,
    evaluate_online,
    measure_latency,
    moved,
    window_ends,
)


def test_windows_by_hand():
    times = np.array([0.3, 1.0, 2.0, 2.4])
    # Inputs at 0.5, 1.0, ...; 0.6 s of work: begun at 0.5, 1.5, 2.5, ready at 1.1, 2.1, ...
    found = window_ends(times, OnlineClock(latency_s=0.6, stride_s=0.5))
    np.testing.assert_allclose(found, [np.nan, np.nan, 0.5, 1.5])
    assert OnlineClock(latency_s=0.6, stride_s=0.5).period_s == 1.0
    assert (
        OnlineClock(latency_s=0.5, stride_s=0.5).period_s == 0.5
    )  # done just as the next one comes
    assert OnlineClock(latency_s=0.3, stride_s=0.1).period_s == pytest.approx(0.3)
    # Always in time: the window ends the runtime earlier.
    np.testing.assert_allclose(
        window_ends(times, OnlineClock(latency_s=0.6)), [np.nan, 0.4, 1.4, 1.8]
    )
    np.testing.assert_allclose(window_ends(times, OnlineClock(latency_s=0)), times)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    latency=st.integers(0, 400),
    stride=st.integers(1, 100),
    due=st.integers(0, 3000),
)
def test_the_clock_is_the_simulated_one(latency: int, stride: int, due: int):
    """All in hundredths of a second, with exact arithmetic."""
    begin, ready = Fraction(stride), None
    while begin + latency <= due:
        ready = begin
        free = max(begin + latency, begin + 1)
        begin = -(-free // stride) * stride  # the next input when it is free
    found = window_ends(
        np.array([due / 100]), OnlineClock(latency_s=latency / 100, stride_s=stride / 100)
    )[0]
    if ready is None:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(float(ready) / 100, abs=1e-9)


@pytest.mark.parametrize("values", [(-0.1, None), (float("nan"), None), (1, 0), (1, float("inf"))])
def test_impossible_clocks(values):
    with pytest.raises(BadConfig, match="impossible"):
        OnlineClock(latency_s=values[0], stride_s=values[1])


def test_moved_segments_have_windows_that_end_there(segments):
    ends = np.array([0.5, 1.2, 2.0, 2.9])
    protocol = Protocol(gap_s=1.0, num_frames=3, rate=2.0)
    shifted = moved(segments, ends, protocol.gap_s)
    frames = sample_windows(shifted.start_s, protocol).frames[:, -1]
    np.testing.assert_array_equal(frames, [15, 36, 60, 87])
    np.testing.assert_allclose(shifted.stop_s - shifted.start_s, 1)
    np.testing.assert_array_equal(shifted.uid, segments.uid)


def test_late_and_absent_predictions_are_wrong(segments, taxonomy):
    asked = []

    def predict(given):
        asked.append(given)
        kept = given.uid != "c"
        scores = np.zeros((int(kept.sum()), 5), dtype=np.float32)
        scores[:, 0] = 1
        return Predictions(
            uid=given.uid[kept], scores=scores, split="validation", taxonomy=taxonomy.fingerprint
        )

    # Starts 1, 2, 3, 4; gap 0.5: due at 0.5, 1.5, 2.5, 3.5; 1 s of work: the first is too early.
    found = evaluate_online(segments, taxonomy, 0.5, OnlineClock(latency_s=1.0), predict)
    assert asked[0].uid.tolist() == ["b", "c", "d"]
    np.testing.assert_allclose(asked[0].start_s, [1, 2, 3])
    assert (found.n, found.not_ready, found.unseen) == (4, 1, 1)
    assert found.age_s == pytest.approx(1.0)
    assert found.metrics["action/top1"] == 25  # b is right, d is wrong, a and c have none
    assert found.metrics["n"] == 4


def test_without_runtime_it_is_the_classic_evaluation(segments, taxonomy):
    scores = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)

    def predict(given):
        np.testing.assert_allclose(given.start_s, segments.start_s)
        return Predictions(
            uid=given.uid, scores=scores, split="validation", taxonomy=taxonomy.fingerprint
        )

    found = evaluate_online(segments, taxonomy, 0.5, OnlineClock(latency_s=0), predict)
    assert found.metrics == score(scores, segments, taxonomy)
    with pytest.raises(BadConfig, match=r"ready in time.*found 9 s"):
        evaluate_online(segments, taxonomy, 0.5, OnlineClock(latency_s=9), predict)


def test_timing_leaves_the_warm_up_out():
    clock = iter([0, 1, 10, 13, 20, 22, 30, 32])
    calls = []
    found = measure_latency(
        lambda: calls.append(1), warm_up=5, calls=4, timer=lambda: float(next(clock))
    )
    assert len(calls) == 9
    assert (found.median_s, found.calls) == (2.0, 4)
    assert found.p95_s == pytest.approx(2.85)
    with pytest.raises(BadConfig, match="number of calls: expected from 1"):
        measure_latency(lambda: None, calls=0)
