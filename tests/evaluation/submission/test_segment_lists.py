"""Lists of segments without labels, in every form."""

from __future__ import annotations

import numpy as np
import pytest

from antcache.annotations import read_annotations
from antcache.errors import BadAnnotations, BadConfig, NotFound
from antcache.evaluation.submission.segment_lists import read_uids, read_unlabeled

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
    segments = read_unlabeled(tmp_path / "list.csv")
    assert segments.uid.tolist() == ["2", "1"]
    assert segments.video.tolist() == ["P01_11", "P01_12"]
    np.testing.assert_allclose(segments.start_s, [1, 0.5])
    np.testing.assert_allclose(segments.stop_s, [3, 16 / 30])
    assert segments.action.tolist() == segments.verb.tolist() == segments.noun.tolist() == [-1, -1]
    (tmp_path / "list.csv").write_text(OFFICIAL)
    segments = read_unlabeled(tmp_path / "list.csv")
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
            read_unlabeled(path)
    for read in (read_uids, read_unlabeled):
        with pytest.raises(NotFound, match=r"absent\.csv: the file can't be read: .*No such file"):
            read(tmp_path / "absent.csv")


OWN = "uid,video,start,stop,verb,noun,mood\n007,P01.mp4,1.5,2.25,take,pan,good\n8.0,P02,2,3,,,\n"


def test_a_table_of_ones_own(tmp_path):
    """In seconds, or frames at a rate; uids as the import keeps them; labels not looked at."""
    path = tmp_path / "own.csv"
    path.write_text(OWN)
    segments = read_unlabeled(path)
    assert read_uids(path) == segments.uid.tolist() == ["007", "8"]
    assert segments.video.tolist() == ["P01.mp4", "P02"]
    np.testing.assert_array_equal(segments.start_s, [1.5, 2])
    np.testing.assert_array_equal(segments.stop_s, [2.25, 3])
    assert segments.action.tolist() == [-1, -1]
    path.write_text("stop,start,video,uid\n50,25.0,P01,a\n")
    segments = read_unlabeled(path, fps=25)
    assert (segments.start_s.tolist(), segments.stop_s.tolist()) == ([1.0], [2.0])
    path.write_text(OWN + "007,P01,4,5,,,\n")
    for read in (read_uids, read_unlabeled):
        with pytest.raises(BadAnnotations, match=r"own\.csv:4: the uid is used twice, first at"):
            read(path)
    path.write_text(OWN)
    with pytest.raises(BadAnnotations, match=r"own\.csv:2: bad start: expected a whole number"):
        read_unlabeled(path, fps=30)
    for rate in (0.0, float("nan")):
        with pytest.raises(BadConfig, match="impossible frame rate"):
            read_unlabeled(path, fps=rate)


@pytest.mark.parametrize("text", [OFFICIAL, "0002, P01_11, 30, 90\n"])
def test_a_rate_is_for_tables_of_ones_own(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(BadConfig, match="only a table of one's own takes a frame rate"):
        read_unlabeled(tmp_path / "list.csv", fps=25)


def test_a_split_is_read_alike_by_its_import_and_as_a_list(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(
        "uid,video,start,stop,verb,noun\n007,P01,1.5,2.25,take,pan\n8.0,P02,2,3,take,pan\n"
    )
    listed, imported = read_unlabeled(path), read_annotations("table", path).splits["own"]
    for column in ("uid", "video", "start_s", "stop_s"):
        assert getattr(listed, column).tolist() == getattr(imported, column).tolist()


@pytest.mark.parametrize(
    "header",
    [
        '"uid","video","start","stop"',
        "Uid,Video,Start,Stop",
        'UID, "VIDEO","Start", stop',
        "\n ,,, \nuid,video,start,stop",
        "\ufeffuid,video,start,stop",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_headers_are_known_however_they_are_written(tmp_path, header, end):
    """Quoted, in other cases, behind blank lines; in lists as in the tables of labels."""
    path = tmp_path / "own.csv"
    lines = [header, '"007","P01",1.5,2.25', "8,P02,2,3"]
    path.write_bytes(end.join("\n".join(lines).split("\n")).encode())
    segments = read_unlabeled(path)
    assert read_uids(path) == segments.uid.tolist() == ["007", "8"]
    assert segments.video.tolist() == ["P01", "P02"]
    assert segments.stop_s.tolist() == [2.25, 3]
    lines = [f"{header},Verb,nouN", '"007","P01",1.5,2.25,take,pan', "8,P02,2,3,take,pan"]
    path.write_bytes(end.join("\n".join(lines).split("\n")).encode())
    imported = read_annotations("table", path).splits["own"]
    assert imported.uid.tolist() == ["007", "8"]
    assert imported.stop_s.tolist() == [2.25, 3]


def test_official_headers_are_known_in_any_case(tmp_path):
    path = tmp_path / "list.csv"
    header, *lines = OFFICIAL.splitlines()
    path.write_text("\n".join([header.upper(), *lines]))
    assert read_uids(path) == read_unlabeled(path).uid.tolist() == ["P01_101_0", "P02_1_7"]


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        ("uid,video,start", "stop"),
        ("Uid,Start,Stop", "video"),
        ("id,video,start,stop", "uid"),
        ("uid,video_id,start,stop", "video"),
        ("uid", "video, start, stop"),
    ],
)
@pytest.mark.parametrize("fps", [None, 30])
def test_a_column_that_lacks_is_one_of_the_form_that_was_meant(tmp_path, header, lacking, fps):
    path = tmp_path / "own.csv"
    path.write_text(header + "\n" + "a,b,1,2"[: 2 * header.count(",") + 1] + "\n")
    words = rf"own\.csv:1: the header lacks {lacking}: expected uid, video, start, stop, found"
    with pytest.raises(BadAnnotations, match=words):
        read_unlabeled(path, fps=fps)


def test_an_official_header_that_lacks_a_column(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("id,video_id,start_timestamp,stop_timestamp\n1,P01,00:00:01,00:00:02\n")
    with pytest.raises(BadAnnotations, match=r":1: the header lacks narration_id: expected narr"):
        read_unlabeled(path)


def test_names_of_videos_make_no_header(tmp_path):
    """A list without a header may be of a video that is called like a column."""
    path = tmp_path / "list.csv"
    path.write_text("1, video, 30, 90\n2, start, 30, 90\n")
    assert read_unlabeled(path).video.tolist() == ["video", "start"]
    assert read_uids(path) == ["1", "2"]
