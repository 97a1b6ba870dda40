"""Features that have seen the future: no window is made of them unless that is asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import antcache
from antcache.cli.main import cli
from antcache.errors import BadConfig
from antcache.store import Store
from antcache.store.features import Stream
from antcache.student import StudentConfig, TrainedStudent
from antcache.windows.ahead import refuse_future

STREAM = Stream(name="rgb", dim=2, dtype="float32", fps=4, source="", config={})


def seeing(seconds: Any, name: str = "rgb") -> Stream:
    return replace(STREAM, name=name, config={"sees_ahead_s": seconds})


def test_streams_that_see_nothing_ahead_pass() -> None:
    assert refuse_future([STREAM, seeing(0), seeing(0.0)], allowed=False) == {}


@pytest.mark.parametrize("seconds", [0.25, "0", None, True, -1.0, [], math.nan])
def test_others_are_refused(seconds: Any) -> None:
    """What is no number of seconds is no promise to have seen nothing."""
    with pytest.raises(BadConfig, match=r"features/flow: features that have seen the future"):
        refuse_future([STREAM, seeing(seconds, "flow")], allowed=False)
    (found,) = refuse_future([STREAM, seeing(seconds, "flow")], allowed=True).items()
    assert found == ("flow", 0.25 if seconds == 0.25 else math.inf)


MakeStore = Callable[..., Store]
SIZES = {"layers": 1, "heads": 2, "width": 16, "epochs": 1, "batch-size": 8, "device": "cpu"}
SMALL = [part for name, value in SIZES.items() for part in (f"--{name}", str(value))]


@pytest.fixture
def ahead(make_store: MakeStore) -> Store:
    """The tiny kitchen with a second stream, whose rows see half a second ahead."""
    store = make_store()
    old = store.stream("rgb")
    config = {"sees_ahead_s": 0.5}
    store.create_stream("mid", dim=old.dim, dtype="float32", fps=old.fps, source="", config=config)
    for video in store.videos("rgb"):
        store.write_features("mid", video, store.features("rgb", video).read())
    return store


def train(store: Store, run: Path, *words: str) -> Result:
    line = ["student", "train", str(store.path), "--run", str(run), "--stream", "rgb,mid"]
    return CliRunner().invoke(cli, [*line, *SMALL, *words])


def test_a_store_gives_no_windows_of_them(ahead: Store, caplog: Any) -> None:
    store = antcache.Store.open(ahead.path)
    with pytest.raises(BadConfig, match=r"rows that have seen 0\.5 s more .*`allow_future`"):
        store.windows("train", stream="mid")
    assert len(store.windows("train", stream="rgb"))
    assert not caplog.records
    assert len(store.windows("train", stream=["rgb", "mid"], allow_future=True))
    assert "no anticipation: features have seen the future (mid by 0.5 s)" in caplog.text


def test_a_student_refuses_them_and_its_result_says_so(ahead: Store, tmp_path: Path) -> None:
    refused = train(ahead, tmp_path / "run")
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert "features/mid: features that have seen the future" in refused.stderr
    assert "or --allow-future" in refused.stderr
    assert not list((tmp_path / "run").glob("*.json"))
    done = train(ahead, tmp_path / "other", "--allow-future", "--json")
    assert done.exit_code == 0, done.stderr
    assert "no anticipation: features have seen the future (mid by 0.5 s)" in done.stderr
    kept = json.loads((tmp_path / "other/result.json").read_text())
    assert kept["counts"]["sees_ahead_s"] == {"mid": 0.5}
    assert kept["config"]["data"]["allow_future"] is True
    student = TrainedStudent(ahead, tmp_path / "other")
    predictions = student.predict(ahead.labels("validation"), split="validation")
    assert predictions.config["data"]["allow_future"] is True


def test_a_run_that_does_not_say_so_predicts_nothing(ahead: Store, tmp_path: Path) -> None:
    """Its settings may come from anybody."""
    assert train(ahead, tmp_path / "run", "--allow-future").exit_code == 0
    file = tmp_path / "run/config.json"
    file.write_text(file.read_text().replace('"allow_future": true', '"allow_future": false'))
    with pytest.raises(BadConfig, match="features that have seen the future"):
        TrainedStudent(ahead, tmp_path / "run")


def test_nothing_is_allowed_unasked() -> None:
    assert StudentConfig().data.allow_future is False
