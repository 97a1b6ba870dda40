"""A video that is done, and whose file is another one now: it is listed, and never called done."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from antcache.cli.main import cli
from antcache.errors import FingerprintMismatch
from antcache.extract import (
    ExtractConfig,
    Ledger,
    SourceConfig,
    VideoShard,
    extract,
    extract_video,
    find_videos,
    load_backbone,
    make_plan,
)
from antcache.extract.videos import changed
from antcache.extract.videos.changed import changed_files
from antcache.extract.videos.film_frames import FilmFile
from antcache.store import Store

CONFIG = ExtractConfig()
LONG_AGO = (1e9, 1e9)


@pytest.fixture(scope="module")
def backbone(vit: Path) -> Any:
    return load_backbone(vit, device="cpu")


@pytest.fixture
def folder(tmp_path: Path, video: Any) -> Path:
    """Videos a and b; beside the folder lies another film."""
    videos = tmp_path / "videos"
    videos.mkdir()
    video.write(videos / "a.mp4", video.steady(25))
    video.write(videos / "b.mp4", video.steady(30))
    video.write(tmp_path / "other.mp4", video.steady(75))
    return videos


@pytest.fixture
def store(tmp_path: Path, folder: Path, backbone: Any) -> Store:
    """With the rows of both."""
    store = Store.create(tmp_path / "my store.zarr")
    extract(find_videos(folder), store, backbone, CONFIG)
    return store


def replaced(folder: Path) -> tuple[int, int]:
    """Put the other film in the place of a; the sizes of both."""
    before = (folder / "a.mp4").stat().st_size
    shutil.copy(folder.parent / "other.mp4", folder / "a.mp4")
    return before, (folder / "a.mp4").stat().st_size


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["extract", *map(str, arguments), "--device", "cpu"])


def size_of(store: Store, name: str) -> object:
    return store.backend.open(f"features/rgb/{name}")[1].get("file_bytes")


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_a_folder(tmp_path: Path, video: Any, folder: Path, backbone: Any, kind: str) -> None:
    """It fails by itself, is left as it is, and made anew once it was removed."""
    store = Store.create(tmp_path / "my store", backend=kind)
    extract(find_videos(folder), store, backbone, CONFIG)
    assert size_of(store, "a") == (folder / "a.mp4").stat().st_size
    expected, found = replaced(folder)
    assert expected != found
    video.write(folder / "c.mp4", video.steady(25))
    rows = store.features("rgb", "a").read()
    why = (
        f"{folder / 'a.mp4'}: rgb/a in the store came from another file: expected {expected} "
        f"bytes, found {found} bytes (if this file is whole and the right one, remove the old rows "
        f"and run this again: antcache store remove '{store.path}' features/rgb/a; or use another "
        "stream name)"
    )
    plan = make_plan(find_videos(folder), store, backbone, CONFIG)
    assert (plan.done, list(plan.to_do), plan.changed) == (("b",), ["c"], {"a": why})
    for written, skipped in ((("c",), ("b",)), ((), ("b", "c"))):  # each time it is run
        report = extract(find_videos(folder), store, backbone, CONFIG)
        assert (report.written, report.skipped) == (written, skipped)
        assert [(each.video, each.error) for each in report.failed] == [("a", why)]
        assert Ledger(store.path).read() == list(report.failed)
    np.testing.assert_array_equal(store.features("rgb", "a").read(), rows)

    store.remove("features/rgb/a")
    report = extract(find_videos(folder), store, backbone, CONFIG)
    assert (report.written, report.skipped, report.failed) == (("a",), ("b", "c"), ())
    assert (store.features("rgb", "a").num_rows, size_of(store, "a")) == (12, found)
    assert not Ledger(store.path).path.exists()
    assert extract(find_videos(folder), store, backbone, CONFIG).skipped == ("a", "b", "c")


def test_the_file_of_before_is_no_failure(folder: Path, store: Store, backbone: Any) -> None:
    shutil.copy(folder / "a.mp4", folder.parent / "kept.mp4")
    replaced(folder)
    assert extract(find_videos(folder), store, backbone, CONFIG).failed
    shutil.copy(folder.parent / "kept.mp4", folder / "a.mp4")
    report = extract(find_videos(folder), store, backbone, CONFIG)
    assert (report.skipped, report.failed) == (("a", "b"), ())
    assert not Ledger(store.path).path.exists()


def test_a_film_that_is_not_fetched_is_no_other_one(
    folder: Path, store: Store, backbone: Any
) -> None:
    """A clone without Git LFS holds a pointer in its place; the rows are there all the same."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    (folder / "a.mp4").write_text(text)
    report = extract(find_videos(folder), store, backbone, CONFIG)
    assert (report.skipped, report.failed) == (("a", "b"), ())
    (folder / "a.mp4").write_text("as short, and none")
    assert [
        each.video for each in extract(find_videos(folder), store, backbone, CONFIG).failed
    ] == ["a"]


