"""Several processes that know nothing of one another each do a part of the videos."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from colours_text import COLOURS
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.cli.main import cli
from antcache.errors import BadConfig
from antcache.extract import VideoShard, find_videos
from antcache.extract.videos.finding import refused_of
from antcache.store import Store


@pytest.fixture
def folder(tmp_path, video, monkeypatch):
    """Six short videos, one file that can have no name in a store, and a backbone of one's own."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(6):
        video.write(videos / f"v{number}.mp4", video.steady(10 + 5 * number), codec="mpeg4")
    (tmp_path / "colours_of_shards.py").write_text(COLOURS)
    monkeypatch.chdir(tmp_path)
    return videos


def run(*arguments):
    command = ["extract", "videos", *map(str, arguments), "--backbone", "colours_of_shards:Colours"]
    return CliRunner().invoke(cli, command)


@settings(max_examples=30)
@given(st.sets(st.text(min_size=1, max_size=4), max_size=30), st.integers(1, 9), st.randoms())
def test_the_parts_are_all_videos_each_once(names, count, random):
    shuffled = sorted(names)
    random.shuffle(shuffled)
    parts = [VideoShard(number=i + 1, count=count).part(shuffled) for i in range(count)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == [VideoShard(number=i + 1, count=count).part(names) for i in range(count)]


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "a/b", "1", "1/0", "-1/4", "1/4/4", "1.0/4", "", "²/4"]
)
def test_what_is_no_part_is_refused(text, folder, tmp_path):
    with pytest.raises(BadConfig, match=r"impossible shard: expected i/n"):
        VideoShard.parse(text)
    if text in ("0/4", "5/4", "a/b"):
        result = run("s.zarr", f"--shard={text}")
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: impossible shard")
        assert f"found '{text}'" in result.stderr
        assert not (tmp_path / "s.zarr").exists()
    with pytest.raises(BadConfig, match="found 5/4"):
        VideoShard(number=5, count=4)


def test_a_part_stays_the_same_whatever_is_done(folder, tmp_path):
    """Plan and report say which it is; what cannot be read is reported by one process."""
    (folder / "v3.mp4").write_text("no film")
    for name in ("a|b.mp4", "c|d.mp4"):
        (folder / name).write_text("no name")
    parts, refused = [], []
    for number in (1, 2, 3):
        shard = f"--shard={number}/3"
        planned = json.loads(run("s.zarr", shard, "--dry-run", "--json").stdout)
        said = run("s.zarr", shard, "--dry-run").stdout
        assert f"part {number}/3 of the videos" in said
        result = run("s.zarr", shard, "--json")
        assert result.exit_code == (1 if number < 3 else 0), result.output
        report = json.loads(result.stdout)
        assert report["shard"] == planned["shard"] == f"{number}/3"
        parts.append([*report["written"], *(f["video"] for f in report["failed"])])
        assert not report["skipped"]
        refused += refused_of(find_videos(folder), VideoShard(number=number, count=3))
    assert [[name for name in part if "|" not in name] for part in parts] == [
        ["v0", "v3"],
        ["v1", "v4"],
        ["v2", "v5"],
    ]
    assert sorted(each.name for each in refused) == ["a|b", "c|d"]
    assert sum(map(len, parts)) == 8
    assert "part 1/3, stream rgb: 0 videos written" in run("s.zarr", "--shard=1/3").stdout
    nothing = json.loads(run("s.zarr", "--shard=9/9", "--json").stdout)
    assert (nothing["written"], nothing["skipped"], nothing["failed"]) == ([], [], [])


def script(repo: Path) -> str:
    """The script of a Slurm array, as the page has it."""
    page = (repo / "docs/clusters.md").read_text("utf-8")
    (found,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", page, re.DOTALL)
    return found


@pytest.mark.slow
def test_an_array_shares_the_videos_at_a_url(folder, tmp_path, repo, s3_server, monkeypatch):
    """The page's script under plain bash, at once: each video is written once, as by one. Two
    parts instead of four, as each starts Python."""
    place = f"kitchen/{uuid.uuid4().hex}/s.zarr"
    text = script(repo)
    for word, instead in (
        ("facebook/dinov2-small", "colours_of_shards:Colours"),
        ("VIDEOS", "videos"),
        ("STORE", f"s3://{place}"),
        ("--array=1-4", "--array=1-2"),
        ('/4"', '/2"'),
    ):
        assert word in text
        text = text.replace(word, instead)
    (tmp_path / "extract.sh").write_text(text)
    programs = Path(sys.executable).parent
    environment = os.environ | s3_server.environment() | {"OMP_NUM_THREADS": "1"}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}"}
    before = len(s3_server.written)
    numbers = range(1, 1 + int(re.search(r"--array=1-(\d+)", text)[1]))
    tasks = [
        subprocess.Popen(
            ["bash", "extract.sh"],
            env=environment | {"SLURM_ARRAY_TASK_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in numbers
    ]
    said = [task.communicate(timeout=300)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0] * 2, said
    for number, each in zip(numbers, said, strict=True):
        assert f"part {number}/2, stream rgb: 3 videos written" in each
    assert run("alone.zarr").exit_code == 0
    alone = Store.open("alone.zarr")
    shared = Store.open(f"s3://{place}", storage_options=s3_server.options)
    assert shared.videos("rgb") == alone.videos("rgb") == [f"v{i}" for i in range(6)]
    written = s3_server.written[before:]
    for name in alone.videos("rgb"):
        assert shared.backend.damaged_parts(f"features/rgb/{name}") == []
        ours, theirs = (s.features("rgb", name).read() for s in (shared, alone))
        np.testing.assert_array_equal(ours, theirs)
        for ending in ("zarr.json", "rows/zarr.json", "rows/c/0/0"):
            assert written.count(f"{place}/features/rgb/{name}/{ending}") == 1
        assert written.count(f"{place}/.staging/features,rgb,{name}.work") == 1
    assert shared.backend.files.sizes(".staging") == {}
