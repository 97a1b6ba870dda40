"""Files that list videos, by paths, URLs and names."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import BadAnnotations, BadConfig, NotFound
from antcache.extract import SourceConfig, find_videos
from antcache.store import Store


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("videos/a.mp4", "videos/b.mkv", "videos/c.mp4", "more/x/d.avi", "more/e.mov"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for number in (1, 2):
        (tmp_path / "frames/P01").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"frames/P01/{number}.jpg").touch()
    return tmp_path


def test_a_path_or_url_a_line(place):
    lines = ["# ours", "", "videos/a.mp4", f"  {place}/videos/b.mkv", "more", "s3://bucket/f.mp4"]
    lines += ["https://example.org/v/g%20h.mp4?token=1", "videos/gone.mp4", "frames"]
    for name in ("videos.txt", "videos.LIST"):
        (place / name).write_text("\n".join(lines) + "\n")
        found = find_videos(place / name, SourceConfig(image_fps=30))
        assert list(found) == ["a", "b", "e", "d", "f", "g h", "P01"]
        assert found["a"] == place / "videos/a.mp4"
        assert found["f"].path == "s3://bucket/f.mp4"
        (refused,) = found.refused
        assert (refused.name, refused.path.name) == ("gone", "gone.mp4")
        assert f"{name}:8: no such file or folder" in str(refused.error)
        assert not found.is_one


def test_a_table_gives_names(place):
    rows = [
        "Fire Kitchen,videos/a.mp4",
        "x,frames/P01",
        "y,https://example.org/download",
        "a?,more",
    ]
    rows += ["z,videos/b.mkv", "z,videos/c.mp4"]
    (place / "v.csv").write_text("\n".join(["video,path", *rows]))
    found = find_videos(place / "v.csv", SourceConfig(image_fps=30))
    assert list(found) == ["Fire Kitchen", "x", "y"]
    assert found["x"].path == place / "frames/P01"
    assert [each.name for each in found.refused] == ["a?", "z", "z"]


@pytest.mark.parametrize(
    ("name", "text", "error", "words"),
    [
        ("v.txt", b"\n# nothing\n", BadConfig, "a list of nothing"),
        ("v.txt", b"\0\0ftypisom", BadConfig, "bytes that are no text"),
        ("v.list", b"caf\xe9.mp4", BadConfig, "not a list of videos: expected UTF-8 text"),
        ("v.csv", b"video,file\na,b\n", BadAnnotations, "the header lacks path"),
        ("v.txt", b"more/x\nnowhere", NotFound, ""),
    ],
)
def test_lists_that_are_wrong(place, name, text, error, words):
    (place / name).write_bytes(text)
    if words:
        with pytest.raises(error, match=words):
            find_videos(place / name)
    else:
        assert list(find_videos(place / name)) == ["d"]


def test_the_command_takes_a_list(tmp_path, video, vit):
    video.write(tmp_path / "a.mp4", video.steady(25))
    (tmp_path / "videos.txt").write_text("a.mp4\ngone.mp4\n")
    words = [tmp_path / "videos.txt", tmp_path / "s.zarr", "--backbone", vit]
    run = CliRunner().invoke(cli, ["extract", *map(str, words)])
    assert run.exit_code == 1, run.output
    assert "failed: " in run.stderr
    assert "videos.txt:2: no such file or folder" in run.stderr
    assert Store.open(tmp_path / "s.zarr").videos("rgb") == ["a"]
