"""Which frames a window takes, by each parity."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations.parity import PARITIES, of_another_form, window_frames
from antcache.timebase import frames_to_seconds

repeatable = settings(derandomize=True, deadline=None, max_examples=300)


def frames_of(start_s: list[float], **window: object) -> list[list[int]]:
    frames, _ = window_frames(start_s, **window)
    return frames.tolist()


def test_a_window_that_fits_steps_back_from_its_last_frame() -> None:
    frames, padded = window_frames([181 / 30], gap_s=1.0, num_frames=10, rate=2.0)
    assert frames.tolist() == [[16, 31, 46, 61, 76, 91, 106, 121, 136, 151]]
    assert not padded.any()


def test_a_window_before_the_video_repeats_its_first_frame() -> None:
    start = frames_to_seconds([63, 60, 31])
    frames, padded = window_frames(start, gap_s=1.0, num_frames=4, rate=2.0)
    assert frames.tolist() == [[3, 3, 18, 33], [15, 15, 15, 30], [1, 1, 1, 1]]
    assert padded.sum(axis=1).tolist() == [1, 2, 3]


@repeatable
@given(
    st.integers(32, 2000),
    st.integers(1, 14),
    st.sampled_from([1.0, 2.0, 3.0, 4.0, 7.0, 12.5, 30.0]),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_exact_windows_are_those_of_fractions(
    start: int, count: int, rate: float, gap: float
) -> None:
    back = [Fraction(gap) + Fraction(i) / Fraction(rate) for i in reversed(range(count))]
    wanted = [math.floor((Fraction(start, 30) - seconds) * 30) for seconds in back]
    smallest = min(frame for frame in wanted if frame >= 1)
    frames, padded = window_frames([start / 30], gap_s=gap, num_frames=count, rate=rate)
    assert frames[0].tolist() == [frame if frame >= 1 else smallest for frame in wanted]
    assert padded[0].tolist() == [frame < 1 for frame in wanted]
    assert (np.diff(frames[0]) >= 0).all()


def test_avt_rounds_its_stride_where_the_rate_does_not_divide_30() -> None:
    """EPIC-KITCHENS-55 uid 1 at 4 per second: 29, 37, ..., 101, as AVT's code has it."""
    window = {"gap_s": 1.0, "num_frames": 10, "rate": 4.0}
    start = [4.3933]
    assert frames_of(start, **window, parity="avt") == [list(range(29, 102, 8))]
    exact = [34, 41, 49, 56, 64, 71, 79, 86, 94, 101]
    assert frames_of(start, **window) == [exact]


def test_avt_reads_no_further_back_than_the_observed_time() -> None:
    """At 20 per second every second frame of 15: eight frames, and the first one repeated."""
    window = {"gap_s": 1.0, "num_frames": 10, "rate": 20.0, "parity": "avt"}
    assert frames_of([11.0], **window) == [[286, 286, 286, 288, 290, 292, 294, 296, 298, 300]]


def test_avt_is_plain_float_arithmetic() -> None:
    start = frames_to_seconds(np.arange(1, 4000))
    window = {"gap_s": 0.5, "num_frames": 1, "rate": 1.0}
    exact, avt = (PARITIES[p](start, 0.5, np.zeros(1, int), 1.0)[:, 0] for p in ("exact", "avt"))
    np.testing.assert_array_equal(exact, np.arange(1, 4000) - 15)
    assert set(np.unique(avt - exact)) == {-1, 0}
    assert math.floor((start[40] - 0.5) * 30) == avt[40]
    assert frames_of([start[40]], **window, parity="avt") == [[avt[40]]]


def test_rulstm_rounds_each_of_its_fourteen_steps_down() -> None:
    """Start frame 200: 200 - 7.5 k for k = 14 to 1, rounded down; frame 11 in float64 is not."""
    window = {"gap_s": 0.25, "num_frames": 14, "rate": 4.0}
    wanted = [math.floor(200 - 7.5 * k) for k in range(14, 0, -1)]
    assert frames_of([200 / 30], **window, parity="rulstm") == [wanted]
    assert frames_of([200 / 30], **window) == [wanted]
    single = {"gap_s": 0.5, "num_frames": 1, "rate": 4.0}
    assert math.floor((16 / 30 - 0.5) * 30) == 0
    assert frames_of([16 / 30], **single) == [[1]]
    assert window_frames([16 / 30], **single, parity="rulstm")[1].all()


def test_a_parity_is_for_the_form_that_its_source_reads() -> None:
    whole, stamps = frames_to_seconds([31, 200]), np.asarray([1.04, 6.66])
    for dataset in ("epic-kitchens-55", "epic-kitchens-100"):
        said = of_another_form("avt", dataset, whole)
        assert said is not None
        assert "official timestamps" in said
        assert of_another_form("avt", dataset, stamps) is None
        assert of_another_form("rulstm", dataset, whole) is None
    assert of_another_form("avt", "egtea", whole) is None  # AVT reads these very files
    said = of_another_form("rulstm", "epic-kitchens-55", stamps)
    assert said is not None
    assert "RULSTM's CSVs" in said
    for start in (whole, stamps):
        assert of_another_form("exact", "epic-kitchens-55", start) is None


@pytest.mark.parametrize("parity", PARITIES)
def test_no_frame_is_later_than_the_gap_allows(parity: str) -> None:
    start = np.arange(1.0, 60.0, 0.01)
    frames, padded = window_frames(start, gap_s=1.0, num_frames=5, rate=4.0, parity=parity)
    seen = ~padded.all(axis=1)
    assert (frames[seen] / 30 <= start[seen, None] - 1.0 + 1e-9).all()
