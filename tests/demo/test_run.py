"""The demo from end to end on a tiny kitchen, and what it refuses to overwrite."""

from __future__ import annotations

import html
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.demo import run as run_module
from antcache.demo.kitchen import KitchenConfig
from antcache.demo.report import DemoOutcome
from antcache.demo.run import FILM, MARK, PAGE, DemoConfig, _save_backbone, run_demo
from antcache.errors import AlreadyExists, BadConfig, MissingExtra
from antcache.evaluation.predictions import Predictions
from antcache.extract import load_backbone
from antcache.extract.videos.film_frames import FilmFile
from antcache.predict import Anticipation, Anticipator
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.place import read_config

TINY = DemoConfig(
    kitchen=KitchenConfig(train_videos=4, validation_videos=2, scripts=20, recipes_per_video=1),
    teacher_epochs=1,
    student=StudentConfig.of(layers=1, heads=2, width=16, epochs=2),
    seeds=(1, 2),
)


@dataclass(frozen=True)
class Made:
    """A demo in the place of an older one: its folder, what came of it, and what was printed."""

    output: Path
    outcome: DemoOutcome
    stdout: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    output, outcomes = tmp_path_factory.mktemp("demo") / "demo", []
    output.mkdir()
    (output / MARK).write_text(json.dumps(TINY.to_dict()))
    (output / "left.txt").write_text("of the older one")

    def kept(*args: Any, **options: Any) -> DemoOutcome:
        outcomes.append(run_demo(*args, **options))
        return outcomes[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "DemoConfig", lambda: TINY)
        patch.setattr(run_module, "run_demo", kept)
        result = CliRunner().invoke(cli, ["demo", "--output", str(output), "--overwrite"])
    assert result.exit_code == 0, result.output
    return Made(output, *outcomes, result.stdout)


@pytest.fixture
def output(made: Made) -> Path:
    return made.output


def test_every_step_leaves_what_it_should(output: Path) -> None:
    store = Store.open(output / "kitchen.zarr")
    assert len(store.videos("rgb")) == len(list((output / "videos").glob("*.mp4"))) == 6
    segments = sum(len(store.labels(split)) for split in store.splits())
    targets = store.targets("text")
    assert len(targets) == segments
    assert targets.valid.all()
    scripts = (output / "scripts.txt").read_text().splitlines()
    assert 0 < targets.attributes["scripts"] == len(scripts) <= 20
    for student in ("plain", "distilled"):
        for seed in (1, 2):
            predictions = Predictions.load(output / "runs" / f"{student}-{seed}")
            assert predictions.scores.shape[1] == len(store.taxonomy.actions)


def test_students_differ_only_in_their_targets(output: Path) -> None:
    configs = [read_config(output / f"runs/{name}-1").values for name in ("plain", "distilled")]
    assert {k for k in configs[0] if configs[0][k] != configs[1][k]} == {"targets"}


def test_the_report_is_one_self_contained_file(output: Path) -> None:
    page = (output / "report.html").read_text("utf-8")
    assert "<script" not in page
    links = re.findall(r"""(?:src|href)=["'](?!data:|#)([^"']+)""", page)
    assert not links
    assert not re.findall(r"url\((?!#)", page)
    for text in ("action top-1", "Training curves", "Held-out segments", "plain student"):
        assert text in page
    assert page.count('<article class="example">') >= 3
    assert page.count("data:image/jpeg;base64,") >= 18


def test_a_student_is_asked_about_a_held_out_video(output: Path) -> None:
    """The page says what `antcache predict` says, and the film is as long as the video."""
    store = Store.open(output / "kitchen.zarr")
    (video, *_) = sorted(set(store.labels("validation").video))
    assert video not in store.labels("train").video
    file = output / "videos" / f"{video}.mp4"
    page = (output / PAGE).read_text("utf-8")
    asked = Anticipator.load(output / "runs" / "distilled-1", backbone=output / "backbone")
    answers = [each for each in asked.each(file, every=10.0) if isinstance(each, Anticipation)]
    assert len(answers) > 2
    assert all(html.escape(answer.top[0].name) in page for answer in answers)
    assert "data:image/jpeg;base64," in page
    lengths = [FilmFile(each).duration_s() for each in (file, output / FILM)]
    assert lengths[1] == pytest.approx(lengths[0], abs=0.2)


def test_the_backbone_sees_black_and_white_as_opposites(tmp_path: Path) -> None:
    """Random filters have no bias: what is not centred at zero would drown the colours."""
    _save_backbone(tmp_path / "backbone", 32, 0)
    see = load_backbone(tmp_path / "backbone", device="cpu").preprocessing
    black, white = (see(torch.full((1, 32, 32, 3), v, dtype=torch.uint8)) for v in (0, 255))
    assert black.shape == (1, 3, 32, 32)
    assert bool((white > 0).all())
    torch.testing.assert_close(black, -white)


def test_the_table_says_what_the_predictions_say(output: Path) -> None:
    """The page's top-1 against one worked out here, from files alone."""
    store = Store.open(output / "kitchen.zarr")
    truth = dict(
        zip(store.labels("validation").uid, store.labels("validation").action, strict=True)
    )
    figures = []
    for seed in (1, 2):
        p = Predictions.load(output / f"runs/distilled-{seed}")
        actions = [truth[uid] for uid in p.uid]
        figures.append(100 * np.mean(p.scores.argmax(1) == actions))
    mean = f"{np.mean(figures):.1f}"
    page = (output / "report.html").read_text("utf-8")
    row = re.search(r'<tr><th scope="row">action top-1</th>(.*?)</tr>', page, re.DOTALL)
    assert row
    assert re.findall(r"<span>(\d+\.\d) <span", row[1])[1] == mean


def test_nothing_of_somebody_elses_is_deleted(output: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(AlreadyExists, match="not a demo"):
            run_demo(tmp_path, TINY, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    before = sorted(output.rglob("*"))
    result = CliRunner().invoke(cli, ["demo", "--output", str(output)])
    assert result.exit_code == 2
    assert "a demo is already here" in result.stderr
    assert sorted(output.rglob("*")) == before


def test_an_older_demo_is_deleted_when_asked_and_the_table_is_printed(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not (made.output / "left.txt").exists()
    for name in ("report.html", PAGE, FILM):
        assert f"{made.output / name}" in made.stdout
    assert "Validation, 2 seeds" in made.stdout
    monkeypatch.setattr(run_module, "run_demo", lambda *_, **__: made.outcome)
    told = CliRunner().invoke(cli, ["demo", "--output", str(made.output), "--overwrite", "--json"])
    assert told.exit_code == 0, told.output
    said = json.loads(told.stdout)
    assert said["report"] == str(made.output / "report.html")
    assert [Path(said[name]).name for name in ("predictions", "film")] == [PAGE, FILM]
    (top1,) = (row for row in said["table"] if row["name"] == "action top-1")
    shown = next(line for line in made.stdout.splitlines() if "action top-1" in line).split()
    assert shown[2:5] == [
        f"{top1['teacher']:.1f}",
        f"{top1['plain'][0]:.1f}",
        "±",
    ]
    assert f"{top1['gain']:+.1f}" in shown


@pytest.mark.parametrize("name", ["train_videos", "validation_videos", "recipes_per_video"])
def test_a_kitchen_without_videos_is_refused(name: str) -> None:
    with pytest.raises(BadConfig, match=f"impossible {name}: expected from 1 .*found 0"):
        KitchenConfig(**{name: 0})


def test_a_missing_package_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"jinja2.*antcache\[demo\]"):
        run_demo(tmp_path / "demo", TINY)
    assert not (tmp_path / "demo").exists()
