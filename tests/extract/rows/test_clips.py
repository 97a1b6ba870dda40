"""Clips that end at any times: of the right pictures, of which few are held."""

from __future__ import annotations

import weakref
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.extract.rows.clips import ListedClips, batches
from antcache.extract.videos.decode import VideoReader
from antcache.extract.videos.source import VideoFacts

TOLERANCE = Fraction(1, 30_000_000)


class Film:
    """A source of frames that nobody has to decode; the picture of a frame is its number."""

    path = Path("film")

    def __init__(self, times):
        self.times, self.taken = [Fraction(t) for t in times], []
        self.facts = VideoFacts()

    def frames(self, **_):
        return self

    def __iter__(self):
        yield from ((time, number) for number, time in enumerate(self.times))

    def picture(self, number):
        self.taken.append(number)
        return number


def by_hand(times, row, back):
    """Number of the frame that is seen `back` seconds before a row, by exact arithmetic."""
    look = Fraction(row) - back + TOLERANCE
    return max([n for n, time in enumerate(times) if time <= look], default=0)


milliseconds = st.integers(0, 4000)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    frames=st.lists(milliseconds, min_size=1, max_size=30, unique=True),
    rows=st.lists(milliseconds, max_size=12, unique=True),
    num_frames=st.integers(1, 5),
    clip_fps=st.sampled_from([0.9375, 2.0, 7.5, 30.0]),
)
def test_every_frame_is_the_last_at_or_before(frames, rows, num_frames, clip_fps):
    """Those before the first one repeat it; only pictures that a row needs are made."""
    times = [Fraction(t, 1000) for t in sorted(frames)]
    asked = np.array(sorted(rows)) / 1000
    film = Film(times)
    clips = ListedClips(times=asked, num_frames=num_frames, clip_fps=clip_fps)
    found = [list(clip) for clip in clips.of(VideoReader(film), lambda number: number)]
    seen = [row for row in asked if times[0] <= Fraction(row) + TOLERANCE]
    seen = [row for row in seen if Fraction(row) <= times[-1] + TOLERANCE]
    back = [Fraction(k) / Fraction(clip_fps) for k in range(num_frames - 1, -1, -1)]
    assert found == [[by_hand(times, row, b) for b in back] for row in seen]
    needed = {number for clip in found for number in clip}
    assert needed <= set(film.taken)
    assert len(film.taken) == len(set(film.taken)) <= len(needed) + num_frames * len(asked)


def test_times_that_floats_miss_are_met():
    """37 / 30 is no float; a row at it sees the frame that is shown from then on."""
    times = [Fraction(n, 30) for n in range(60)]
    for error in (0, -1e-9, 1e-9):
        asked = np.arange(60) / 30 + error
        clips = ListedClips(times=asked, num_frames=2, clip_fps=30.0)
        found = list(clips.of(VideoReader(Film(times)), lambda number: number))
        assert found == [[max(0, n - 1), n] for n in range(60)]
    late = ListedClips(times=np.arange(60) / 30 - 1e-6, num_frames=1, clip_fps=None)
    assert list(late.of(VideoReader(Film(times)), lambda number: number)) == [
        [n - 1] for n in range(1, 60)
    ]


@pytest.mark.parametrize("num_rows", [10, 400])
def test_few_pictures_are_held(num_rows):
    """As many as are shown while a clip lasts, however long the film is and however many rows."""
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def prepare(number):
        nonlocal most
        pixels = torch.tensor([float(number)])
        alive.add(pixels)
        most = max(most, len(alive))
        return pixels

    times = [Fraction(n, 60) for n in range(60 * 30)]
    asked = np.sort(np.random.default_rng(0).uniform(0, 29, num_rows))
    clips = ListedClips(times=asked, num_frames=9, clip_fps=8.0)
    count = 0
    for clip in clips.of(VideoReader(Film(times)), prepare):
        assert len(clip) == 9
        count += 1
        del clip
    assert count == num_rows
    assert most <= 60 + 3  # 1 s of 60 frames, their ends, and the one that is just made


def test_batches_are_of_one_shape():
    def clips():
        for size in (1, 1, 1, 2, 2, 1):
            yield [torch.zeros(size), torch.zeros(size)]

    found = [tuple(batch.shape) for batch in batches(clips(), 2, Path("film"))]
    assert found == [(2, 2, 1), (1, 2, 1), (2, 2, 2), (1, 2, 1)]
