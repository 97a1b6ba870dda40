"""Histories: hand-worked orders, ties and boundaries; nothing of the future, ever."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations import Segments, read_annotations
from antcache.errors import BadAnnotations, BadConfig
from antcache.teacher.histories import (
    MODES,
    TOLERANCE_S,
    Examples,
    HistoryConfig,
    Timeline,
    concatenate,
)


def rows(timeline, mode="complete", length=3, gap_s=1.0):
    return timeline.history_rows(HistoryConfig(mode=mode, gap_s=gap_s), length).tolist()


def test_the_last_ones_come_oldest_first_whatever_the_order_of_the_file(make_segments, taxonomy):
    timeline = Timeline.of({"train": make_segments("a", [30, 0, 20, 10, 40])}, taxonomy)
    assert rows(timeline) == [[1, 3, 2], [-1, -1, -1], [-1, 1, 3], [-1, -1, 1], [3, 2, 0]]


def test_videos_do_not_mix(make_segments, join, taxonomy):
    both = join([make_segments("a", [0, 10]), make_segments("b", [5, 15])])
    assert rows(Timeline.of({"train": both}, taxonomy), length=2) == [
        [-1, -1],
        [-1, 0],
        [-1, -1],
        [-1, 2],
    ]


def test_an_action_that_begins_at_the_same_instant_is_not_earlier(make_segments, taxonomy):
    # Rows 1 and 2 start together: neither knows the other. Row 3 knows both, and the one that
    # stops first is the older.
    segments = make_segments("a", [0, 5, 5, 9], stops=[1, 8, 6, 10])
    assert rows(Timeline.of({"train": segments}, taxonomy)) == [
        [-1, -1, -1],
        [-1, -1, 0],
        [-1, -1, 0],
        [0, 2, 1],
    ]


def test_of_equal_times_the_first_in_the_file_is_the_older(make_segments, taxonomy):
    timeline = Timeline.of({"train": make_segments("a", [5, 5, 9])}, taxonomy)
    assert rows(timeline)[2] == [-1, 0, 1]


def test_observed_includes_a_start_exactly_on_the_boundary(make_segments, taxonomy):
    # 0.1 + 0.2 is above 0.3 in floating point; frames 30 and 60 are exactly 1 s apart.
    frames = np.array([30, 45, 60, 61]) / 30
    timeline = Timeline.of({"train": make_segments("a", frames)}, taxonomy)
    assert rows(timeline, "observed") == [[-1, -1, -1], [-1, -1, -1], [-1, -1, 0], [-1, -1, 0]]
    tenths = Timeline.of({"train": make_segments("a", [0.3, 0.1 + 0.2 + 1.0, 1.29])}, taxonomy)
    assert rows(tenths, "observed") == [[-1, -1, -1], [-1, -1, 0], [-1, -1, -1]]


def test_without_a_gap_observed_is_complete_and_still_strict(make_segments, taxonomy):
    timeline = Timeline.of({"train": make_segments("a", [0, 5, 5, 9])}, taxonomy)
    assert rows(timeline, "observed", gap_s=0.0) == rows(timeline, "complete")


def test_gappy_knows_only_its_own_split(make_segments, taxonomy):
    # One video cut into two splits, as EGTEA Gaze+ does.
    parts = {
        "train": make_segments("a", [0, 20, 40]),
        "validation": make_segments("a", [10, 30], prefix="x"),
    }
    timeline = Timeline.of(parts, taxonomy)
    assert rows(timeline, "gappy") == [
        [-1, -1, -1],
        [-1, -1, 0],
        [-1, 0, 1],
        [-1, -1, -1],
        [-1, -1, 3],
    ]
    assert rows(timeline, "complete")[2] == [3, 1, 4]
    assert rows(timeline, "complete")[4] == [0, 3, 1]


def test_examples_hold_actions_and_the_video(make_segments, join, taxonomy):
    both = join([make_segments("a", [0, 10], [4, 7]), make_segments("b", [5], [2])])
    examples = Timeline.of({"train": both}, taxonomy).examples(HistoryConfig(), 2)
    assert examples.history.tolist() == [[-1, -1], [-1, 4], [-1, -1]]
    assert examples.target.tolist() == [4, 7, 2]
    assert examples.group.tolist() == [0, 0, 1]


def test_a_uid_in_two_splits_is_refused(make_segments, taxonomy):
    segments = make_segments("a", [0, 1])
    with pytest.raises(BadAnnotations, match=r"same uid is in two splits.*a-0"):
        Timeline.of({"train": segments, "again": segments}, taxonomy)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"mode": "future"}, "unknown history: expected complete or .*, found future"),
        ({"gap_s": -1.0}, "impossible gap_s: .*found -1.0"),
        ({"gap_s": float("nan")}, "impossible gap_s: .*found nan"),
    ],
)
def test_impossible_histories_are_refused(bad, words):
    with pytest.raises(BadConfig, match=words):
        HistoryConfig(**bad)


starts = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.booleans()), max_size=25)


@settings(deadline=None, derandomize=True)
@given(starts=starts, length=st.integers(1, 6), gap=st.integers(0, 90))
def test_no_history_holds_the_future_and_observed_is_part_of_complete(
    starts, length, gap, taxonomy
):
    def split(which):
        mine = [(v, s) for v, s, w in starts if w == which]
        return Segments.of(
            uid=[f"{which}{i}" for i in range(len(mine))],
            video=[str(v) for v, _ in mine],
            start_s=[s / 30 * 7 for _, s in mine],
            stop_s=[s / 30 * 7 + 1 for _, s in mine],
            **dict.fromkeys(("verb", "noun", "action"), [0] * len(mine)),
        )

    timeline = Timeline.of({"train": split(True), "validation": split(False)}, taxonomy)
    segments = timeline.segments
    for mode in MODES:
        config = HistoryConfig(mode=mode, gap_s=gap / 30)
        found = timeline.history_rows(config, length)
        assert found.shape == (len(segments), length)
        # What belongs there, in exact arithmetic: starts are multiples of 7 frames.
        frame = np.round(segments.start_s * 30).astype(int)
        for i in range(len(segments)):
            allowed = {
                j
                for j in range(len(segments))
                if segments.video[j] == segments.video[i]
                and frame[j] < frame[i]
                and (mode != "observed" or frame[j] <= frame[i] - gap)
                and (mode != "gappy" or timeline.split[j] == timeline.split[i])
            }
            past = [int(j) for j in found[i] if j >= 0]
            assert set(past) <= allowed
            assert len(past) == min(length, len(allowed))
            assert (np.diff(frame[past]) >= 0).all()
            # The last ones: what was left out is not later than what is there.
            assert all(frame[j] <= frame[past[0]] for j in allowed - set(past))
            assert (found[i, : length - len(past)] == -1).all()


def plainly(timeline, config, length):
    """The same histories, one segment after the other, in plain Python."""
    segments, split = timeline.segments, timeline.split
    keys = zip(segments.start_s, segments.stop_s, range(len(segments)), strict=True)
    videos = {}
    for key in sorted(keys):
        part = split[key[2]] if config.mode == "gappy" else ""
        videos.setdefault((segments.video[key[2]], part), []).append(key)
    found = np.full((len(segments), length), -1)
    for members in videos.values():
        for start, _, row in members:
            limit = start - TOLERANCE_S
            if config.mode == "observed":
                limit = min(limit, start - config.gap_s + TOLERANCE_S)
            past = [r for s, _, r in members if s <= limit][-length:]
            if past:
                found[row, -len(past) :] = past
    return found


@pytest.fixture(scope="module", params=["epic-kitchens-55", "egtea"])
def real(request, data_dir):
    dataset = read_annotations(request.param, data_dir / request.param)
    return Timeline.of(dataset.splits, dataset.taxonomy)


@pytest.mark.parametrize("mode", MODES)
def test_on_real_labels_it_is_what_plain_python_finds(real, mode):
    config = HistoryConfig(mode=mode, gap_s=0.5)
    # A part in any order: ties, overlaps and gaps of real videos.
    chosen = np.random.default_rng(0).permutation(len(real.segments))[:4000]
    part = Timeline(
        taxonomy=real.taxonomy, segments=real.segments[chosen], split=real.split[chosen]
    )
    np.testing.assert_array_equal(part.history_rows(config, 6), plainly(part, config, 6))


def test_times_by_hand(make_segments, taxonomy):
    """Asked 1 s before 10 s: what has ended, what is under way, and what is still to begin."""
    segments = make_segments("a", [2, 6, 9.5, 10], stops=[5, 12, 11, 13])
    timeline = Timeline.of({"train": segments}, taxonomy)
    last = timeline.examples(HistoryConfig(gap_s=1.0), 4, times=True)[3:]
    assert last.history.tolist() == [[-1, 0, 0, 0]]
    np.testing.assert_allclose(last.ago_s, [[np.nan, 7, 3, -0.5]])
    np.testing.assert_allclose(last.lasted_s, [[np.nan, 3, 3, 0]])
    assert last.ago_s.dtype == last.lasted_s.dtype == np.float32
    observed = HistoryConfig(mode="observed", gap_s=1.0)
    last = timeline.examples(observed, 2, times=True)[3:]
    np.testing.assert_allclose(last.ago_s, [[7, 3]])
    assert timeline.examples(observed, 2).ago_s is None


@pytest.mark.parametrize("mode", MODES)
def test_times_know_nothing_after_the_moment_of_prediction(real, mode):
    """An action still under way has lasted until then; how long it will last shows nowhere."""
    config = HistoryConfig(mode=mode, gap_s=1.0)
    segments = real.segments
    rows = real.history_rows(config, 5)
    known = real.examples(config, 5, times=True)
    moment = (segments.start_s - 1.0)[:, None]
    there = rows >= 0
    past = there & (segments.stop_s[rows] <= moment)
    under_way = there & (segments.stop_s[rows] > moment) & (segments.start_s[rows] <= moment)
    length = segments.stop_s - segments.start_s
    assert past.any()
    assert under_way.any()
    np.testing.assert_allclose(known.lasted_s[past], length[rows][past], rtol=1e-5)
    np.testing.assert_array_equal(known.lasted_s[under_way], known.ago_s[under_way])
    assert (known.lasted_s[there] >= 0).all()
    assert np.isnan(known.ago_s[~there]).all()
    assert np.isnan(known.lasted_s[~there]).all()
    if mode == "observed":
        assert (known.ago_s[there] > -1e-3).all()


def test_a_part_and_the_whole_carry_times_and_unknown_ones_are_no_number(make_segments, taxonomy):
    timeline = Timeline.of({"train": make_segments("a", [0, 10, 20])}, taxonomy)
    timed = timeline.examples(HistoryConfig(), 2, times=True)
    script = Examples(
        history=np.zeros((1, 2), int), target=np.zeros(1, int), group=np.zeros(1, int)
    )
    np.testing.assert_allclose(timed[[2]].ago_s, [[19, 9]])
    both = concatenate([timed, script])
    np.testing.assert_array_equal(both.ago_s[:3], timed.ago_s)
    np.testing.assert_array_equal(both.lasted_s[:3], timed.lasted_s)
    assert np.isnan(both.ago_s[3]).all()
    assert np.isnan(both.lasted_s[3]).all()
    assert concatenate([script, script]).ago_s is None
    with pytest.raises(BadConfig, match=r"times.*times=True"):
        script.require_times()


def test_folds_keep_groups_together_and_are_of_about_equal_size():
    group = np.repeat(np.arange(30), np.arange(30) + 1)
    examples = Examples(history=np.zeros((465, 1), int), target=np.zeros(465, int), group=group)
    fold = examples.folds(5, seed=3)
    assert all(len(np.unique(fold[group == g])) == 1 for g in range(30))
    sizes = np.bincount(fold)
    assert sizes.min() > 0.7 * 465 / 5
    assert sizes.max() < 1.3 * 465 / 5
    np.testing.assert_array_equal(fold, examples.folds(5, seed=3))
    assert (fold != examples.folds(5, seed=4)).any()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_more_folds_than_videos_are_refused(count):
    examples = Examples(
        history=np.zeros((4, 1), int), target=np.zeros(4, int), group=np.array([0, 0, 1, 1])
    )
    with pytest.raises(BadConfig, match="folds"):
        examples.folds(count)


def test_concatenated_parts_share_no_group():
    part = Examples(history=np.zeros((2, 1), int), target=np.arange(2), group=np.array([0, 1]))
    assert concatenate([part, part, part]).group.tolist() == [0, 1, 2, 3, 4, 5]


def test_what_is_observed_ends_before_the_anchor(make_segments, taxonomy):
    """Rows at 0, 3 and 5 s; the last lasts 4 s. 3 s before its start, middle and end: 2, 4, 6 s."""
    timeline = Timeline.of({"train": make_segments("a", [0, 3, 5], stops=[1, 4, 9])}, taxonomy)
    found = {
        anchor: timeline.history_rows(
            HistoryConfig(mode="observed", gap_s=3.0, anchor=anchor), 2
        ).tolist()[2]
        for anchor in (0.0, 0.5, 1.0)
    }
    assert found == {0.0: [-1, 0], 0.5: [0, 1], 1.0: [0, 1]}
    late = HistoryConfig(gap_s=0.0, anchor=1.0)  # nothing that starts with it or after it, ever
    assert timeline.history_rows(late, 2).tolist() == [[-1, -1], [-1, 0], [0, 1]]
    times = timeline.examples(HistoryConfig(gap_s=3.0, anchor=1.0), 2, times=True)
    assert times.ago_s[2].tolist() == [6, 3]
    assert times.lasted_s[2].tolist() == [1, 1]


def test_histories_that_end_before_the_start_are_named_as_ever():
    config = HistoryConfig(mode="observed", gap_s=2.0)
    assert config.settings == {"mode": "observed", "gap_s": 2.0}
    assert replace(config, anchor=1.0).settings == {**config.settings, "anchor": 1.0}
    for one in (config, replace(config, anchor=0.5)):
        assert HistoryConfig(**one.settings) == one
