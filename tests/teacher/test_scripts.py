"""Scripts: read as they stand, or refused with file and line."""

from __future__ import annotations

import pytest

from antcache.errors import BadAnnotations, NotFound
from antcache.teacher.scripts import read_scripts


def test_scripts_become_examples(tmp_path, taxonomy):
    path = tmp_path / "scripts.txt"
    path.write_text("take_pan, put_pan, open_tap\n\nclose_tap\n")
    scripts = read_scripts(path, taxonomy)
    assert scripts.actions.tolist() == [0, 3, 8, 11]
    assert scripts.starts.tolist() == [0, 3, 4]
    examples = scripts.examples(2)
    assert examples.history.tolist() == [[-1, -1], [-1, 0], [0, 3], [-1, -1]]
    assert examples.target.tolist() == [0, 3, 8, 11]
    assert examples.group.tolist() == [0, 0, 0, 1]


def test_a_history_longer_than_the_script(tmp_path, taxonomy):
    path = tmp_path / "scripts.txt"
    path.write_text("take_pan, put_pan")
    assert read_scripts(path, taxonomy).examples(3).history.tolist() == [[-1] * 3, [-1, -1, 0]]


def test_an_unknown_action_is_named_with_file_and_line(tmp_path, taxonomy):
    path = tmp_path / "scripts.txt"
    path.write_text("take_pan\ntake_pan, fry_egg\n")
    with pytest.raises(BadAnnotations, match=r"scripts\.txt:2: unknown action.*'fry_egg'"):
        read_scripts(path, taxonomy)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n \n", "no script"),
        (b"\xff\xfe\x00", "not a UTF-8"),
        (b"take_pan,put_pan", "unknown action"),
        (b"take_pan, ", "unknown action"),
    ],
)
def test_what_is_no_script_file_is_refused(tmp_path, taxonomy, content, words):
    path = tmp_path / "scripts.txt"
    path.write_bytes(content)
    with pytest.raises(BadAnnotations, match=words):
        read_scripts(path, taxonomy)


def test_a_missing_file_or_a_folder_is_refused(tmp_path, taxonomy):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(NotFound, match="no script file"):
            read_scripts(path, taxonomy)
