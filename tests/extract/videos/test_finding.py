"""Which files of a folder are videos, by which names, and what becomes of the others."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from antcache.annotations.video_names import bare_name
from antcache.cli.main import cli
from antcache.errors import BadConfig, NotFound
from antcache.extract import extract, find_videos, load_backbone
from antcache.extract.videos.finding import SUFFIXES
from antcache.store import Store
from antcache.store.local.ledger import Ledger
from antcache.text import plain
from antcache.untrusted import read_json


@pytest.fixture
def folder(tmp_path):
    """Two videos, one of them in a subfolder, and other files."""
    videos = tmp_path / "videos"
    (videos / "more").mkdir(parents=True)
    for name in ("a.mp4", "more/b.MKV"):
        (videos / name).touch()
    return videos


def test_files_and_folders(tmp_path, folder):
    assert find_videos(folder) == {"a": folder / "a.mp4", "b": folder / "more" / "b.MKV"}
    assert find_videos(folder / "a.mp4") == {"a": folder / "a.mp4"}
    assert find_videos(folder).passed_over == ""
    (folder / "c.mp4").mkdir()
    assert list(find_videos(folder)) == ["a", "c", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="no videos here"):
        find_videos(tmp_path / "empty")
    with pytest.raises(NotFound, match="no such file or folder"):
        find_videos(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "ending",
    [
        ".mp4",
        ".mov",
        ".m4v",
        ".mkv",
        ".webm",
        ".avi",
        ".mts",
        ".m2ts",
        ".ts",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".3gp",
        ".ogv",
    ],
)
def test_endings_in_any_case(tmp_path, ending):
    (tmp_path / f"a{ending}").touch()
    (tmp_path / f"b{ending.upper()}").touch()
    assert ending in SUFFIXES
    assert list(find_videos(tmp_path)) == ["a", "b"]


def test_labels_know_every_ending():
    """Else a table's video would not be the one that is extracted."""
    assert {bare_name(f"a{ending}") for ending in SUFFIXES} == {"a"}


def test_what_is_passed_over_is_said(folder):
    for number in range(3):
        (folder / f"{number}.TXT").touch()
    for name in ("README", "._a.mp4", ".trash", "low.LRV"):
        (folder / name).touch()
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "c.mp4").touch()
    found = find_videos(folder)
    assert list(found) == ["a", "b"]
    said = "3 .txt, 3 hidden, 1 .lrv, 1 no ending"
    assert found.passed_over == f"{folder}: passed over {said}"
    few = "3 .txt, 3 hidden, 1 .lrv, 1 .x00, 1 .x01, 1 .x02"
    for number in range(20):
        (folder / f"a.x{number:02}").touch()
    assert find_videos(folder).passed_over == f"{folder}: passed over {few}, 18 others"


def test_linked_folders_are_entered(tmp_path, folder):
    disk = tmp_path / "disk"
    (disk / "P02").mkdir(parents=True)
    (disk / "P02" / "P02_01.mp4").touch()
    (disk / "P03_01.mp4").touch()
    (folder / "P02").symlink_to("../disk/P02")
    (folder / "P03_01.mp4").symlink_to("../disk/P03_01.mp4")
    assert list(find_videos(folder)) == ["P02_01", "P03_01", "a", "b"]


def test_links_in_a_circle_end(tmp_path, folder):
    (tmp_path / "beside.mp4").touch()
    (folder / "more" / "back").symlink_to("..")
    (folder / "up").symlink_to("../..")
    (folder / "self").symlink_to("self")
    (folder / "twice").symlink_to("more")
    found = find_videos(folder)
    assert list(found) == ["a", "b"]
    assert "3 links to folders that are searched anyway, or lead out" in found.passed_over
    assert found.refused == []


def test_a_link_that_leads_nowhere_is_a_video_that_fails(folder):
    (folder / "gone.mp4").symlink_to("../disk/gone.mp4")
    found = find_videos(folder)
    assert list(found) == ["a", "gone", "b"]


