from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations import Dataset, Protocol, Segments, Taxonomy, count_oddities

SEGMENT = st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(1, 4), st.integers(0, 1))
CLASSES = Taxonomy(
    dataset="mine",
    verbs=("take", "put"),
    nouns=("pan",),
    actions=("take pan", "put pan"),
    action_verbs=(0, 1),
    action_nouns=(0, 0),
)


def segments_of(rows):
    return Segments.of(
        uid=[str(i) for i in range(len(rows))],
        video=[f"v{video}" for video, *_ in rows],
        start_s=[start for _, start, *_ in rows],
        stop_s=[start + length for _, start, length, _ in rows],
        verb=[action for *_, action in rows],
        noun=np.zeros(len(rows), np.int64),
        action=[action for *_, action in rows],
    )


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(SEGMENT, max_size=12))
def test_oddities_are_those_found_pair_by_pair(rows):
    counts = count_oddities(segments_of(rows))
    ordered = sorted(rows)
    earlier = [(row, ordered[:i]) for i, row in enumerate(ordered)]
    assert counts.overlaps == sum(
        any(b[0] == r[0] and r[1] < b[1] + b[2] for b in before) for r, before in earlier
    )
    assert counts.equal_starts == len(rows) - len({row[:2] for row in rows})
    assert counts.duplicates == len(rows) - len(set(rows))


def test_summary_counts_by_hand():
    dataset = Dataset(
        name="mine",
        taxonomy=CLASSES,
        splits={
            "train": segments_of([(0, 0, 1, 0), (0, 3, 1, 0), (1, 9, 1, 0)]),
            "validation": segments_of([(0, 20, 1, 1), (2, 1, 1, 0)]),
        },
        source="by hand",
    )
    summary = dataset.summary(Protocol(gap_s=1.0, num_frames=4, rate=1.0))
    assert summary["splits"]["train"] == {
        "segments": 3,
        "videos": 2,
        "verbs": 1,
        "nouns": 1,
        "actions": 1,
        "videos_in_train": None,
        "actions_not_in_train": None,
        "segments_not_in_train": None,
        "windows_kept": 2,
        "windows_dropped": 1,
        "windows_padded": 1,
        "overlaps": 0,
        "equal_starts": 0,
        "duplicates": 0,
    }
    validation = summary["splits"]["validation"]
    assert validation["videos_in_train"] == 1
    assert validation["actions_not_in_train"] == 1
    assert validation["segments_not_in_train"] == 1
    assert validation["windows_dropped"] == 1
