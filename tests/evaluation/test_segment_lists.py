"""Lists of segments without labels, in every form."""

from __future__ import annotations

import numpy as np
import pytest

from antcache.errors import BadAnnotations, NotFound
from antcache.evaluation.segment_lists import read_uids, read_unlabelled

OFFICIAL = """narration_id,uid,video_id,start_timestamp,stop_timestamp
P01_101_0,4,P01_101,00:00:02.5,00:01:03.87
P02_1_7,5,P02_1,00:00:00,00:00:01
"""


@pytest.mark.parametrize(
    ("text", "uids"),
    [
        ("0001, P01_11, 10, 90\n0023, P01_11, 90, 120\n", ["1", "23"]),
        ("uid,participant_id,video_id\n1924,P01,P01_11\n5,P01,P01_11\n", ["1924", "5"]),
        ("7\n12\n", ["7", "12"]),
        (OFFICIAL, ["P01_101_0", "P02_1_7"]),
        ("P01_101_0, P01_101, 12, 20\n", ["P01_101_0"]),
    ],
)
def test_uids(tmp_path, text, uids):
    (tmp_path / "list.csv").write_text(text)
    assert read_uids(tmp_path / "list.csv") == uids


def test_times_without_labels(tmp_path):
    (tmp_path / "list.csv").write_text("0002, P01_11, 30, 90\n0001, P01_12, 15, 16\n")
    segments = read_unlabelled(tmp_path / "list.csv")
    assert segments.uid.tolist() == ["2", "1"]
    assert segments.video.tolist() == ["P01_11", "P01_12"]
    np.testing.assert_allclose(segments.start_s, [1, 0.5])
    np.testing.assert_allclose(segments.stop_s, [3, 16 / 30])
    assert segments.action.tolist() == segments.verb.tolist() == segments.noun.tolist() == [-1, -1]
    (tmp_path / "list.csv").write_text(OFFICIAL)
    segments = read_unlabelled(tmp_path / "list.csv")
    np.testing.assert_allclose(segments.start_s, [2.5, 0])
    np.testing.assert_allclose(segments.stop_s, [63.87, 1])


def test_bad_lists(tmp_path):
    path = tmp_path / "list.csv"
    for text, words in (
        ("1, P01_11, 10, 90, 3\n", r"list\.csv:1: wrong number of columns"),
        ("7\n8\n07\n", r"list\.csv:3: the uid is used twice, first at .*:1"),
        ("", "no records"),
        ("1, P01_11, 10, 90\n, P01_11, 90, 99\n", r"list\.csv:2"),
    ):
        path.write_text(text)
        with pytest.raises(BadAnnotations, match=words):
            read_uids(path)
    for text, words in (
        ("7\n8\n", r"list\.csv:1: wrong number of columns"),
        ("1, P01_11, 90, 10\n", r"list\.csv:1: the segment stops before"),
        ("uid,video_id\n1,P01\n", "lacks start_timestamp"),
    ):
        path.write_text(text)
        with pytest.raises(BadAnnotations, match=words):
            read_unlabelled(path)
    for read in (read_uids, read_unlabelled):
        with pytest.raises(NotFound, match=r"absent\.csv: the file can't be read: .*No such file"):
            read(tmp_path / "absent.csv")
