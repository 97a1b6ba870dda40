"""The command `antcache import predictions`: what it says, and what is learned from its targets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from published_predictions import ALL, entry, imported, write

from antcache.cli.main import cli
from antcache.errors import BadConfig
from antcache.evaluation import score_targets
from antcache.interop.predictions.importing import PredictionsConfig
from antcache.store import Store


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["import", "predictions", *map(str, arguments)])


def test_command(store: Store, tmp_path: Path) -> None:
    train = write(tmp_path / "train.pkl", [entry(u) for u in ALL[:11]])
    rest = write(tmp_path / "val.pkl", [entry(u) for u in ALL[12:]])
    dry = run(store.path, train, rest, "--name", "bert", "--dry-run", "--json")
    assert dry.exit_code == 0, dry.output
    assert json.loads(dry.stdout)["splits"]["train"]["missing"] == 1
    assert store.target_names() == []
    assert not Path(f"{store.path}.log").exists()
    done = run(store.path, train, rest, "--name", "bert", "--history", "complete")
    assert done.exit_code == 0, done.output
    assert "complete history, features 4 wide" in done.stdout
    assert "note: train: 1 without a prediction, 12 first" in done.stderr
    assert "train.pkl" in Path(f"{store.path}.log").read_text()
    again = run(store.path, train, "--name", "bert", "--overwrite", "--top-k", 3, "--json")
    assert again.exit_code == 0, again.output
    said = json.loads(again.stdout)
    assert said["attributes"]["form"] == "top-3"
    assert said["metrics"]["train"]["n"] == 11
    info = CliRunner().invoke(cli, ["store", "info", str(store.path)])
    assert info.exit_code == 0, info.output
    assert "imported" in info.stdout
    assert "top-3" in info.stdout


def test_predictions_of_another_anchor_say_so(store: Store, tmp_path: Path) -> None:
    """The file does not tell; without a word they count as those of the start."""
    path = write(tmp_path / "all.pkl", [entry(u) for u in ALL])
    assert "anchor" not in imported(store, path)[0].attributes
    done = run(store.path, path, "--name", "late", "--anchor", "end")
    assert done.exit_code == 0, done.output
    assert store.targets("late").attributes["anchor"] == 1
    assert score_targets(store, "late", "train").anchor == 1
    with pytest.raises(BadConfig, match="impossible anchor"):
        PredictionsConfig(name="x", anchor=2.0)


def test_command_refuses_in_one_line(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "f.pkl", [entry(900)])
    for arguments in (
        (store.path, path, "--name", "bert"),
        (store.path, tmp_path / "absent", "--name", "bert"),
        (store.path, path, "--name", "b/d"),
        (store.path, path, "--name", "bert", "--history", "some"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr


@pytest.mark.slow
def test_a_student_learns_from_imported_targets(store: Store, tmp_path: Path) -> None:
    """Unchanged: one segment has no prediction and is masked; features are in nobody's way."""
    store.create_stream("rgb", dim=4, dtype="float16", fps=4, source="made up", config={})
    rng = np.random.default_rng(0)
    for video in ("v1", "v2"):
        store.write_features("rgb", video, rng.normal(size=(200, 4)).astype(np.float16))
    path = write(tmp_path / "f.pkl", [entry(u) for u in ALL if u != 4])
    assert run(store.path, path, "--name", "bert").exit_code == 0
    small = ["--layers", 1, "--heads", 2, "--width", 16, "--epochs", 1, "--batch-size", 8]
    result = CliRunner().invoke(
        cli,
        ["student", "train", str(store.path), "--run", str(tmp_path / "run"), "--targets", "bert"]
        + [str(part) for part in [*small, "--device", "cpu"]],
    )
    assert result.exit_code == 0, result.output
    assert "masked: 0 absent, 1 not valid" in result.output
