from __future__ import annotations

import json

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


def test_dry_run_writes_nothing(tmp_path, folder, vit):
    store = tmp_path / "s.zarr"
    before = sorted(tmp_path.rglob("*"))
    result = run(folder, store, "--backbone", vit, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    lengths = pytest.approx({"a": 2.0, "b": 3.0}, abs=0.02)
    assert plan == {"done": [], "to_do": lengths, "failed_before": {}}
    assert sorted(tmp_path.rglob("*")) == before

    run(folder / "a.mp4", store, "--backbone", vit)
    (folder / "c.mp4").write_text("no film")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    result = run(folder, store, "--backbone", vit, "--dry-run")
    names = [words[0] for line in result.stdout.splitlines() if (words := line.split())]
    assert names[-3:] == ["a", "b", "c"]
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
            ["videos", "s.zarr", "--backbone", "VIT", "--dtype", "int8"],
            "not one of 'float16', 'float32'",
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