def test_the_command(tmp_path: Path, folder: Path, vit: Path) -> None:
    """By the exit code of a pass with failed videos, and one line that says what to do."""
    store = tmp_path / "s.zarr"
    assert run(folder, store, "--backbone", vit).exit_code == 0
    replaced(folder)
    line = f"antcache store remove {store} features/rgb/a"
    for videos, code in ((folder, 1), (folder / "a.mp4", 2)):
        result = run(videos, store, "--backbone", vit, "--dry-run")
        assert result.exit_code == 0, result.output
        assert "from another file" in result.stdout
        assert "will fail: " in result.stderr
        assert line in result.stderr
        assert not Ledger(store).path.exists()
        shown = run(videos, store, "--backbone", vit, "--dry-run", "--json")
        plan = json.loads(shown.stdout)
        assert (list(plan["changed"]), plan["to_do"]) == (["a"], {})
        assert "a" not in plan["done"]
        result = run(videos, store, "--backbone", vit)
        assert result.exit_code == code
        assert "0 videos written" in result.stdout
        assert "1 failed" in result.stdout
        assert result.stderr.count("failed: ") == 1
        assert line in result.stderr
        Ledger(store).path.unlink()
    removed = CliRunner().invoke(cli, ["store", "remove", str(store), "features/rgb/a"])
    assert removed.exit_code == 0, removed.output
    result = run(folder / "a.mp4", store, "--backbone", vit)
    assert result.exit_code == 0, result.output
    assert "1 videos written (12 rows" in result.stdout


def test_one_call(folder: Path, store: Store, backbone: Any) -> None:
    options = {"backbone": backbone, "config": CONFIG}
    assert extract_video(folder / "a.mp4", store.path, **options) is None
    replaced(folder)
    with pytest.raises(FingerprintMismatch, match="rgb/a in the store came from another file"):
        extract_video(folder / "a.mp4", store.path, **options)
    store.remove("features/rgb/a")
    made = extract_video(folder / "a.mp4", store.path, **options)
    assert made is not None
    assert made.rows == 12


def test_each_part_has_its_own(folder: Path, store: Store, backbone: Any) -> None:
    replaced(folder)
    failed = []
    for number in (1, 2):
        shard = VideoShard(number=number, count=2)
        report = extract(find_videos(folder), store, backbone, CONFIG, shard=shard)
        failed.append([each.video for each in report.failed])
    assert failed == [["a"], []]


def test_several_files_are_as_large_as_all_of_them(
    tmp_path: Path, video: Any, folder: Path, backbone: Any
) -> None:
    for number in (1, 2):
        video.write(folder / f"GX0{number}0007.MP4", video.steady(25))
    store = Store.create(tmp_path / "s.zarr")
    gopro = SourceConfig(chapters="gopro")
    extract(find_videos(folder, gopro), store, backbone, CONFIG)
    parts = [folder / "GX010007.MP4", folder / "GX020007.MP4"]
    assert size_of(store, "GX010007") == sum(part.stat().st_size for part in parts)
    assert make_plan(find_videos(folder, gopro), store, backbone, CONFIG).changed == {}
    shutil.copy(tmp_path / "other.mp4", parts[1])
    plan = make_plan(find_videos(folder, gopro), store, backbone, CONFIG)
    assert (list(plan.changed), plan.done) == (["GX010007"], ("a", "b"))


class Nowhere:
    """A source that says of no file that it is made of it, as those at URLs."""

    def __init__(self, path: Path) -> None:
        self._film, self.path = FilmFile(path), path

    def frames(self, **options: Any) -> Any:
        return self._film.frames(**options)

    def duration_s(self) -> float | None:
        return self._film.duration_s()


def test_nothing_is_said_where_a_size_is_unknown(
    tmp_path: Path, video: Any, folder: Path, backbone: Any
) -> None:
    """Rows of before, or of other sources, or a file that is gone."""
    store = Store.create(tmp_path / "s.zarr")
    extract({"a": Nowhere(folder / "a.mp4")}, store, backbone, CONFIG)
    assert size_of(store, "a") is None
    extract({"b": folder / "b.mp4"}, store, backbone, CONFIG)
    shutil.copy(tmp_path / "other.mp4", folder / "b.mp4")
    videos = {name: folder / f"{name}.mp4" for name in "ab"}
    assert list(make_plan(videos, store, backbone, CONFIG).changed) == ["b"]
    videos["b"].unlink()
    assert make_plan(videos, store, backbone, CONFIG).done == ("a", "b")
    pictures = {"a": videos["a"], "b": Nowhere(tmp_path / "other.mp4")}
    assert make_plan(pictures, store, backbone, CONFIG).done == ("a", "b")


