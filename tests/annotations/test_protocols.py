from __future__ import annotations

import re

import pytest

from antcache.annotations import PROTOCOLS, Protocol, protocol_for, sample_windows
from antcache.errors import BadConfig


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
