from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.errors import BadAnnotations
from antcache.timebase import (
    exact_ceil,
    exact_floor,
    frames_to_seconds,
    last_observed_frames,
    parse_timestamp,
    rows_at,
    rows_at_times,
    seconds_to_frames,
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


@pytest.mark.parametrize(
    ("value", "ceiling"),
    [(2.0, 2), (2.0000000001, 2), (2.00001, 3), (1.9999999999, 2), (0.0000000001, 0), (-0.5, 0)],
)
def test_exact_ceil_takes_float_error_for_the_boundary_it_stands_for(value, ceiling):
    assert exact_ceil(value) == ceiling


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
