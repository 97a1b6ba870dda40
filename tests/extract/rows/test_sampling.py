from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.extract.rows.sampling import Sampling, exact_rate


def test_single_frames():
    sampling = Sampling.of(4.0)
    assert (sampling.rate, sampling.row_step) == (4, 1)
    assert [sampling.clip_ending_at(t) for t in range(3)] == [[0], [1], [2]]
    assert sampling.oldest_needed_after(7) == 8


def test_clip_by_hand():
    """4 rows and 8 frames a second: every second tick is a row, frames are one tick apart."""
    sampling = Sampling.of(4.0, num_frames=3, clip_fps=8.0)
    assert (sampling.rate, sampling.row_step, sampling.clip_step) == (8, 2, 1)
    assert sampling.clip_ending_at(0) == [0, 0, 0]
    assert sampling.clip_ending_at(1) is None
    assert sampling.clip_ending_at(2) == [0, 1, 2]
    assert sampling.clip_ending_at(4) == [2, 3, 4]


def test_rates_are_taken_as_meant():
    assert exact_rate(30000 / 1001) == Fraction(30000, 1001)
    assert exact_rate(29.97) == Fraction(2997, 100)
    assert exact_rate(1 / 3) == Fraction(1, 3)


@settings(derandomize=True, deadline=None)
@given(
    fps=st.sampled_from([1.0, 2.0, 4.0, 30.0, 29.97]),
    clip_fps=st.sampled_from([0.9375, 1.0, 4.0, 7.5, 15.0]),
    num_frames=st.integers(1, 6),
)
def test_properties(fps, clip_fps, num_frames):
    """Clips end at their row, never reach beyond it, and find every picture that they need."""
    sampling = Sampling.of(fps, num_frames=num_frames, clip_fps=clip_fps)
    kept, rows = set(), 0
    for tick in range(sampling.row_step * 12):
        ticks = sampling.clip_ending_at(tick)
        if sampling.wanted(tick):
            kept.add(tick)
        if ticks is not None:
            assert tick / sampling.rate == rows / exact_rate(fps)
            rows += 1
            assert set(ticks) <= kept
            assert ticks[-1] == tick == max(ticks)
            assert len(ticks) == num_frames
            for back, at in enumerate(reversed(ticks)):
                assert at / sampling.rate == pytest.approx(
                    max(0.0, tick / sampling.rate - back / clip_fps), abs=1e-9
                )
        kept = {t for t in kept if t >= sampling.oldest_needed_after(tick)}
    assert len(kept) <= (num_frames - 1) * sampling.clip_step
