"""Videos of others are called as `antcache extract` calls them."""

from __future__ import annotations

import pytest

from antcache.errors import BadConfig
from antcache.interop.naming import called, note_of


@pytest.mark.parametrize(
    ("text", "stored", "video"),
    [
        ("P01_01", (), "P01_01"),
        ("day1/P01_01.MP4", (), "P01_01"),
        ("P01_01.MP4", ("P01_01.MP4",), "P01_01.MP4"),
        ("cafe\u0301", (), "caf\xe9"),
    ],
)
def test_called(text: str, stored: tuple[str, ...], video: str) -> None:
    assert called(text, stored) == video


@pytest.mark.parametrize("text", ["", "a,b", ".a", "a\n"])
def test_no_name(text: str) -> None:
    with pytest.raises(BadConfig, match="not a name for a video"):
        called(text, ())


def test_a_note_counts_those_that_changed() -> None:
    assert note_of({}, 3) == ""
    assert note_of({"a": "a.mp4", "b": "b.mp4"}, 3) == (
        "2 of 3 videos are called as antcache extract calls them: a.mp4 is a"
    )


def test_a_note_tells_names_apart_that_look_alike() -> None:
    assert note_of({"caf\xe9": "cafe\u0301"}, 1) == (
        "1 of 1 videos are called as antcache extract calls them: cafe\u0301 is caf\xe9 in "
        "composed form (Unicode NFC)"
    )
    assert note_of({"caf\xe9": "cafe\u0301.mp4"}, 1).endswith("cafe\u0301.mp4 is caf\xe9")
