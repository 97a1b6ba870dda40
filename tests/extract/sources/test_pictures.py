"""Numbered pictures in folders and tars are videos: the same rows as of the film they are from."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import tarfile
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from antcache.cli.main import cli
from antcache.errors import BadAnnotations, BadConfig, UnreadableVideo
from antcache.extract import ExtractConfig, SourceConfig, extract, find_videos, load_backbone
from antcache.extract.sources.decoding import decoded
from antcache.extract.sources.numbering import by_number
from antcache.extract.sources.picture_files import open_pictures
from antcache.extract.videos.containers import MAX_PIXELS
from antcache.extract.videos.decode import VideoReader, VideoSampler
from antcache.store import Store

RATE = SourceConfig(image_fps=25)


def picture(number: int, video: Any, size: tuple[int, int] = (48, 80)) -> Image.Image:
    return Image.fromarray(video.barcode(number, *size))


def write_pictures(folder: Path, numbers: Any, video: Any, form: str = "frame_{:010d}.png") -> Path:
    """A picture of each number, which it shows."""
    folder.mkdir(parents=True)
    for number in numbers:
        picture(number, video).save(folder / form.format(number))
    return folder


def packed(folder: Path, tar: Path, **options: Any) -> Path:
    with tarfile.open(tar, "w", **options) as file:
        file.add(folder, arcname=".")
    return tar


def one(path: Path, **settings: Any) -> Any:
    """The one video that is at a path."""
    (source,) = find_videos(path, SourceConfig(**({"image_fps": 25} | settings))).values()
    return source


def shown(source: Any, video: Any, rate: int = 25, **options: Any) -> tuple[list[int], Any]:
    """Numbers on the pictures at a rate, and what is known of the video then."""
    sampler = VideoSampler(source, rate=Fraction(rate), **options)
    return [video.number_on(seen) for _, seen in sampler], sampler.facts


@pytest.mark.parametrize(
    ("form", "first"),
    [
        ("frame_{:010d}.jpg", 1),
        ("img_{:05d}.jpg", 1),
        ("frame_{:05d}.png", 0),
        ("{:06d}.JPG", 1),
        ("P01_01-{}.jpeg", 7),
    ],
)
def test_the_number_in_the_name_says_the_time(tmp_path, video, form, first):
    numbers = range(first, first + 60)
    folder = write_pictures(tmp_path / "P01_01", numbers, video, form)
    (folder / "notes.txt").touch()
    (folder / "._frame_0000000009.png").touch()
    tar = packed(folder, tmp_path / "P01_02.tar", format=tarfile.USTAR_FORMAT)
    for path in (folder, tar):
        source = pickle.loads(pickle.dumps(one(path)))
        in_order = path == folder or ":0" in form
        assert source.duration_s() == (pytest.approx(59 / 25) if in_order else None)
        seen, facts = shown(source, video)
        assert seen == list(numbers)
        assert (facts.start_s, facts.last_s) == (first / 25, (first + 59) / 25)
        assert facts.num_frames == 60
        assert facts.about == {"image_fps": 25.0, "picture_sizes": ["80x48"]}


@pytest.mark.parametrize("first", [0, 1])
def test_pictures_of_a_film_give_its_rows(tmp_path, video, vit, first):
    """Lossless, as they are shown; the tar as the folder; times as annotations count."""
    videos = tmp_path / "videos"
    videos.mkdir()
    video.write(videos / "P01_01.mp4", video.steady(60, 30), time_base=Fraction(1, 30))
    folder = tmp_path / "frames" / "P01" / "P01_01"
    folder.mkdir(parents=True)
    for number, (_, film) in enumerate(VideoSampler(videos / "P01_01.mp4", rate=Fraction(30))):
        Image.fromarray(film).save(folder / f"frame_{number + first:010d}.png")
    (tmp_path / "tars").mkdir()
    packed(folder, tmp_path / "tars" / "P01_01.tar")
    backbone = load_backbone(vit, device="cpu")
    made = {}
    for name in ("videos", "frames", "tars"):
        config = SourceConfig(image_fps=None if name == "videos" else 30)
        store = Store.create(tmp_path / f"{name}.zarr")
        found = find_videos(tmp_path / name, config)
        report = extract(found, store, backbone, ExtractConfig(fps=7, dtype="float32"))
        assert report.written == ("P01_01",)
        made[name] = store.features("rgb", "P01_01")
        assert made[name].start_s == (0 if name == "videos" else first / 30)
        assert store.stream("rgb") == Store.open(tmp_path / "videos.zarr").stream("rgb")
    for name in ("frames", "tars"):
        np.testing.assert_array_equal(made[name].read(), made["videos"].read())


def test_the_command(tmp_path, video, vit):
    """As EPIC-KITCHENS spreads them; a failed one is named, and done when it is whole."""
    for name in ("P01/P01_01", "P01/P01_02"):
        write_pictures(tmp_path / "frames" / name, range(1, 61), video)
    broken = tmp_path / "frames/P01/P01_02/frame_0000000031.png"
    whole = broken.rename(tmp_path / "away.png")
    words = ["extract", tmp_path / "frames", tmp_path / "s.zarr", "--backbone", vit]
    refused = CliRunner().invoke(cli, [*map(str, words)])
    assert refused.exit_code == 2
    assert "give antcache extract the rate at which they were taken (--image-fps)" in refused.stderr
    run = CliRunner().invoke(cli, [*map(str, words), "--image-fps", "30"])
    assert run.exit_code == 1, run.output
    assert "1 videos written (8 rows" in run.stdout
    assert "P01_02: the picture 31 is missing: found 30, then 32 (--fill shows" in run.stderr
    plan = CliRunner().invoke(cli, [*map(str, words), "--image-fps", "30", "--dry-run"])
    assert "P01_02" in plan.stdout
    whole.rename(broken)
    run = CliRunner().invoke(cli, [*map(str, words), "--image-fps", "30"])
    assert run.exit_code == 0, run.output
    store = Store.open(tmp_path / "s.zarr")
    assert store.videos("rgb") == ["P01_01", "P01_02"]
    for option in (["--fill"], ["--image-fps", "30", "--image-times", "x.csv"]):
        run = CliRunner().invoke(cli, [*map(str, words), *option])
        assert run.exit_code == 2
        assert "--image-times" in run.stderr


def test_what_is_missing_is_an_error_or_filled_and_said(tmp_path, video):
    numbers = [n for n in range(1, 61) if n not in (10, 11, 40)]
    folder = write_pictures(tmp_path / "v", numbers, video)
    with pytest.raises(UnreadableVideo, match="v: the picture 10 is missing: found 9, then 12"):
        shown(one(folder), video)
    seen, facts = shown(one(folder, fill=True), video)
    before = [max(n for n in numbers if n <= k) for k in range(1, 61)]
    assert seen == before
    assert facts.about["filled_frames"] == 3
    assert facts.num_frames == 57
    for number in range(12, 40):
        (folder / f"frame_{number:010d}.png").unlink()
    with pytest.raises(UnreadableVideo, match=r"at most 1 s between.*9 at 0.36 s, then 41"):
        shown(one(folder, fill=True), video, max_gap_s=1.0)


def table(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["video,frame,seconds", *rows]))
    return path


def test_a_table_of_times(tmp_path, video):
    """Times are exact, of any distance; pictures and rows must be the same ones."""
    times = {n: f"{n * n / 100:.2f}" for n in range(1, 12)}
    folder = write_pictures(tmp_path / "v", times, video)
    rows = [f"v.mp4,{n},{t}" for n, t in times.items()]
    random.Random(0).shuffle(rows)
    listed = table(tmp_path / "t.csv", [*rows, "w,1,0"])
    source = one(folder, image_fps=None, image_times=listed)
    seen, facts = shown(pickle.loads(pickle.dumps(source)), video, rate=100)
    assert seen == [max(n for n in times if n * n <= k) for k in range(1, 122)]
    assert facts.about["image_times"] == "t.csv"
    assert source.duration_s() == pytest.approx(1.2)
    reader = VideoReader(source)
    assert len(list(reader.shown(lambda since, until: True))) == len(times)

    def refused(words: str, rows: list[str], **options: Any) -> None:
        source = one(folder, image_fps=None, image_times=table(listed, rows), **options)
        with pytest.raises(UnreadableVideo, match=words):
            shown(source, video)

    refused(r"a picture without a time: expected frame 11 in .*t\.csv", rows_to(10))
    refused("the picture 0 is missing: found the first is 1", rows_to(11, first=0), fill=True)
    more = rows_to(14)
    refused(r"the picture 12 is missing, and all after it: found 11, then none of 3", more)
    (folder / "frame_0000000005.png").unlink()
    refused("the picture 5 is missing: found 4, then 6", rows_to(11))
    source = one(folder, image_fps=None, image_times=table(listed, more), fill=True)
    seen, facts = shown(source, video, rate=1, allow_partial=True)
    assert facts.ended_early
    assert facts.about["filled_frames"] == 1


def rows_to(last: int, first: int = 1) -> list[str]:
    return [f"v,{n},{n / 10}" for n in range(first, last + 1)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["v,1,0", "v,1,1"], r"t\.csv:3: frame 1 stands twice"),
        (["v,2,5", "v,1,5"], r"t\.csv:2: frame 2 is seen no later"),
        (["v,1,-1"], "bad seconds"),
        (["v,1,nan"], "bad seconds"),
        (["v,1.5,1"], "bad frame"),
        ([",1,1"], "bad video"),
        ([], "no records"),
    ],
)
def test_a_table_that_is_wrong(tmp_path, video, rows, words):
    folder = write_pictures(tmp_path / "v", [1], video)
    with pytest.raises(BadAnnotations, match=words):
        one(folder, image_fps=None, image_times=table(tmp_path / "t.csv", rows))


def test_which_folders_are_videos(tmp_path, video):
    for name in ("P01/P01_01", "P01/rgb/P01_02", "twice/P01_01"):
        write_pictures(tmp_path / "f" / name, [1, 2], video)
    packed(tmp_path / "f/P01/P01_01", tmp_path / "f/P02_01.TAR")
    video.write(tmp_path / "f/film.mp4", video.steady(10))
    picture(1, video).save(tmp_path / "f/cover.jpg")
    (tmp_path / "f/P01/P01_01/deep").mkdir()
    found = find_videos(tmp_path / "f", RATE)
    assert list(found) == ["P01_02", "P02_01", "film"]
    assert {each.name for each in found.refused} == {"P01_01"}
    assert "two videos are called 'P01_01'" in str(found.refused[0].error)
    assert found.passed_over.endswith("passed over 1 .jpg")
    assert list(find_videos(tmp_path / "f/P01/rgb/P01_02", RATE)) == ["P01_02"]
    assert find_videos(tmp_path / "f/P02_01.TAR", RATE).is_one
    with pytest.raises(BadConfig, match="one picture is no video"):
        find_videos(tmp_path / "f/cover.jpg", RATE)
    times = SourceConfig(image_times=table(tmp_path / "t.csv", ["P02_01,1,0", "P02_01,2,1"]))
    found = find_videos(tmp_path / "f", times)
    assert list(found) == ["P02_01", "film"]
    assert any("no times of this video" in str(each.error) for each in found.refused)
    assert list(find_videos(tmp_path / "f")) == ["film"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["frame_1.jpg", "frame_01.png"], "two pictures of the number 1: found frame_1.jpg and"),
        (["u/frame_1.jpg", "v/frame_1.jpg"], "two pictures of the number 1: found u/frame_1.jpg"),
        (["rgb_1.jpg", "flow_2.jpg"], "several series: found rgb_1.jpg and flow_2.jpg"),
        (["cover.jpg", ".frame_1.jpg", "frame_1.txt", "frame_\u0661.jpg"], "no numbered pictures"),
        ([f"frame_{'9' * 30}.jpg".replace("frame_", "frame")], "no numbered pictures"),
    ],
)
def test_names_that_do_not_say_which_is_which(names, words):
    with pytest.raises(UnreadableVideo, match=words):
        by_number([(name, name) for name in names], Path("v"))


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG that states a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8))
GREY = RGB.convert("L")
DEEP = np.random.default_rng(1).integers(0, 1 << 16, (6, 9)).astype(np.uint16)


def test_modes_that_are_read():
    """As they are shown: upright, 8 bits, RGB."""
    rgb = np.asarray(RGB)
    grey = np.repeat(np.asarray(GREY)[..., None], 3, axis=2)
    opaque = RGB.convert("RGBA")
    palette = RGB.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    cases = {
        "RGB": (saved(RGB, "PNG"), rgb),
        "grey": (saved(GREY, "PNG"), grey),
        "opaque": (saved(opaque, "PNG"), rgb),
        "palette": (saved(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "black and white": (
            saved(GREY.convert("1"), "PNG"),
            np.asarray(GREY.convert("1").convert("RGB")),
        ),
        "16 bits": (saved(Image.fromarray(DEEP), "PNG"), np.repeat((DEEP >> 8)[..., None], 3, 2)),
        "turned": (saved(RGB, "PNG", exif=exif), np.rot90(rgb, -1)),
        "turned JPEG": (
            saved(GREY, "JPEG", exif=exif, quality=95),
            np.rot90(
                np.asarray(Image.open(io.BytesIO(saved(GREY, "JPEG", quality=95))).convert("RGB")),
                -1,
            ),
        ),
    }
    for name, (data, expected) in cases.items():
        found = decoded(data, "x.png")
        assert found.dtype == np.uint8, name
        np.testing.assert_array_equal(found, expected, err_msg=name)


REFUSED = {
    "no picture": (b"GIF89a", "not a picture: expected a JPEG or PNG, found 6 bytes"),
    "nothing": (b"", "not a picture"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "for print": (saved(RGB.convert("CMYK"), "JPEG"), "colours for print"),
    "transparent": (
        saved(RGB.convert("LA").convert("RGBA").rotate(9), "PNG"),
        "transparent pixels",
    ),
    "a transparent colour": (
        saved(GREY, "PNG", transparency=int(np.asarray(GREY)[0, 0])),
        "transp",
    ),
    "cut off": (saved(RGB.resize((90, 60)), "JPEG")[:-300], "truncated"),
    "a cut off PNG": (saved(RGB, "PNG")[:-40], "can't be read"),
    "a bomb": (png(40_000, 40_000), f"at most {MAX_PIXELS} pixels.*40000 x 40000"),
    "a greater bomb": (png(2**31 - 1, 2**31 - 1), "impossible size"),
    "a strip": (png(60, 1), "impossible size"),
    "no pixels": (png(5, 5), "can't be read"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_pictures_that_are_refused(kind, recwarn):
    data, words = REFUSED[kind]
    with pytest.raises(UnreadableVideo, match=f"^v: x.png: .*{words}"):
        decoded(data, "v: x.png")
    assert not recwarn.list


def test_damaged_pictures_are_errors_of_ours():
    """Whatever bytes change: a picture, or one line."""
    random_, said = np.random.default_rng(0), set()
    for whole in (saved(RGB, "PNG"), saved(RGB, "JPEG"), saved(RGB.quantize(8), "PNG")):
        for _ in range(300):
            data = bytearray(whole)
            for at in random_.integers(0, len(data), 3):
                data[at] = random_.integers(256)
            try:
                assert decoded(bytes(data), "x").shape[2] == 3
            except UnreadableVideo as error:
                said.add("\n" in str(error))
    assert said == {False}


def test_a_picture_that_cannot_be_read_fails_when_it_is_needed(tmp_path, video):
    folder = write_pictures(tmp_path / "v", range(26), video)
    (folder / "frame_0000000013.png").write_bytes(b"x")
    assert shown(one(folder), video, rate=5)[0] == [0, 5, 10, 15, 20, 25]
    with pytest.raises(UnreadableVideo, match=r"frame_0000000013\.png: not a picture"):
        shown(one(folder), video)


def test_pictures_of_several_sizes_are_said(tmp_path, video):
    folder = write_pictures(tmp_path / "v", range(3), video)
    picture(2, video, (96, 160)).save(folder / "frame_0000000002.png")
    seen, facts = shown(one(folder), video)
    assert seen == [0, 1, 2]
    assert facts.about["picture_sizes"] == ["80x48", "160x96"]


def a_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


HOSTILE = {
    "a link": (member("frame_1.jpg", tarfile.SYMTYPE, "/etc/passwd"), "a link in a tar"),
    "a hard link": (member("frame_1.jpg", tarfile.LNKTYPE, "frame_2.jpg"), "a link in a tar"),
    "a device": (member("frame_1.jpg", tarfile.CHRTYPE), "a device or pipe in a tar"),
    "a pipe": (member("frame_1.jpg", tarfile.FIFOTYPE), "a device or pipe in a tar"),
    "holes": (member("frame_1.jpg", tarfile.GNUTYPE_SPARSE), "a file with holes in a tar"),
    "a root": (member("/etc/frame_1.jpg"), "a path out of the archive"),
    "a way up": (member("a/../../frame_1.jpg"), "a path out of the archive"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_may_not_be_in_a_tar(tmp_path, kind):
    hostile, words = HOSTILE[kind]
    tar = a_tar(tmp_path / "v.tar", (member("frame_0.jpg"), b"x"), (hostile, b""))
    with pytest.raises(UnreadableVideo, match=rf"v\.tar: {words}"):
        open_pictures(tar)


def test_long_names_of_each_form(tmp_path, video):
    """What stands in headers behind headers counts."""
    data = saved(picture(5, video), "PNG")
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = "d\u00e9ep/" * 60 + "frame_0000000005.png"
        made = member(name)
        made.pax_headers = {"comment": "x" * 9000}
        files = open_pictures(a_tar(tmp_path / "v.tar", (made, data), format=form))
        assert list(files.numbers) == [5]
        assert files.read(5) == (data, f"{tmp_path / 'v.tar'}: {name}")


def test_tars_that_are_none(tmp_path, video):
    folder = write_pictures(tmp_path / "v", range(3), video)
    whole = packed(folder, tmp_path / "v.tar").read_bytes()
    packed_tar = tmp_path / "z.tar"
    with tarfile.open(packed_tar, "w:gz") as tar:
        tar.add(folder, ".")
    sparse = member("frame_1.jpg")
    sparse.pax_headers = {"GNU.sparse.major": "1"}
    loop = member("frame_1.jpg").tobuf().replace(b"00000000000\0", b"\xff" * 11 + b"\0", 1)
    cases = {
        "z": (packed_tar.read_bytes(), r"not a plain tar: .*unpack it, if it is compressed"),
        "e": (b"", "not a plain tar: found empty file"),
        "m": (whole[: whole.rindex(b"ustar") + 255 + 512], "breaks off"),
        "c": (whole[:2000], "breaks off"),
        "n": (whole[:1024] + b"x" * 4096, "not a plain tar|breaks off or is damaged"),
        "s": (
            a_tar(tmp_path / "s.tar", (sparse, b"x"), format=tarfile.PAX_FORMAT).read_bytes(),
            "a file with holes",
        ),
        "l": (resummed(loop), "breaks off|not a plain tar"),
        "o": (a_tar(tmp_path / "o.tar", (member("x.txt"), b"x")).read_bytes(), "no numbered"),
    }
    for name, (data, words) in cases.items():
        path = tmp_path / f"{name}.tar"
        path.write_bytes(data)
        with pytest.raises(UnreadableVideo, match=words):
            open_pictures(path)
    (tmp_path / "p.tar").symlink_to("/dev/zero")
    with pytest.raises(UnreadableVideo, match="not a file"):
        open_pictures(tmp_path / "p.tar")


def resummed(head: bytes) -> bytes:
    """A header whose checksum is right again."""
    blank = head[:148] + b" " * 8 + head[156:512]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:] + head[512:]


def test_damaged_tars_are_errors_of_ours(tmp_path, video):
    """Whatever bytes of the headers change: numbers, or one line; and it ends."""
    folder = write_pictures(tmp_path / "v", range(3), video)
    long = member("d/" * 80 + "frame_3.png")
    tar = tmp_path / "v.tar"
    packed(folder, tar, format=tarfile.PAX_FORMAT)
    with tarfile.open(tar, "a", format=tarfile.GNU_FORMAT) as file:
        file.addfile(long)
    whole = tar.read_bytes()
    heads = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    random_, said = np.random.default_rng(0), set()
    for _ in range(200):
        data = bytearray(whole)
        at = int(random_.choice(heads))
        field = int(random_.choice([100, 124, 135, 156, 345]))
        data[at + field] = int(random_.integers(256))
        data[at : at + 512] = resummed(bytes(data[at : at + 512]))
        tar.write_bytes(data)
        try:
            assert list(open_pictures(tar).numbers)
        except UnreadableVideo as error:
            said.add("\n" in str(error))
    assert said == {False}


def test_what_is_no_file_is_not_waited_for(tmp_path, video):
    folder = write_pictures(tmp_path / "v", [0], video)
    os.mkfifo(folder / "frame_0000000001.png")
    with pytest.raises(UnreadableVideo, match=r"frame_0000000001\.png: not a file"):
        shown(one(folder), video)
    (folder / "frame_0000000001.png").unlink()
    (folder / "frame_0000000001.png").symlink_to("gone.png")
    with pytest.raises(UnreadableVideo, match=r"frame_0000000001\.png: can't be read"):
        shown(one(folder), video)
