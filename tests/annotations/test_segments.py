from __future__ import annotations

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy, locate
from antcache.errors import BadAnnotations

COLUMNS = {
    "uid": ["a", "b", "c"],
    "video": ["v", "v", "w"],
    "start_s": [1.0, 2.0, 0.0],
    "stop_s": [2.0, 4.0, 1.0],
    "verb": [0, 1, 0],
    "noun": [0, 0, 1],
    "action": [0, 1, 2],
}
CLASSES = Taxonomy(
    dataset="mine",
    verbs=("take", "put"),
    nouns=("pan", "cup"),
    actions=("take pan", "put pan", "take cup"),
    action_verbs=(0, 1, 0),
    action_nouns=(0, 0, 1),
)


def test_segments_are_arrays_of_their_types():
    segments = Segments.of(**COLUMNS)
    assert len(segments) == 3
    assert segments.videos == ("v", "w")
    assert segments.start_s.dtype == np.float64
    assert segments.action.dtype == np.int64
    assert segments[segments.video == "v"].uid.tolist() == ["a", "b"]
    assert list(segments.table().columns) == list(COLUMNS)
    segments.check(CLASSES, str)


@pytest.mark.parametrize(
    ("known", "asked", "expected"),
    [
        (["b", "a", "c"], ["c", "a", "a", "b"], [2, 1, 1, 0]),
        (["b", "a", "c"], ["aa", "", "z", "c", "A"], [-1, -1, -1, 2, -1]),
        (["10", "9", "1"], ["1", "100", "9"], [2, -1, 1]),
        (["a", "b", "a"], ["a", "b"], [0, 1]),
        (["a"], [], []),
        ([], ["a"], [-1]),
    ],
)
def test_where_segments_stand(known, asked, expected):
    found = locate(np.array(known, dtype=np.str_), np.array(asked, dtype=np.str_))
    assert found.dtype == np.int64
    assert found.tolist() == expected


def test_segments_are_located_by_their_uids():
    segments = Segments.of(**COLUMNS)
    assert segments.locate(np.array(["c", "x", "a"])).tolist() == [2, -1, 0]


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(BadAnnotations, match="columns of unequal length"):
        Segments.of(**(COLUMNS | {"uid": ["a"]}))


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("stop_s", [2.0, 2.0, 1.0], "line 1: the segment stops before it starts"),
        ("start_s", [1.0, np.nan, 0.0], "line 1: a time is negative or not a number"),
        ("stop_s", [2.0, 4.0, np.inf], "line 2: a time is negative or not a number"),
        ("stop_s", [2.0, 4.0, 1.1e7], "line 2: a time that no video has: expected at most 100000"),
        ("uid", ["a", "b" * 256, "c"], "line 1: a uid as long as no name: expected at most 255"),
        ("video", ["a", "b", "c" * 256], "line 2: a video as long as no name"),
        ("verb", [0, 2, 0], "line 1: unknown verb id: expected 0 to 1, found 2"),
        ("action", [0, 1, 3], "line 2: unknown action id: expected 0 to 2, found 3"),
        ("noun", [0, 1, 1], r"line 1: action 1 \(put pan\) has another verb or noun"),
        ("uid", ["a", "b", "b"], "line 2: the uid is used twice, first at line 1: found b"),
    ],
)
def test_the_first_wrong_segment_is_named(column, values, problem):
    with pytest.raises(BadAnnotations, match=problem):
        Segments.of(**(COLUMNS | {column: values})).check(CLASSES, lambda row: f"line {row}")
