"""Videos of tables are called as the store calls them, or the import says what differs."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.annotations import Dataset, match_videos, read_annotations
from antcache.annotations.video_names import bare_name
from antcache.cli.main import cli
from antcache.errors import BadAnnotations, BadConfig
from antcache.store import Store

HEADER = "uid,video,start,stop,verb,noun,split\n"


def table(path: Path, *videos: str) -> Path:
    lines = [f"c{i},{video},{i}.5,{i + 1},take,pan,train" for i, video in enumerate(videos)]
    path.write_text(HEADER + "\n".join(lines) + "\n")
    return path


def store_of(path: Path, *videos: str) -> Store:
    store = Store.create(path)
    store.create_stream("rgb", dim=2, dtype="float32", fps=2, source="test", config={})
    for video in videos:
        store.write_features("rgb", video, np.zeros((3, 2), np.float32))
    return store


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("P01", "P01"),
        ("P01.mp4", "P01"),
        ("P01.MP4", "P01"),
        ("P01/videos/P01.m2ts", "P01"),
        ("day1\\P01.avi", "P01"),
        ("P01.v2", "P01.v2"),  # no ending of a video
        ("OP01-R01.PastaSalad", "OP01-R01.PastaSalad"),
        (".mp4", ".mp4"),
        ("a/", "a"),
        ("https://x.org/P01.mp4", "P01"),
        ("https://x.org/P01.mp4?dl=1", "https://x.org/P01.mp4?dl=1"),
        ("day1/P01:2.mp4", "day1/P01:2.mp4"),
        (unicodedata.normalize("NFD", "caf\xe9"), "caf\xe9"),
    ],
)
def test_what_a_video_is_called(given: str, name: str) -> None:
    assert bare_name(given) == name


def test_names_are_those_of_extract_and_a_note_says_so(tmp_path: Path) -> None:
    dataset = read_annotations("table", table(tmp_path / "t.csv", "K000.mp4", "day/K001.mkv", "K2"))
    matched = match_videos(dataset)
    assert matched.splits["train"].video.tolist() == ["K000", "K001", "K2"]
    assert matched.warnings == (
        "2 of 3 videos are called as antcache extract calls them: K000.mp4 is K000",
    )
    again = match_videos(matched)
    assert again.splits["train"].video.tolist() == matched.splits["train"].video.tolist()
    assert again.warnings == matched.warnings


def test_names_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    dataset = read_annotations("table", table(tmp_path / "t.csv", "cafe\u0301"))
    assert match_videos(dataset).warnings == (
        "1 of 1 videos are called as antcache extract calls them: cafe\u0301 is caf\xe9 in "
        "composed form (Unicode NFC)",
    )


def test_a_name_that_the_store_has_stays(tmp_path: Path) -> None:
    """Whatever it looks like: features of others have names of their own."""
    dataset = read_annotations("table", table(tmp_path / "t.csv", "K000.mp4", "K001.mp4"))
    matched = match_videos(dataset, {"K000.mp4", "K001"})
    assert matched.splits["train"].video.tolist() == ["K000.mp4", "K001"]


def test_two_videos_never_become_one(tmp_path: Path) -> None:
    dataset = read_annotations("table", table(tmp_path / "t.csv", "day1/P01", "day2/P01"))
    with pytest.raises(BadAnnotations, match=r"called 'P01': found day1/P01 and day2/P01"):
        match_videos(dataset)


@pytest.mark.parametrize(
    ("stored", "given", "words"),
    [
        (
            ("P01_01", "P02_01"),
            ("P01_01", "p02_01"),
            "has 1 of these 2 .*P02_01.*p02_01",
        ),
        (("P01_01",), ("P01-01",), "has 0 of these 1 .*nearest is 'P01_01', found 'P01-01'"),
        (("P01_01", "X"), ("Q01_01", "Q02_01"), "has 0 of these 2 .*nearest is 'P01_01'"),
    ],
)
def test_other_names_are_refused_with_the_nearest(
    tmp_path: Path, stored: tuple[str, ...], given: tuple[str, ...], words: str
) -> None:
    dataset = read_annotations("table", table(tmp_path / "t.csv", *given))
    with pytest.raises(BadAnnotations, match=words):
        match_videos(dataset, stored)


@pytest.mark.parametrize(
    ("stored", "other"),
    [
        ("Fire Kitchen 1", "Fire Kitchen (1)"),
        ("P01_1", "P01 (1)"),
        ("dQw4w9WgXcQ", "DQw4w9WgXcQ"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".mp4"])
def test_a_video_beside_one_that_is_named_exactly_is_another(
    tmp_path: Path, stored: str, other: str, ending: str
) -> None:
    both = read_annotations("table", table(tmp_path / "t.csv", stored + ending, other + ending))
    matched = match_videos(both, {stored, "X"})
    assert matched.splits["train"].video.tolist() == [stored, other]
    assert (
        matched.warnings[-1] == f"1 of 2 videos have no features in the store yet: {other}{ending}"
    )
    alone = read_annotations("table", table(tmp_path / "t.csv", other + ending, "X"))
    with pytest.raises(BadAnnotations, match=f"the nearest is '{stored}'"):
        match_videos(alone, {stored, "X"})


def test_videos_that_are_not_extracted_yet_are_noted(tmp_path: Path) -> None:
    dataset = read_annotations("table", table(tmp_path / "t.csv", "P01", "P02", "P010_1"))
    matched = match_videos(dataset, {"P01", "P01_01"})
    assert matched.warnings == ("2 of 3 videos have no features in the store yet: P010_1, P02",)


def test_import_matches_the_videos_of_the_store(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "P01/videos/K000.mp4", "K001.mp4")
    store = store_of(tmp_path / "s", "K000", "K001")
    words = ["annotations", "import", "table", str(path), str(store.path)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.stderr
    assert "note: 2 of 2 videos are called" in done.stderr
    assert store.labels("train").videos == ("K000", "K001")
    other = store_of(tmp_path / "other", "L000")
    done = CliRunner().invoke(cli, [*words[:-1], str(other.path)])
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "'L000'" in done.stderr
    assert other.splits() == []


def test_import_into_no_store_leaves_none_where_it_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "day1/P01.mp4", "day2/P01.mp4")
    words = ["annotations", "import", "table", str(path), str(tmp_path / "s")]
    assert CliRunner().invoke(cli, words).exit_code == 2
    assert not (tmp_path / "s").exists()


IMPOSSIBLE = (
    "..",
    "/",
    ".mp4",
    "a\x1b[31mb",
    "zarr.json",
    "P01:2",
    "$(touch pwn)",
    "\N{SLICE OF PIZZA}",
    "https://x.org/P01.mp4?dl=1",
    "x" * 201,
)


@pytest.mark.parametrize("stored", [(), ("P01",)])
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_name_that_no_video_can_have(tmp_path: Path, name: str, stored: tuple[str, ...]) -> None:
    """It is noted as that and nothing else, and refused where no other video is named."""
    with pytest.raises(BadConfig, match="not a name for a video"):
        store_of(tmp_path / "s", name)
    matched = match_videos(
        read_annotations("table", table(tmp_path / "t.csv", "P01", name)), stored
    )
    assert matched.splits["train"].video.tolist() == ["P01", name]
    assert matched.warnings == (
        "1 of 2 videos have a name that no video can have in a store, and so will have no "
        f"features: {name}",
    )
    alone = read_annotations("table", table(tmp_path / "t.csv", name))
    with pytest.raises(BadAnnotations, match=r"no video can be called so: expected letters, dig"):
        match_videos(alone, stored)


def test_published_names_are_names(
    ek55: Dataset, ek55_official: Dataset, egtea: Dataset, data_dir: Path
) -> None:
    ek100 = read_annotations("epic-kitchens-100", data_dir / "epic-kitchens-100" / "rulstm")
    for dataset in (ek55, ek55_official, egtea, ek100):
        videos = {video for split in dataset.splits.values() for video in split.videos}
        assert videos
        assert not [video for video in videos if bare_name(video) != video]
        assert not any("no video can have" in line for line in match_videos(dataset).warnings)
