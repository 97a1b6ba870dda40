from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antcache.annotations import READERS, read_annotations
from antcache.errors import AntcacheError, BadAnnotations, BadConfig, NotFound


def test_unknown_sets_and_options_are_refused(tmp_path):
    with pytest.raises(BadConfig, match=r"unknown set: expected epic-kitchens-55 or .*found ek55"):
        read_annotations("ek55", tmp_path)
    with pytest.raises(BadConfig, match="epic-kitchens-55 takes no split number"):
        read_annotations("epic-kitchens-55", tmp_path, split_number=1)
    with pytest.raises(BadConfig, match="egtea takes no fps: expected split_number"):
        read_annotations("egtea", tmp_path, fps=30.0)


@pytest.mark.parametrize("set_name", READERS)
def test_missing_and_empty_folders_and_files_in_their_place(set_name, tmp_path, write):
    with pytest.raises(
        NotFound,
        match=r"no such folder: expected .*\.(csv|txt|json)|no such folder: expected a CSV",
    ):
        read_annotations(set_name, tmp_path / "absent")
    with pytest.raises(NotFound, match="found an empty folder"):
        read_annotations(set_name, tmp_path)
    write({"notes.txt": "hello", "movie.mp4": b"\0\1"})
    with pytest.raises(NotFound, match=r"expected .*found movie\.mp4, notes\.txt"):
        read_annotations(set_name, tmp_path)
    with pytest.raises(AntcacheError, match=r"movie\.mp4"):
        read_annotations(set_name, tmp_path / "movie.mp4")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_byte_order_marks_line_endings_and_blank_lines_are_fine(write, ek55_files, newline):
    plain = read_annotations("epic-kitchens-55", write(ek55_files))
    changed = {
        name: b"\xef\xbb\xbf"
        + (str(text) + "\n  \n\n").replace("\r\n", "\n").replace("\n", newline).encode()
        for name, text in ek55_files.items()
    }
    again = read_annotations("epic-kitchens-55", write(changed))
    assert again.taxonomy == plain.taxonomy
    for split in plain.splits:
        for column, values in plain.splits[split].arrays().items():
            np.testing.assert_array_equal(values, getattr(again.splits[split], column))


def test_lines_are_counted_through_blank_ones(write, ek55_files):
    ek55_files["training.csv"] = "\n\n" + str(ek55_files["training.csv"]) + "\n12, P01\n"
    with pytest.raises(BadAnnotations, match=r"training\.csv:6: wrong number of columns"):
        read_annotations("epic-kitchens-55", write(ek55_files))


@pytest.mark.parametrize(
    "garbage",
    [
        np.random.default_rng(0).bytes(2000),
        b"\0" * 100,
        b"\xff\xfe" + "1, P".encode("utf-16-le"),
        b"PK\3\4abc",
        b"",
        b"\n \n",
    ],
    ids=["random", "zeros", "utf-16", "zip", "empty", "blank"],
)
def test_garbage_is_one_clear_line(write, ek55_files, garbage):
    for name in ("training.csv", "actions.csv", "EPIC_verb_classes.csv"):
        with pytest.raises(BadAnnotations, match=name.replace(".", r"\.")) as error:
            read_annotations("epic-kitchens-55", write(ek55_files | {name: garbage}))
        assert "\n" not in str(error.value)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_never_a_crash(write, ek55_files, data):
    name = data.draw(st.sampled_from(sorted(ek55_files)))
    content = bytearray(str(ek55_files[name]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not content:
            break
    folder = write(ek55_files | {name: bytes(content)})
    try:
        read_annotations("epic-kitchens-55", folder)
        message = ""
    except AntcacheError as error:
        message = str(error)
    assert not message or str(folder) in message


def test_oddities_are_logged(write, ek55_files, caplog):
    with caplog.at_level(logging.INFO, logger="antcache"):
        read_annotations("epic-kitchens-55", write(ek55_files))
    assert "train: Oddities(overlaps=1, equal_starts=0, duplicates=0)" in caplog.text
