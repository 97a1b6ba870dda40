from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations import PROTOCOLS, Protocol, protocol_for, sample_windows
from antcache.annotations.protocols import Anchor, WindowConfig, anchor_name
from antcache.errors import BadConfig
from antcache.settings import read


def test_published_protocols():
    assert {name: (p.gap_s, p.observed_s, p.num_frames) for name, p in PROTOCOLS.items()} == {
        "epic-kitchens-55": (1.0, 5.0, 10),
        "epic-kitchens-100": (1.0, 10.0, 10),
        "egtea": (0.5, 10.0, 10),
    }
    assert protocol_for("egtea") is PROTOCOLS["egtea"]
    assert protocol_for("mine").gap_s == 1.0


def test_a_segment_is_dropped_when_nothing_was_seen_before_the_gap():
    """start - gap < 1/30 s: frames 30 and earlier are dropped, 31 sees frame 1 alone."""
    windows = sample_windows([0.0, 30 / 30, 1.0333, 31 / 30, 6.0], PROTOCOLS["epic-kitchens-55"])
    assert windows.kept.tolist() == [False, False, False, True, True]
    assert windows.frames[3].tolist() == [1] * 10
    assert windows.padded[3].tolist() == [True] * 9 + [False]
    assert windows.frames[4].tolist() == list(range(15, 151, 15))
    assert not windows.padded[4].any()


def test_parity_is_part_of_the_protocol():
    protocol = Protocol(gap_s=0.5, num_frames=1, rate=1.0, parity="avt")
    exact = Protocol(gap_s=0.5, num_frames=1, rate=1.0)
    starts = [frame / 30 for frame in range(16, 400)]
    one, other = sample_windows(starts, exact), sample_windows(starts, protocol)
    assert set((one.frames - other.frames)[other.kept].ravel().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("gap_s", value) for value in (-1.0, 1e308, float("nan"), 10**400)),
        *(("num_frames", value) for value in (0, 10**9)),
        *(("rate", value) for value in (0.0, 31.0, 1e-300, float("nan"))),
    ],
)
def test_impossible_protocols_are_refused(name, value):
    with pytest.raises(
        BadConfig, match=rf"impossible {name}: expected from .*found {re.escape(str(value))}$"
    ):
        Protocol(**({"gap_s": 1.0, "num_frames": 10, "rate": 2.0} | {name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("gap_s", value) for value in (0, 3600)),
        *(("num_frames", value) for value in (1, 10_000)),
        *(("rate", value) for value in (0.001, 30)),
    ],
)
def test_the_limits_that_the_error_names_are_allowed(name, value):
    assert (
        getattr(Protocol(**({"gap_s": 1.0, "num_frames": 10, "rate": 2.0} | {name: value})), name)
        == value
    )


def test_an_unknown_parity_is_refused():
    with pytest.raises(BadConfig, match=r"unknown parity: expected exact or .*, found float"):
        Protocol(gap_s=1.0, num_frames=10, rate=2.0, parity="float")


ENDS = Protocol(gap_s=1.0, num_frames=2, rate=2.0, anchor=1.0)


def test_windows_end_before_the_anchor():
    """By hand: a segment from 2 s to 6 s, seen up to 1 s before its start, middle and end."""
    found = {
        anchor: sample_windows([2.0], replace(ENDS, anchor=anchor), [6.0]).frames[0].tolist()
        for anchor in (0.0, 0.5, 1.0)
    }
    assert found == {0.0: [15, 30], 0.5: [75, 90], 1.0: [135, 150]}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    start=st.integers(0, 10**6),
    length=st.integers(1, 10**5),
    percent=st.integers(0, 100),
    gap=st.integers(0, 300),
)
def test_no_frame_after_the_anchor_is_seen(start: int, length: int, percent: int, gap: int):
    """In hundredths of a second, with exact arithmetic."""
    protocol = Protocol(gap_s=gap / 100, num_frames=1, rate=1.0, anchor=percent / 100)
    found = sample_windows([start / 100], protocol, [(start + length) / 100])
    due = Fraction(start - gap, 100) + Fraction(length * percent, 10**4)
    last = due * 30 // 1
    assert found.kept[0] == (last >= 1)
    if found.kept[0]:
        assert found.frames[0, 0] == last


def test_both_ends_are_what_the_annotations_say():
    start, stop = np.array([0.1, 1001 / 60000]), np.array([0.3, 77.7])
    np.testing.assert_array_equal(replace(ENDS, anchor=0.0).reference_s(start, stop), start)
    np.testing.assert_array_equal(ENDS.reference_s(start, stop), stop)


@pytest.mark.parametrize("stop", [None, [6.0, float("nan"), 9.0]])
def test_an_anchor_needs_stops_and_the_start_none(stop):
    starts = [2.0, 4.0, 8.0]
    assert sample_windows(starts, replace(ENDS, anchor=0.0), stop).kept.all()
    without = 3 if stop is None else 1
    with pytest.raises(BadConfig, match=rf"anchor 'end' needs.* {without} of 3 segments without"):
        sample_windows(starts, ENDS, stop)


@pytest.mark.parametrize("record", [ENDS, WindowConfig(anchor=1.0)])
@pytest.mark.parametrize("parity", ["avt", "rulstm"])
def test_published_arithmetic_has_its_own_anchor(record, parity):
    with pytest.raises(BadConfig, match=rf"parity '{parity}' is that of .*found the anchor 'end'"):
        replace(record, parity=parity)
    assert replace(record, parity=parity, anchor=0.0).parity == parity


@pytest.mark.parametrize("anchor", [-0.01, 1.01, float("nan"), "end"])
def test_impossible_anchors(anchor):
    with pytest.raises(BadConfig, match=r"^(impossible anchor|anchor: wrong type)"):
        Protocol(gap_s=1.0, num_frames=1, rate=1.0, anchor=anchor)


@pytest.mark.parametrize(("anchor", "name"), [(0.0, "start"), (1.0, "end"), (0.25, "0.25")])
def test_an_anchor_is_read_as_it_is_said(anchor, name):
    assert anchor_name(anchor) == name
    assert read(Anchor, name) == anchor
