from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.errors import BadAnnotations
from antcache.timebase import (
    exact_floor,
    frames_to_seconds,
    last_observed_frames,
    parse_timestamp,
    rows_at,
    rows_at_times,
    seconds_to_frames,
    window_frames,
)

GRIDS = [Fraction(30), Fraction(4), Fraction(25), Fraction(24000, 1001), Fraction(60000, 1001)]
GAPS = [Fraction(0), Fraction(1, 2), Fraction(1), Fraction(5, 4), Fraction(3, 10)]

repeatable = settings(derandomize=True, deadline=None, max_examples=300)


@pytest.mark.parametrize(
    ("value", "floor"),
    [(2.0, 2), (1.9999999999, 2), (1.99999, 1), (2.0000000001, 2), (-0.0000000001, 0), (-0.5, -1)],
)
def test_exact_floor_takes_float_error_for_the_boundary_it_stands_for(value, floor):
    assert exact_floor(value) == floor


@repeatable
@given(st.integers(0, 30 * 86_400), st.sampled_from(GAPS))
def test_frames_of_annotated_frames_are_those_of_exact_arithmetic(frame, gap):
    exact = math.floor((Fraction(frame, 30) - gap) * 30)
    assert last_observed_frames(frames_to_seconds(frame), float(gap)) == exact


@repeatable
@given(st.integers(0, 100 * 86_400), st.sampled_from(GRIDS), st.sampled_from(GAPS))
def test_rows_of_timestamps_are_those_of_exact_arithmetic(centiseconds, fps, start):
    exact = math.floor((Fraction(centiseconds, 100) - start) * fps)
    assert rows_at(centiseconds / 100, float(fps), float(start)) == exact


@repeatable
@given(st.integers(1, 30 * 86_400), st.sampled_from(GRIDS))
def test_a_row_is_the_last_one_seen_at_a_frame_never_a_later_one(frame, fps):
    row = int(rows_at(frames_to_seconds(frame), float(fps)))
    assert Fraction(row) / fps <= Fraction(frame, 30) < Fraction(row + 1) / fps


@repeatable
@given(st.integers(0, 30 * 86_400))
def test_frames_survive_the_way_through_seconds(frame):
    assert seconds_to_frames(frames_to_seconds(frame)) == frame


def test_rows_by_listed_times_agree_with_rows_by_rate():
    times = np.arange(50) / 12.5
    asked = np.asarray([-1.0, 0.0, 0.079, 0.08, 1.0, 3.92, 99.0])
    assert rows_at_times(asked, times).tolist() == [-1, 0, 0, 1, 12, 49, 49]
    np.testing.assert_array_equal(rows_at_times(times, times), np.arange(50))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:00:00.14", 0.14), ("01:02:03.5", 3723.5), (" 00:00:59 ", 59.0), ("100:00:00.00", 360000)],
)
def test_timestamps(text, seconds):
    assert parse_timestamp(text) == seconds


@pytest.mark.parametrize("text", ["", "12.5", "00:61:00", "00:00:60.0", "0:0", "-00:00:01.0"])
def test_what_is_no_timestamp_is_refused(text):
    with pytest.raises(BadAnnotations, match=r"HH:MM:SS\.ss"):
        parse_timestamp(text)


def test_parity_avt_is_plain_float_arithmetic():
    start = frames_to_seconds(np.arange(1, 4000))
    exact, avt = (last_observed_frames(start, 0.5, parity=p) for p in ("exact", "avt"))
    np.testing.assert_array_equal(exact, np.arange(1, 4000) - 15)
    assert set(np.unique(avt - exact)) == {-1, 0}
    assert math.floor((start[40] - 0.5) * 30) == avt[40]


def test_a_window_that_fits_steps_back_from_its_last_frame():
    frames, padded = window_frames(np.asarray([151]), num_frames=10, rate=2.0)
    assert frames.tolist() == [[16, 31, 46, 61, 76, 91, 106, 121, 136, 151]]
    assert not padded.any()


def test_a_window_before_the_video_repeats_its_first_frame():
    frames, padded = window_frames(np.asarray([33, 30, 1]), num_frames=4, rate=2.0)
    assert frames.tolist() == [[3, 3, 18, 33], [15, 15, 15, 30], [1, 1, 1, 1]]
    assert padded.sum(axis=1).tolist() == [1, 2, 3]


@repeatable
@given(st.integers(1, 2000), st.integers(1, 14), st.sampled_from([1.0, 2.0, 3.0, 4.0, 30.0]))
def test_windows_follow_the_rule_frame_by_frame(last, count, rate):
    # A step that is no whole number of frames (7.5 at 4 fps) rounds half up.
    wanted = [last - math.floor(30 / rate * back + 0.5) for back in reversed(range(count))]
    smallest = min(frame for frame in wanted if frame >= 1)
    frames, padded = window_frames(np.asarray([last]), num_frames=count, rate=rate)
    assert frames[0].tolist() == [frame if frame >= 1 else smallest for frame in wanted]
    assert padded[0].tolist() == [frame < 1 for frame in wanted]
    assert (np.diff(frames[0]) >= 0).all()
    assert frames[0, -1] == last
