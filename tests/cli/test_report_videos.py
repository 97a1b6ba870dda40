"""`antcache report --videos`: pictures of real files, and what is said where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.annotations import Segments, Taxonomy
from antcache.cli.main import cli
from antcache.evaluation import Predictions
from antcache.store import Store

av = pytest.importorskip("av")


def write_video(path: Path, seconds: int) -> None:
    """Grey pictures, ten a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for number in range(10 * seconds):
            picture = np.full((32, 32, 3), number % 250, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def kitchen(tmp_path: Path) -> Path:
    """Four segments in four videos, of which the second gets all right and the first none."""
    taxonomy = Taxonomy(
        dataset="small",
        verbs=("take",),
        nouns=("cup", "pan"),
        actions=("take cup", "take pan"),
        action_verbs=(0, 0),
        action_nouns=(0, 1),
    )
    action = np.array([0, 1, 0, 1])
    segments = Segments.of(
        uid=[f"s{i}" for i in range(4)],
        video=["whole", "short", "broken", "missing"],
        start_s=np.full(4, 8.0),
        stop_s=np.full(4, 9.0),
        verb=np.zeros(4, np.int64),
        noun=action,
        action=action,
    )
    store = Store.create(tmp_path / "kitchen.zarr")
    store.write_labels("validation", segments, taxonomy, source="test")
    for name, truth in (("a", 1 - action), ("b", action)):
        scores = np.zeros((4, 2), np.float32)
        scores[np.arange(4), truth] = 1.0
        Predictions(
            uid=segments.uid, scores=scores, split="validation", taxonomy=taxonomy.fingerprint
        ).save(tmp_path / name)
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos/whole.mp4", 10)
    write_video(tmp_path / "videos/short.mp4", 3)
    (tmp_path / "videos/broken.mp4").write_bytes(b"no video" * 50)
    return tmp_path


def test_what_can_be_shown_is_and_the_rest_is_said(
    kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kitchen)
    words = ["report", "kitchen.zarr", "a", "b", "--bootstrap", "20", "--examples", "4", "--json"]
    done = CliRunner().invoke(cli, [*words, "--videos", "videos"])
    assert done.exit_code == 0, done.output
    warned = [line for line in done.stderr.splitlines() if line.startswith("Warning: ")]
    assert len(warned) == 3
    for line, (name, why) in zip(
        sorted(warned),
        {
            "broken": "not a video that can be opened",
            "missing": "no such video",
            "short": "it ends before 4.3 s",
        }.items(),
        strict=True,
    ):
        assert line.startswith(f"Warning: no pictures of {name}: ")
        assert why in line
    assert set(json.loads(done.stdout)["without_pictures"]) == {"short", "broken", "missing"}
    page = (kitchen / "report.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 6  # those of the whole video alone
    assert page.count("no-film") == 3


def test_a_folder_without_videos_is_refused_before_the_work(
    kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kitchen)
    (kitchen / "empty").mkdir()
    for place, said in (("empty", "no videos here"), ("nowhere", "no such file or folder")):
        done = CliRunner().invoke(cli, ["report", "kitchen.zarr", "a", "b", "--videos", place])
        assert done.exit_code == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (kitchen / "report.html").exists()
