"""Several files that are one recording: one axis of time, and nothing guessed at a seam."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import BadAnnotations, BadConfig, UnreadableVideo
from antcache.extract import ExtractConfig, SourceConfig, extract, find_videos, load_backbone
from antcache.extract.sources.chapters import Chapters
from antcache.extract.videos.decode import VideoSampler, source_of
from antcache.store import Store

GOPRO = SourceConfig(chapters="gopro")


def cut(whole: Path, at: int, parts: tuple[Path, Path]) -> None:
    """Copy the packets of a film into two files, the second from the frame `at` on, a key frame."""
    with av.open(str(whole)) as source:
        stream = source.streams.video[0]
        begin = at / Fraction(stream.average_rate)
        packets = [p for p in source.demux(stream) if p.size]
        for number, path in enumerate(parts):
            with av.open(str(path), "w") as target:
                copy = target.add_stream_from_template(stream)
                for packet in packets:
                    if (packet.pts * packet.time_base >= begin) == bool(number):
                        shift = round(number * begin / packet.time_base)
                        moved = av.Packet(bytes(packet))
                        moved.time_base, moved.stream = packet.time_base, copy
                        moved.pts, moved.dts = packet.pts - shift, packet.dts - shift
                        moved.is_keyframe, moved.duration = packet.is_keyframe, packet.duration
                        target.mux(moved)


def seen(source: Any, video: Any, rate: Fraction | int = 25, **options: Any) -> tuple[Any, Any]:
    sampler = VideoSampler(source, rate=Fraction(rate), **options)
    return [video.number_on(picture) for _, picture in sampler], sampler.facts


@pytest.mark.parametrize("b_frames", [0, 2])
def test_two_chapters_are_the_whole(tmp_path, video, vit, b_frames):
    """Cut at a key frame: the same pictures, times and rows; by names, and by a table."""
    folder = tmp_path / "videos"
    folder.mkdir()
    fps = Fraction(30000, 1001)
    times = [i / fps for i in range(96)]
    form: dict[str, Any] = {"b_frames": b_frames, "time_base": 1 / (4 * fps)}
    whole = video.write(tmp_path / "whole.mp4", times, **form)
    cut(whole, 48, (folder / "GX010123.MP4", folder / "GX020123.MP4"))
    (tmp_path / "c.csv").write_text("video,file\nkitchen,GX010123.MP4\nkitchen,GX020123.MP4\n")
    backbone = load_backbone(vit, device="cpu")
    config = ExtractConfig(fps=7, dtype="float32")
    store = Store.create(tmp_path / "s.zarr")
    for settings in (GOPRO, SourceConfig(chapters=tmp_path / "c.csv")):
        found = find_videos(folder, settings)
        (source,) = pickle.loads(pickle.dumps(list(found.values())))
        assert source.duration_s() == pytest.approx(96 / fps, abs=0.1)
        numbers, facts = seen(source, video, fps)
        assert numbers == seen(whole, video, fps)[0]
        assert facts.last_s == pytest.approx(float(times[-1]), abs=1e-12)
        numbers, facts = seen(source, video, 1)
        assert numbers == seen(whole, video, 1)[0]
        assert facts.unneeded_frames > 30
        extract(found, store, backbone, config)
    extract(find_videos(whole), store, backbone, config)
    assert store.videos("rgb") == ["GX010123", "kitchen", "whole"]
    rows = [store.features("rgb", name).read() for name in store.videos("rgb")]
    for each in rows[:2]:
        np.testing.assert_array_equal(each, rows[2])
    said = store.backend.open("features/rgb/kitchen")[1]
    assert said["chapters"] == ["GX010123.MP4", "GX020123.MP4"]
    assert said["chapter_starts_s"] == pytest.approx([0, 48 / fps])
    assert (said["chapter_gaps_s"], said["chapter_sizes"]) == ([0, 0], ["80x48", "80x48"])
    assert (said["file"], said["frames"]) == ("GX010123.MP4", 96)


def test_names_that_gopro_gives(tmp_path, video):
    groups = {
        "GX010001": ["GX010001.MP4", "GX020001.MP4", "GX030001.MP4"],
        "GH010001": ["GH010001.MP4", "gh020001.mp4"],
        "GOPR0007": ["GOPR0007.MP4", "GP010007.MP4", "GP020007.MP4"],
        "GX010009": ["GX010009.MP4"],
        "GX01000": ["GX01000.MP4"],
        "other": ["other.mp4"],
    }
    lost = ["GX020005.MP4", "GX010006.MP4", "GX030006.MP4", "GP010008.MP4"]
    for name in (*lost, *(file for files in groups.values() for file in files)):
        (tmp_path / name).touch()
    found = find_videos(tmp_path, GOPRO)
    joined = {n: v.parts for n, v in found.items() if isinstance(v, Chapters)}
    chapters = {n: [each.path.name for each in joined.get(n, ())] for n in found}
    assert chapters == {n: files if len(files) > 1 else [] for n, files in groups.items()}
    refused = {each.name: str(each.error) for each in found.refused}
    assert refused.keys() == {"GX020005", "GX010006", "GP010008"}
    assert "chapter GX010005 is missing: found GX020005.MP4" in refused["GX020005"]
    assert "chapter GX020006 is missing: found GX010006.MP4, GX030006" in refused["GX010006"]
    assert "chapter GOPR0008 is missing" in refused["GP010008"]
    assert len(find_videos(tmp_path)) == 15


def test_a_table_says_when_chapters_begin(tmp_path, video):
    """Files of one name in two folders, a pause, another size, and a file that stays alone."""
    for folder, size in (("a", (48, 80)), ("b", (96, 160))):
        (tmp_path / "v" / folder).mkdir(parents=True)
        video.write(tmp_path / "v" / folder / "1.mp4", video.steady(25), size=size)
    video.write(tmp_path / "v" / "alone.mp4", video.steady(5))
    table = tmp_path / "c.csv"
    table.write_text("video,file,start_s\nday,a/1.mp4,\nday,b/1.mp4,2.5\n")
    found = find_videos(tmp_path / "v", SourceConfig(chapters=table))
    assert (list(found), found.refused) == (["alone", "day"], [])
    numbers, facts = seen(found["day"], video, max_gap_s=2)
    assert numbers == [*range(25), *([24] * 38), *range(25)][: len(numbers)]
    assert facts.about["chapter_gaps_s"] == [0, 1.5]
    assert facts.about["chapter_sizes"] == ["80x48", "160x96"]
    with pytest.raises(UnreadableVideo, match=r"b/1.mp4: a chapter begins too long after.*--max-"):
        seen(found["day"], video, max_gap_s=1)
    table.write_text("video,file,start_s\nday,a/1.mp4,\nday,b/1.mp4,0.96\n")
    found = find_videos(tmp_path / "v", SourceConfig(chapters=table))
    with pytest.raises(UnreadableVideo, match=r"chapters overlap: found 0.960 s, then 0.960 s"):
        seen(found["day"], video)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("day,b.mp4,", r"c\.csv:3: a file that is not there.*a\.mp4, c\.mp4, found b\.mp4"),
        ("day,a.mp4,", r"c\.csv:3: a file that stands twice"),
        ("day,../v/a.mp4,", "a file that is not there"),
        ("day,c.mp4,x", "bad start_s: expected seconds"),
        (",c.mp4,", "bad video"),
    ],
)
def test_a_table_of_chapters_that_is_wrong(tmp_path, rows, words):
    (tmp_path / "v").mkdir()
    for name in ("a", "c"):
        (tmp_path / "v" / f"{name}.mp4").touch()
    table = tmp_path / "c.csv"
    table.write_text(f"video,file,start_s\nday,a.mp4,\n{rows}\n")
    with pytest.raises(BadAnnotations, match=words):
        find_videos(tmp_path / "v", SourceConfig(chapters=table))
    table.write_text("video,file\no?o,a.mp4\no?o,c.mp4\n")
    with pytest.raises(BadConfig, match="not a name for a video"):
        find_videos(tmp_path / "v", SourceConfig(chapters=table))


def test_nobody_knows_when_what_follows_begins(tmp_path, video):
    """After a chapter with lost frames, one that breaks off, or one of a single frame."""
    folder = tmp_path / "v"
    folder.mkdir()
    second = folder / "GX020001.MP4"
    first = video.write(folder / "GX010001.MP4", video.steady(50), muxer={"movflags": "faststart"})
    video.write(second, video.steady(25))
    (recording,) = find_videos(folder, GOPRO).values()
    assert len(seen(recording, video)[0]) == 75
    whole = first.read_bytes()
    with av.open(str(first)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    pos, size = places[40]
    first.write_bytes(whole[:pos] + bytes(size) + whole[pos + size :])
    words = r"GX020001\.MP4: nobody knows when this chapter begins.*start_s"
    with pytest.raises(UnreadableVideo, match=words):
        seen(recording, video)
    table = tmp_path / "c.csv"
    table.write_text("video,file,start_s\nday,GX010001.MP4,\nday,GX020001.MP4,2\n")
    (stated,) = find_videos(folder, SourceConfig(chapters=table)).values()
    assert seen(stated, video)[0][-25:] == list(range(25))
    first.write_bytes(whole[: places[45][0]])
    with pytest.raises(UnreadableVideo, match=r"GX010001\.MP4: it breaks off"):
        seen(recording, video, max_gap_s=0.15)
    with pytest.raises(UnreadableVideo, match=words):
        seen(recording, video, max_gap_s=0.15, allow_partial=True)
    assert seen(stated, video, allow_partial=True)[0][-25:] == list(range(25))
    video.write(first, video.steady(1))
    with pytest.raises(UnreadableVideo, match=words):
        seen(recording, video)


def test_the_command_with_chapters(tmp_path, video, vit):
    folder = tmp_path / "v"
    folder.mkdir()
    for name in ("GOPR0001", "GP010001", "GX020005"):
        video.write(folder / f"{name}.MP4", video.steady(25))
    words = [folder, tmp_path / "s.zarr", "--backbone", vit, "--chapters", "gopro"]
    run = CliRunner().invoke(cli, ["extract", *map(str, words)])
    assert run.exit_code == 1, run.output
    assert "1 videos written (8 rows" in run.stdout
    assert "chapter GX010005 is missing" in run.stderr


@pytest.mark.parametrize("starts", [("", ""), ("1", "3.5")])
def test_frames_that_nobody_needs_are_not_decoded(tmp_path, video, starts):
    """The same pictures as when all are, at any rate, on an axis that is moved."""
    for name in ("1", "2"):
        video.write(tmp_path / f"{name}.mp4", video.steady(50), b_frames=2)
    table = tmp_path / "c.csv"
    rows = [f"day,{name}.mp4,{start}" for name, start in zip("12", starts, strict=True)]
    table.write_text("\n".join(["video,file,start_s", *rows]))
    (source,) = find_videos(tmp_path, SourceConfig(chapters=table)).values()
    all_of_them, facts = seen(source, video, 25)
    assert facts.unneeded_frames == 0
    some, facts = seen(source, video, Fraction(25, 6))
    assert some == all_of_them[::6]
    assert facts.unneeded_frames > 20
    assert facts.num_frames == 100
    for wish in ("cpu", "nvdec"):
        decoded = source_of(source, wish)
        assert {p.source.decoder for p in decoded.parts} == {wish}
        about = decoded.frames(max_gap_s=2, allow_partial=False).facts.about
        assert about.get("decoder", "cpu") == wish
