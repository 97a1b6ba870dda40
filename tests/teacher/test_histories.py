"""Histories: hand-worked orders, ties and boundaries; nothing of the future, ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations import Segments
from antcache.errors import BadAnnotations, BadConfig
from antcache.teacher.histories import MODES, Examples, HistoryConfig, Timeline, concatenate


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


@pytest.mark.parametrize("bad", [{"mode": "future"}, {"gap_s": -1.0}, {"gap_s": float("nan")}])
def test_impossible_histories_are_refused(bad):
    with pytest.raises(BadConfig):
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
