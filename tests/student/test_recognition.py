"""A recogniser is a run like any other, of another task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from antcache.cli.main import cli
from antcache.errors import BadConfig, FingerprintMismatch
from antcache.evaluation import Predictions
from antcache.evaluation.fusion import fuse
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.presets import find_preset
from antcache.student.recognition import MOMENTS, recogniser
from antcache.student.runs.place import read_config
from antcache.student.runs.train import train
from antcache.student.training.training_data import load_training_data

MakeStore = Callable[..., Store]
SIZES = {"layers": 1, "heads": 2, "width": 16, "epochs": 2, "batch-size": 8, "device": "cpu"}
SMALL = [part for name, value in SIZES.items() for part in (f"--{name}", str(value))]


def recognise(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["student", "recognise", *map(str, arguments)])


def test_windows_end_inside_the_actions_they_are_of(
    make_store: MakeStore, small: StudentConfig
) -> None:
    """At each of the moments, and no row of a window is later than its moment."""
    store = make_store()
    config = recogniser(small)
    data = load_training_data(store, config, torch.device("cpu"))
    assert data.protocol.recognises
    labels, segments = data.train.labels, store.labels("train")
    own = segments[segments.locate(labels.uid)]
    np.testing.assert_array_equal(labels.action, own.action)
    last = data.train.choices.first.numpy()
    assert len(labels) == len(MOMENTS) * len(last)
    # The last frame of a window shows the action that it is of, unless another one has begun too.
    shown = labels.frame_action[:, -1]
    assert (shown == labels.action).mean() > 0.9


def test_the_command_is_a_run_of_the_same_settings(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store = make_store()
    run = tmp_path / "run"
    result = recognise(store.path, "--run", run, "--held-out", 0.3, *SMALL, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["anchor"], told["gap_s"]) == ("0.5", 0.0)
    config = read_config(run)
    assert config.data.anchors == MOMENTS
    assert json.loads((run / "config.json").read_text())["protocol"]["anchor"] == 0.5
    solo = train(store, None, config)
    np.testing.assert_array_equal(Predictions.load(run).scores, solo.predictions.scores)
    again = recognise(store.path, "--run", run, "--resume")
    assert "already finished" in again.stdout


def test_it_is_scored_and_never_put_together_with_anticipation(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store = make_store()
    runs = {
        "now": recogniser(small),
        "next": small,
        "before": small.replace(gap_s=0.0),
    }
    for name, config in runs.items():
        train(store, tmp_path / name, config.replace(epochs=1))
    now = str(tmp_path / "now")
    told = CliRunner().invoke(cli, ["evaluate", str(store.path), now])
    assert told.exit_code == 0
    assert "anchor 0.5, gap 0 s" in told.stdout
    for other in ("next", "before"):
        for first, second in ((now, str(tmp_path / other)), (str(tmp_path / other), now)):
            with pytest.raises(FingerprintMismatch, match="predictions for another anchor"):
                fuse(store, [first, second])
            result = CliRunner().invoke(cli, ["compare", str(store.path), first, second])
            assert result.exit_code == 2
            assert "another anchor" in result.stderr


def test_what_is_no_recogniser_is_refused(make_store: MakeStore, tmp_path: Path) -> None:
    for wrong in ({"gap_s": 1.0}, {"gaps": (0.0, 0.5)}):
        with pytest.raises(BadConfig, match="a recogniser says what is under way: there is no gap"):
            recogniser(StudentConfig.of(**wrong))
    for anchor in ({"anchor": 0.0}, {"anchor": 1.0}, {"anchors": (0.5, 1.0)}):
        with pytest.raises(BadConfig, match="a recogniser looks at a point inside an action"):
            recogniser(StudentConfig.of(**anchor))
    with pytest.raises(BadConfig, match="there is no gap"):
        recogniser(find_preset("ek100-vjepa2-l"))
    kept = recogniser(StudentConfig.of(anchor=0.25, anchors=(0.25, 0.75)))
    assert (kept.window.anchor, kept.data.anchors) == (0.25, (0.25, 0.75))
    assert recogniser(kept) == kept
    store = make_store()
    result = recognise(store.path, "--run", tmp_path / "r", "--anchors", "start,0.5", *SMALL)
    assert result.exit_code == 2
    assert "point inside an action" in result.stderr
    ordinary = tmp_path / "ordinary"
    train(store, ordinary, StudentConfig.of(head="mean", epochs=1, device="cpu", gap_s=1.0))
    result = recognise(store.path, "--run", ordinary, "--resume")
    assert result.exit_code == 2
    assert "there is no gap" in result.stderr