def test_one_file_under_one_name_is_one_video(folder):
    (folder / "all").mkdir()
    (folder / "all" / "a.mp4").symlink_to("../a.mp4")
    found = find_videos(folder)
    assert list(found) == ["a", "b"]
    assert found.refused == []


NAMES = (
    "-5KxAbCdEfG",
    "_Qz1AbCdEfG",
    "__z1AbCdEfG",
    "--help",
    "Fire Kitchen (1)",
    "Pasta & more! [dQw4w9WgXcQ]",
    "cr\u00eape",
    "\u53a8\u623f01",
    "\u0915\u093f\u091a\u0928",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_that_people_give(tmp_path, name, form):
    (tmp_path / f"{unicodedata.normalize(form, name)}.mp4").touch()
    found = find_videos(tmp_path)
    assert list(found) == [unicodedata.normalize("NFC", name)]
    assert found.refused == []


ODD = {
    "a colour": "\x1b[31mred",
    "a new line": "a\nb",
    "a turn of the text": "\u202efilm",
    "a slash in another form": "a\\b",
    "no text": os.fsdecode(b"caf\xe9"),
    "a pattern": "what?*",
    "a file of the store": "zarr.json",
    "too long": "x" * 230,
    "a mark before a letter": "\u0301a",
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_name_fails_alone(folder, kind):
    (folder / f"{ODD[kind]}.mp4").touch()
    found = find_videos(folder)
    assert list(found) == ["a", "b"]
    (refused,) = found.refused
    assert refused.path.name == f"{ODD[kind]}.mp4"
    assert "not a name for a video" in str(refused.error)
    assert "rename it" in str(refused.error)
    with pytest.raises(BadConfig, match=r"not a name for a video.*rename it"):
        find_videos(refused.path)


def test_two_videos_of_one_name_fail_alone(folder):
    (folder / "more" / "a.avi").touch()
    (folder / "more" / "a.mov").touch()
    found = find_videos(folder)
    assert list(found) == ["b"]
    assert [each.path.name for each in found.refused] == ["a.mp4", "a.avi", "a.mov"]
    for each in found.refused:
        assert "two videos are called 'a'" in str(each.error)
        assert f"{each.path} and" in str(each.error)
        assert "rename one" in str(each.error)


def test_composed_and_decomposed_names_are_one_name(tmp_path):
    for form in ("NFC", "NFD"):
        (tmp_path / (unicodedata.normalize(form, "cr\u00eape") + ".mp4")).touch()
    with pytest.raises(BadConfig, match="two videos are called 'cr\u00eape'"):
        find_videos(tmp_path)


@pytest.mark.parametrize("ending", ["jpg", "png", "tar"])
def test_frames_say_no_times_and_what_to_do(tmp_path, ending):
    for number in range(3):
        (tmp_path / f"frame_{number:010d}.{ending}").touch()
    with pytest.raises(NotFound, match=rf"no videos here.*3 \.{ending}.*--image-fps"):
        find_videos(tmp_path)


def test_a_folder_that_cannot_be_read_is_no_empty_folder(folder, monkeypatch):
    from antcache.extract.videos import finding

    def locked(path, original=finding.os.scandir):
        if path.name == "more":
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(finding.os, "scandir", locked)
    found = find_videos(folder)
    assert list(found) == ["a"]
    (refused,) = found.refused
    assert refused.path == folder / "more"
    assert "can't be read" in str(refused.error)


def run(*arguments):
    return CliRunner().invoke(cli, ["extract", *map(str, arguments)])


@pytest.mark.parametrize("store", ["s.zarr", "s.h5"])
def test_the_rest_is_extracted(tmp_path, video, vit, store):
    """Odd names fail alone, are listed with a remedy, and leave the list once they are renamed."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("-5K", "cr\u00eape", "odd?"):
        video.write(folder / f"{name}.mp4", video.steady(10))
    (folder / "notes.txt").touch()
    result = run(folder, tmp_path / store, "--backbone", vit)
    assert result.exit_code == 1, result.output
    assert "2 videos written" in result.stdout
    assert "1 failed" in result.stdout
    said = result.stderr.splitlines()
    failed, note = (line for line in said if line.startswith(("failed: ", "note: ")))
    assert failed.startswith("failed: ")
    assert "odd?.mp4: not a name for a video" in failed
    assert "rename it" in failed
    assert note == f"note: {folder}: passed over 1 .txt"
    assert Store.open(tmp_path / store).videos("rgb") == ["-5K", "cr\u00eape"]
    entry = json.loads((tmp_path / f"{store}.failures.jsonl").read_text())
    assert (entry["video"], entry["file"]) == ("odd?", str(folder / "odd?.mp4"))

    planned = run(folder, tmp_path / store, "--backbone", vit, "--dry-run")
    assert "Warning: will fail: " in planned.stderr

    (folder / "odd?.mp4").rename(folder / "even.mp4")
    result = run(folder, tmp_path / store, "--backbone", vit)
    assert result.exit_code == 0, result.output
    assert not (tmp_path / f"{store}.failures.jsonl").exists()


PLACES = {
    "a file": ("videos", b"cr\xeape.mp4", "s.zarr"),
    "a folder on the way": ("videos", b"lat\xea/what?.mp4", "s.zarr"),
    "the folder": ("vid\udceaos", b"what?.mp4", "s.zarr"),
    "a Zarr store": ("videos", b"what?.mp4", "s\udcea.zarr"),
    "an HDF5 store": ("videos", b"what?.mp4", "s\udcea.h5"),
}
"""Where a byte may stand that is no UTF-8: the folder, the odd file in it, and the store."""


@pytest.mark.parametrize("place", PLACES)
def test_a_name_that_is_no_text_fails_alone(tmp_path, video, vit, place):
    """It is listed as it is shown, run after run, and leaves the list once it is renamed."""
    name, file, store = PLACES[place]
    folder, target = tmp_path / name, tmp_path / store
    odd = folder / os.fsdecode(file)
    odd.parent.mkdir(parents=True)
    video.write(odd.parent / "good.mp4", video.steady(10))
    odd.write_bytes((odd.parent / "good.mp4").read_bytes())
    ledger = tmp_path / f"{store}.failures.jsonl"
    for written in (1, 0):
        result = run(folder, target, "--backbone", vit, "--json")
        assert result.exit_code == 1, result.output
        assert len(json.loads(result.stdout)["written"]) == written
        (line,) = [x for x in result.stderr.splitlines() if x.startswith("failed: ")]
        assert line.startswith(f"failed: {plain(odd)}: not a name for a video")
        assert "rename it" in line
        entry = json.loads(ledger.read_text("utf-8"))
        assert (entry["video"], entry["file"]) == (plain(odd.stem), plain(odd))
        json.dumps(entry, ensure_ascii=False).encode()  # whoever reads it can write it
        json.dumps(json.loads(result.stdout), ensure_ascii=False).encode()
    (entry,) = Ledger(target).read()
    assert plain(odd) in entry.error
    odd.rename(odd.with_name("even.mp4"))
    result = run(folder, target, "--backbone", vit)
    assert result.exit_code == 0, result.output
    assert not ledger.exists()
    assert Store.open(target).videos("rgb") == ["even", "good"]


def test_an_ending_that_is_no_text(tmp_path, video, vit):
    """A file that is named itself may end as it likes; its store can be read."""
    video.write(tmp_path / "a.mp4", video.steady(10))
    odd = (tmp_path / "a.mp4").rename(tmp_path / os.fsdecode(b"a.mp\xea"))
    result = run(odd, tmp_path / "s.zarr", "--backbone", vit)
    assert result.exit_code == 0, result.output
    (unit,) = (tmp_path / "s.zarr/features/rgb/a").glob("zarr.json")
    assert read_json(unit)["attributes"]["file"] == r"a.mp\udcea"


def test_all_that_is_refused_is_listed(tmp_path, video, vit):
    """Files of one name each have an entry, in the ledger too, until they are gone."""
    folder = tmp_path / "videos"
    (folder / "d").mkdir(parents=True)
    names = ("what?.mp4", "d/what?.mp4", "tri.mp4", "tri.mkv", "tri.mov")
    for name in names:
        (folder / name).touch()
    video.write(folder / "good.mp4", video.steady(10))
    for _ in range(2):
        result = run(folder, tmp_path / "s.zarr", "--backbone", vit)
        assert result.exit_code == 1, result.output
        assert "5 failed" in result.stdout
        listed = {entry.file for entry in Ledger(tmp_path / "s.zarr").read()}
        assert listed == {str(folder / name) for name in names}
    for name in names:
        (folder / name).unlink()
    video.write(folder / "tri.mp4", video.steady(10))
    assert run(folder, tmp_path / "s.zarr", "--backbone", vit).exit_code == 0
    assert Ledger(tmp_path / "s.zarr").read() == []


@pytest.fixture
def shut() -> Iterator[Path]:
    """A place where everybody may go, but for some folders in it, and two good videos."""
    place = Path(tempfile.mkdtemp())
    videos = place / "videos"
    for folder in ("secret/inside", "videos/P01", "videos/half/more", "videos/sub"):
        (place / folder).mkdir(parents=True)
    for file in ("secret/S.mp4", "videos/P01/x.mp4", "videos/half/h.mp4"):
        (place / file).touch()
    (videos / "S.mp4").symlink_to("../secret/S.mp4")
    (videos / "linked").symlink_to("../secret/inside")
    place.chmod(0o777)
    for folder, mode in (("secret", 0o700), ("videos/P01", 0o711), ("videos/half", 0o744)):
        (place / folder).chmod(mode)
    yield place
    for folder in place.rglob("*"):
        folder.is_dir() and folder.chmod(0o755)
    shutil.rmtree(place)


def test_what_may_not_be_looked_at_fails_alone(shut, video, vit):
    """As another user: it is named, by its own path, and blocks no video of its name elsewhere."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    for name in ("good", "sub/P01"):
        video.write(shut / "videos" / f"{name}.mp4", video.steady(10))
    backbone = load_backbone(vit, device="cpu")
    os.seteuid(65534)
    try:
        store = Store.create(shut / "s.zarr")
        report = extract(find_videos(shut / "videos"), store, backbone)
    finally:
        os.seteuid(0)
    assert sorted(report.written) == ["P01", "good"]
    named = {f.file: f for f in report.failed}
    expected = {"P01": "P01/", "half": "half/", "linked": "linked/", "S.mp4": "S"}
    assert {str(shut / "videos" / name) for name in expected} == set(named)
    for name, video_name in expected.items():
        failure = named[str(shut / "videos" / name)]
        assert failure.video == video_name
        assert "Permission denied" in failure.error
        assert failure.file in failure.error
    for folder in ("secret", "videos/P01", "videos/half"):
        (shut / folder).chmod(0o755)
    for file in ("secret/S.mp4", "videos/P01/x.mp4", "videos/half/h.mp4"):
        shutil.copy(shut / "videos/good.mp4", shut / file)
    assert not extract(find_videos(shut / "videos"), store, backbone).failed
    assert Ledger(store.path).read() == []


@pytest.mark.parametrize("ending", ["jpg", "PNG", "tar"])
def test_what_to_do_with_a_file_of_frames(tmp_path, video, vit, ending):
    """The same is said of one that is given itself as of a folder."""
    file = tmp_path / f"frame.{ending}"
    if ending == "tar":
        with tarfile.open(file, "w") as tar:
            tar.add(__file__, "frame_0000000001.jpg")
    else:
        Image.new("RGB", (64, 64)).save(file)
    result = run(file, tmp_path / "s.zarr", "--backbone", vit)
    assert result.exit_code == 2, result.output
    assert "(--image-fps) or a table of their times (--image-times)" in result.stderr
