"""`antcache store info`: what it prints, and what a wrong path gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.store import Store


def test_info(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s.zarr", dataset="toy")
    store.create_stream("rgb", dim=4, dtype="float32", fps=2, source="test", config={})
    store.write_features("rgb", "v1", np.zeros((7200, 4), np.float32))
    result = CliRunner().invoke(cli, ["store", "info", str(store.path), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["dataset"] == "toy"
    assert found["features"]["rgb"]["hours"] == 1.0
    assert found["features"]["rgb"]["bytes"] == 7200 * 4 * 4
    plain = CliRunner().invoke(cli, ["store", "info", str(store.path)])
    assert plain.exit_code == 0
    assert "rgb" in plain.stdout


def test_wrong_paths(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for path in (tmp_path / "nope", file):
        result = CliRunner().invoke(cli, ["store", "info", str(path)])
        assert result.exit_code == 2
        assert str(path) in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_remove_takes_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", dataset="toy")
    store.create_stream("rgb", dim=4, dtype="float32", fps=2, source="test", config={})
    for video in ("v1", "v2"):
        store.write_features("rgb", video, np.zeros((2, 4), np.float32))
    result = CliRunner().invoke(cli, ["store", "remove", str(store.path), "features/rgb/v1"])
    assert (result.exit_code, result.stdout) == (0, "removed features/rgb/v1\n")
    assert store.videos("rgb") == ["v2"]
    store.write_features("rgb", "v1", np.zeros((2, 4), np.float32))
    command = ["store", "remove", str(store.path), "features/rgb/v1", "--json"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"path": str(store.path), "removed": ["features/rgb/v1"]}
    for key in ("features/flow", "features/rgb/v1", "targets/count", "features/rgb/v2/rows"):
        command = ["store", "remove", str(store.path), "features/rgb/v2", key]
        result = CliRunner().invoke(cli, command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"the store has no {key!r}: expected labels/SPLIT" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert store.videos("rgb") == ["v2"]
    result = CliRunner().invoke(cli, ["store", "remove", str(store.path), "features/rgb"])
    assert (result.exit_code, result.stdout) == (0, "removed features/rgb\n")
    assert store.streams() == []