def test_pictures_have_no_size(tmp_path: Path, backbone: Any) -> None:
    import PIL.Image

    (tmp_path / "v").mkdir()
    for number in range(3):
        PIL.Image.new("RGB", (32, 32)).save(tmp_path / f"v/{number}.png")
    store = Store.create(tmp_path / "s.zarr")
    found = find_videos(tmp_path / "v", SourceConfig(image_fps=4))
    extract(found, store, backbone, CONFIG)
    assert size_of(store, "v") is None
    PIL.Image.new("RGB", (64, 32)).save(tmp_path / "v/2.png")
    assert make_plan(found, store, backbone, CONFIG).done == ("v",)


def test_pictures_of_another_rate_are_no_longer_done(
    tmp_path: Path, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a user: who corrected a wrong rate was told that all was there already."""
    import PIL.Image

    for name in ("v", "w"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(40):
            PIL.Image.new("RGB", (32, 32)).save(tmp_path / f"pictures/{name}/{number}.png")
    store = tmp_path / "s.zarr"
    words = (tmp_path / "pictures", store, "--backbone", vit, "--fps", 2)
    assert run(*words, "--image-fps", 30).exit_code == 0
    assert "2 already there" in run(*words, "--image-fps", 30).output
    (tmp_path / "t.csv").write_text(
        "video,frame,seconds\n"
        + "".join(f"{name},{n},{n / 25}\n" for name in "vw" for n in range(40))
    )
    for options, now in (
        (("--image-fps", 25), "image-fps 25.0"),
        (("--image-times", tmp_path / "t.csv"), "image-times t.csv"),
    ):
        result = run(*words, *options)
        assert result.exit_code == 1
        said = " ".join(result.output.split())
        assert f"had other times: expected image-fps 30.0, found {now} (if these are" in said
        assert f"antcache store remove {store} features/rgb/v" in said
    mixed = {**find_videos(tmp_path / "pictures", SourceConfig(image_fps=30))}
    mixed["w"] = find_videos(tmp_path / "pictures", SourceConfig(image_fps=25))["w"]
    assert list(changed_files(Store.open(store), "rgb", mixed)) == ["w"]
    same = find_videos(tmp_path / "pictures", SourceConfig(image_fps=30.0000001))
    assert not changed_files(Store.open(store), "rgb", same)
    monkeypatch.setattr(changed, "MOST_OPENED", 1)
    assert not changed_files(Store.open(store), "rgb", mixed)
    Store.open(store).remove("features/rgb")
    assert run(*words, "--image-fps", 25).exit_code == 0
    with pytest.raises(FingerprintMismatch, match="had other times"):
        extract_video(
            find_videos(tmp_path / "pictures", SourceConfig(image_fps=30))["v"],
            store,
            backbone=vit,
            config=ExtractConfig(fps=2),
            name="v",
            device="cpu",
        )


def test_rows_that_are_damaged_are_left_to_verify(
    folder: Path, store: Store, backbone: Any
) -> None:
    replaced(folder)
    (Path(store.path) / "features/rgb/a/zarr.json").write_text("{}")
    assert make_plan(find_videos(folder), store, backbone, CONFIG).done == ("a", "b")


@pytest.mark.parametrize("kept_date", [False, True])
def test_of_many_those_are_compared_whose_file_came_later(
    folder: Path,
    store: Store,
    backbone: Any,
    monkeypatch: pytest.MonkeyPatch,
    kept_date: bool,
) -> None:
    """Also where a copy has the date of what it is a copy of."""
    opened = []
    whole = changed.require_same_file
    monkeypatch.setattr(changed, "MOST_OPENED", 1)
    monkeypatch.setattr(
        changed,
        "require_same_file",
        lambda *arguments: (opened.append(arguments[2]), whole(*arguments)),
    )
    assert make_plan(find_videos(folder), store, backbone, CONFIG).done == ("a", "b")
    assert opened == []
    if kept_date:
        os.utime(folder.parent / "other.mp4", LONG_AGO)
        shutil.copy2(folder.parent / "other.mp4", folder / "a.mp4")
        assert (folder / "a.mp4").stat().st_mtime == LONG_AGO[1]
    else:
        replaced(folder)
    assert list(make_plan(find_videos(folder), store, backbone, CONFIG).changed) == ["a"]
    assert opened == ["a"]


def test_a_store_at_a_url(
    tmp_path: Path,
    folder: Path,
    backbone: Any,
    s3_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few are asked for; of more, none."""
    place = f"s3://kitchen/{tmp_path.name}/changed.zarr"
    store = Store.create(place, storage_options=s3_server.options)
    monkeypatch.chdir(tmp_path)  # the ledger's place
    extract(find_videos(folder), store, backbone, CONFIG)
    replaced(folder)
    plan = make_plan(find_videos(folder), store, backbone, CONFIG)
    assert f"antcache store remove {place} features/rgb/a" in plan.changed["a"]
    monkeypatch.setattr(changed, "MOST_ASKED", 1)
    assert make_plan(find_videos(folder), store, backbone, CONFIG).done == ("a", "b")
