from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.extract import ExtractConfig, extract, find_videos, load_backbone
from antcache.store import Store


def run(*arguments):
    return CliRunner().invoke(cli, ["extract", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path, video):
    videos = tmp_path / "videos"
    videos.mkdir()
    video.write(videos / "a.mp4", video.steady(50))
    video.write(videos / "b.mp4", video.steady(75))
    return videos


def test_equals_the_library(tmp_path, folder, vit):
    """The command and the import give equal arrays and equal streams."""
    result = run(folder, tmp_path / "cli.zarr", "--backbone", vit, "--fps", 5, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "2 videos written (25 rows" in result.stdout
    assert "0 already there, 0 failed" in result.stdout
    library = Store.create(tmp_path / "library.zarr")
    backbone = load_backbone(vit, device="cpu")
    extract(find_videos(folder), library, backbone, ExtractConfig(fps=5))
    command = Store.open(tmp_path / "cli.zarr")
    assert command.stream("rgb") == library.stream("rgb")
    assert command.videos("rgb") == library.videos("rgb") == ["a", "b"]
    for name in ("a", "b"):
        ours, theirs = (s.features("rgb", name).read() for s in (command, library))
        assert ours.dtype == np.float16
        np.testing.assert_array_equal(ours, theirs)
    assert "a: 10 rows from 50 frames" in (tmp_path / "cli.zarr.log").read_text()


def test_json_and_resume(tmp_path, folder, vit):
    first = run(folder, tmp_path / "s.h5", "--backbone", vit, "--json")
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert (report["written"], report["skipped"], report["failed"]) == (["a", "b"], [], [])
    again = json.loads(run(folder, tmp_path / "s.h5", "--backbone", vit, "--json").stdout)
    assert (again["written"], again["skipped"], again["rows"]) == ([], ["a", "b"], 0)


@pytest.mark.parametrize(
    ("decoders", "said", "looks"), [(2, None, 0), (2, "ACTIVE", 30_000_000_000), (1, None, 10_000)]
)
def test_threads_that_wait_leave_their_core_to_decoders(tmp_path, folder, decoders, said, looks):
    """GNU's OpenMP says how often they look for work before they sleep, as PyTorch is loaded;
    what comes after that, a model, isn't there."""
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE"}
    environment |= {} if said is None else {"OMP_WAIT_POLICY": said}
    command = ["extract", folder, tmp_path / "s.zarr", "--backbone", "none:None"]
    command += ["--decoders", decoders]
    done = subprocess.run(
        [sys.executable, "-m", "antcache", *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "none" in done.stderr.splitlines()[-1]
    found = set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr))
    if not found:
        pytest.skip("PyTorch has another OpenMP")
    assert found == {str(looks)}


def test_dry_run_writes_nothing(tmp_path, folder, vit):
    store = tmp_path / "s.zarr"
    before = sorted(tmp_path.rglob("*"))
    result = run(folder, store, "--backbone", vit, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    lengths = pytest.approx({"a": 2.0, "b": 3.0}, abs=0.02)
    about = {"row_bytes": 32 * 2, "rows": {}, "unlabelled": [], "outdated": {}}
    about |= {"changed": {}, "shard": None}
    assert plan == {"done": [], "to_do": lengths, "failed_before": {}, **about}
    assert sorted(tmp_path.rglob("*")) == before

    run(folder / "a.mp4", store, "--backbone", vit)
    (folder / "c.mp4").write_text("no film")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    result = run(folder, store, "--backbone", vit, "--dry-run")
    names = [words[0] for line in result.stdout.splitlines() if (words := line.split())]
    assert names[-4:] == ["a", "b", "c", "64"]  # bytes a row
    assert "unknown" in result.stdout
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    result = run(folder, store, "--backbone", vit, "--dry-run", "--fps", 8)
    assert result.exit_code == 2
    assert "fps: 4.0 -> 8.0" in result.stderr


def test_failed_videos(tmp_path, folder, vit):
    (folder / "c.mp4").write_text("no film")
    result = run(folder, tmp_path / "s.zarr", "--backbone", vit)
    assert result.exit_code == 1
    assert "2 videos written" in result.stdout
    assert "1 failed" in result.stdout
    assert result.stderr.count("failed: ") == 1
    assert "c.mp4: not a video that can be opened" in result.stderr
    assert (tmp_path / "s.zarr.failures.jsonl").exists()
    result = run(folder / "c.mp4", tmp_path / "s.zarr", "--backbone", vit)
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "s.zarr", "--backbone", "VIT"], "no such file or folder"),
        (["empty", "s.zarr", "--backbone", "VIT"], "no videos here"),
        (["videos", "s.zarr", "--backbone", "./nothing"], "no such folder"),
        (["videos", "s.zarr", "--backbone", "VIT", "--fps", "0"], "impossible --fps"),
        (
            ["videos", "s.zarr", "--backbone", "VIT", "--dtype", "float64"],
            "not one of 'float16', 'float32', 'int8'",
        ),
        (["videos", "s.zarr", "--backbone", "VIT", "--dtype", "int8"], "--dtype int8 only with"),
        (
            ["videos", "s.zarr", "--backbone", "VIT", "--tokens", "4x4"],
            "impossible --tokens: expected full, or",
        ),
        (["videos", "s.zarr", "--backbone", "VIT", "--tokens", "1x3x4"], "can't be pooled"),
        (
            ["videos", "s.zarr", "--backbone", "VIT", "--tokens", "full", "--future", "1"],
            "--future is for backbones that predict",
        ),
        (
            ["videos", "s.zarr", "--backbone", "VIT", "--tokens", "full", "--gaps", "1"],
            "--gaps only with --at windows",
        ),
        (
            ["videos", "s.zarr", "--backbone", "VIT", "--tokens", "full", "--at", "windows"],
            "rows at windows need labels in the store",
        ),
        (["videos", "s.zarr", "--backbone", "VIT", "--device", "warp"], "no such device"),
        (["videos", "s.zarr", "--backbone", "VIT", "--clip-fps", "8"], "--clip-fps is for"),
        (["videos", "empty/../videos", "--backbone", "VIT"], "not an antcache store"),
        (["videos", "old.h5", "--backbone", "VIT", "--format", "zarr"], "in another form"),
    ],
)
def test_bad_input(tmp_path, folder, vit, arguments, message, monkeypatch):
    """One line, exit code 2, and nothing is written."""
    (tmp_path / "empty").mkdir()
    Store.create(tmp_path / "old.h5")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = run(*(str(vit) if a == "VIT" else a for a in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_tokens_at_windows(tmp_path, folder, vit):
    """The plan says how much there will be; the command and the import give equal streams."""
    (tmp_path / "t").mkdir()
    rows = ["uid,video,start,stop,verb,noun", "1,a,1.5,1.75,take,pan", "2,a,0.5,1.75,take,pan"]
    (tmp_path / "t" / "train.csv").write_text("\n".join(rows))
    for name in ("cli.zarr", "library.zarr"):
        words = ["annotations", "import", "table", tmp_path / "t", tmp_path / name]
        result = CliRunner().invoke(cli, [*map(str, words), "--name", "mine"])
        assert result.exit_code == 0, result.output
    settings = ["--backbone", vit, "--device", "cpu", "--stream", "t", "--tokens", "1x2x2"]
    settings += ["--dtype", "int8", "--at", "windows", "--gaps", "0.25,1", "--anchors", "start,0.5"]
    plan = run(folder, tmp_path / "cli.zarr", *settings, "--dry-run")
    assert plan.exit_code == 0, plan.output
    lines = [line.split() for line in plan.stdout.splitlines()]
    assert ["b", "no", "labelled", "segment"] in lines
    assert [line[4:5] for line in lines if line[:3] == ["a", "to", "do"]] == [["8"]]
    assert plan.stdout.endswith(f"8 rows to do, {8 * 4 * (32 + 2) / 1e6:.1f} MB\n")
    result = run(folder, tmp_path / "cli.zarr", *settings, "--split", "train")
    assert result.exit_code == 0, result.output
    assert "1 videos written (7 rows" in result.stdout
    assert "1 without a labelled segment" in result.stdout
    assert "no rows at 1 times before the first frame and 0 after the last one" in result.stdout
    config = ExtractConfig(
        stream="t",
        tokens=(1, 2, 2),
        dtype="int8",
        at="windows",
        gaps=(0.25, 1.0),
        anchors=(0.0, 0.5),
    )
    library = Store.open(tmp_path / "library.zarr")
    extract(find_videos(folder), library, load_backbone(vit, device="cpu"), config)
    command = Store.open(tmp_path / "cli.zarr")
    assert command.stream("t") == library.stream("t")
    ours, theirs = (store.features("t", "a") for store in (command, library))
    # 1.5 - 0.25, 1.5 - 1, 1.625 - 0.25, 1.625 - 1; 0.5 - 0.25, 1.125 - 0.25, 1.125 - 1
    times = [0.125, 0.25, 0.5, 0.625, 0.875, 1.25, 1.375]
    assert ours.times.tolist() == theirs.times.tolist() == times
    np.testing.assert_array_equal(ours.read(), theirs.read())

    more = [*rows, "3,a,1.9,2,take,pan"]
    (tmp_path / "t" / "train.csv").write_text("\n".join(more))
    words = ["annotations", "import", "table", tmp_path / "t", tmp_path / "cli.zarr"]
    CliRunner().invoke(cli, [*map(str, words), "--name", "mine", "--overwrite"])
    plan = run(folder, tmp_path / "cli.zarr", *settings, "--dry-run")
    assert ["a", "done,", "4", "rows", "lacking"] in map(str.split, plan.stdout.splitlines())
    result = run(folder, tmp_path / "cli.zarr", *settings)
    assert result.exit_code == 2
    assert "a (4 rows)" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_list_that_names_other_videos(tmp_path, folder, vit):
    """What has a file gets its rows; the others are said, and the exit code says that they are."""
    table = tmp_path / "list.csv"
    rows = ["uid,video,start,stop", "1,a,1.5,1.75", "2,gone.mp4,1,2", "3,lost,1,2"]
    table.write_text("\n".join(rows))
    store = Store.create(tmp_path / "s.zarr")
    settings = [store.path, "--backbone", vit, "--tokens", "1x1x1", "--at", "windows"]
    settings += ["--segments", table]
    said = f"Warning: 2 of the 3 videos of {table} have no file, and get no rows: gone, lost\n"
    plan = run(folder, *settings, "--dry-run")
    assert (plan.exit_code, plan.stderr.count(said)) == (0, 1), plan.output
    for written in (1, 0):
        result = run(folder, *settings)
        assert (result.exit_code, result.stderr.count(said)) == (1, 1), result.output
        assert f"{written} videos written" in result.stdout
        assert "in the store yet" not in result.stderr
    assert store.videos("rgb") == ["a"]
    table.write_text("\n".join(rows[:2]))
    assert run(folder, *settings).exit_code == 0
    both = run(folder, *settings, "--split", "train")
    assert both.exit_code == 2
    assert "--at windows, and no --split, found --at windows, --split train" in both.stderr
    table.write_text("\n".join([rows[0], rows[2]]))
    none = run(folder, *settings)
    assert none.exit_code == 2
    assert "there are files of 0 of these 1 videos: expected names of the files" in none.stderr
