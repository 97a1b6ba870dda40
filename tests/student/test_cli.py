from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from antcache.cli.main import cli
from antcache.cli.student.train import train as train_command
from antcache.evaluation import Predictions
from antcache.settings import settings_of
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.predicting import TrainedStudent
from antcache.student.runs.train import Run, train
from antcache.student.training.loop import Trainer

MakeStore = Callable[..., Store]
SIZES = {"layers": 1, "heads": 2, "width": 16, "epochs": 2, "batch-size": 8, "device": "cpu"}
SMALL = [part for name, value in SIZES.items() for part in (f"--{name}", str(value))]

PROBE = ("--head", "probe", "--heads", 4)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["student", "train", *map(str, arguments)])


def test_every_setting_is_an_option_that_says_what_its_field_says() -> None:
    options = {option.name: option for option in train_command.params}
    for name, setting in settings_of(StudentConfig).items():
        option = options[name]
        assert isinstance(option, click.Option)
        assert option.opts == [f"--{name.removesuffix('_s').replace('_', '-')}"]
        assert option.help is not None
        assert option.help.startswith(setting.text)
        assert setting.text.endswith(".")
        silent = setting.kind is bool or setting.default is None or setting.default == ()
        default = "start" if name == "anchor" else setting.default
        said = "" if silent else f"  [default: {default}]"
        assert option.help.removeprefix(setting.text) == said


def test_several_are_given_again_or_with_commas(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    again = ("--targets", "oracle", "--targets", "teacher")
    for number, given in enumerate((again, ("--targets", "oracle,teacher"))):
        result = run(store.path, "--run", tmp_path / str(number), *given, *SMALL)
        assert result.exit_code == 2  # the kitchen has no such teacher
        assert "no set of soft targets 'teacher'" in result.stderr


def test_trains_and_prints_a_table(make_store: MakeStore, tmp_path: Path) -> None:
    result = run(make_store().path, "--run", tmp_path / "run", "--targets", "oracle", *SMALL)
    assert result.exit_code == 0, result.output
    assert "train: 42 windows (6 padded); dropped: 6 too early" in result.output
    assert "soft targets oracle: 42 windows; masked: 0 absent, 0 not valid" in result.output
    assert "action/top5" in result.output
    assert "validation, anchor start, gap 1 s, percent" in " ".join(result.output.split())
    assert "epoch 2 of 2" in (tmp_path / "run" / "log.txt").read_text()


def test_json_equals_the_library(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    result = run(store.path, "--run", tmp_path / "run", "--json", "--gap", "0.5", *SMALL)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    config = StudentConfig.from_dict(said["config"])
    assert (config.window.gap_s, config.window.num_frames) == (0.5, None)
    assert train(store, None, config).metrics == said["metrics"]


def test_resume_keeps_the_settings_of_the_run(make_store: MakeStore, tmp_path: Path) -> None:
    store, folder = make_store(), tmp_path / "run"
    assert run(store.path, "--run", folder, *SMALL).exit_code == 0
    again = run(store.path, "--run", folder, "--resume")
    assert again.exit_code == 0, again.output
    assert "already finished" in again.output
    preset = run(store.path, "--run", folder, "--resume", "--preset", "ek55-tsn")
    assert preset.exit_code == 2
    assert "--preset has no effect on a run that is resumed" in preset.output
    other = run(store.path, "--run", folder, "--resume", "--width", 32)
    assert other.exit_code == 2
    assert "width: 16 -> 32" in other.output


def test_a_resumed_run_says_where_it_went_on(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = make_store(), tmp_path / "run"
    train_epoch = Trainer.train_epoch

    def stop(self: Trainer, epoch: int, *rest: Any) -> Any:
        if epoch == 2:
            raise KeyboardInterrupt
        return train_epoch(self, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", stop)
        stopped = run(store.path, "--run", folder, *SMALL)
    assert stopped.exit_code == 130
    assert "antcache student train STORE --run RUN --resume" in stopped.stderr
    again = run(store.path, "--run", folder, "--resume")
    assert again.exit_code == 0, again.output
    assert f"{folder}: resumed after epoch 1" in again.output


@pytest.mark.parametrize("command", ["train", "recognise"])
def test_interrupted_before_the_first_checkpoint_it_does_what_it_says(
    make_store: MakeStore, tmp_path: Path, command: str
) -> None:
    """Before anything of the run is kept, too: then the same command starts it."""
    store, folder = make_store(), tmp_path / "run"
    start = ["student", command, str(store.path), "--run", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "__init__", interrupted)
        early = CliRunner().invoke(cli, [*start, *SMALL])
    assert early.exit_code == 130
    resumed = CliRunner().invoke(cli, [*start, "--resume"])
    assert "no run to resume" in resumed.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", interrupted)
        stopped = CliRunner().invoke(cli, [*start, *SMALL])
    assert stopped.exit_code == 130
    assert "goes on after the last epoch kept, or begins again if none was" in stopped.stderr
    assert "if it finds no run yet, give the same command again" in stopped.stderr
    again = CliRunner().invoke(cli, [*start, "--resume"])
    assert again.exit_code == 0, again.output
    assert "epoch 2 of 2" in (folder / "log.txt").read_text()


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_bad_input_is_one_line_and_code_2(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    path, folder = store.path, tmp_path / "run"
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "note.txt").write_text("mine")
    cases = {
        "no store here": (tmp_path / "nowhere", "--run", folder),
        "something is already here": (path, "--run", occupied),
        "no run to resume": (path, "--run", folder, "--resume"),
        "no set of soft targets 'nobody'": (path, "--run", folder, "--targets", "nobody"),
        "--weight has no effect": (path, "--run", folder, "--weight", 2),
        "unknown preset": (path, "--run", folder, "--preset", "ek56"),
        "impossible --lr": (path, "--run", folder, "--lr", 0),
        "no such device": (path, "--run", folder, "--device", "cuda:99"),
        "unknown head": (path, "--run", folder, "--head", "heavy"),
        "no stream 'flow'": (path, "--run", folder, "--stream", "flow"),
        "--width has no effect on the head 'probe'": (path, "--run", folder, *PROBE, "--width", 8),
        "--past-weight has no effect on the head 'probe'": (
            *(path, "--run", folder, *PROBE, "--past-weight", 0.1),
        ),
        "multiple of the 5 heads, found 12 (give a number of heads that divides it: --heads)": (
            *(path, "--run", folder, *PROBE, "--heads", 5),
        ),
        "--label-smoothing has no effect on the focal loss": (
            *(path, "--run", folder, "--loss", "focal", "--label-smoothing", 0.1),
        ),
        "'--loss': 'hinge' is not one of 'cross-entropy', 'focal'": (
            *(path, "--run", folder, "--loss", "hinge"),
        ),
    }
    for message, arguments in cases.items():
        result = run(*arguments)
        assert result.exit_code == 2, message
        assert message in result.output
        assert len(result.output.splitlines()) == 1, result.output
    assert [p.name for p in occupied.iterdir()] == ["note.txt"]


def test_missing_targets_need_a_flag(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    oracle = store.targets("oracle")
    assert oracle.logits is not None
    keep = np.arange(len(oracle)) >= 10
    fewer = type(oracle)(
        uid=oracle.uid[keep],
        valid=oracle.valid[keep],
        logits=oracle.logits[keep],
        attributes=oracle.attributes,
    )
    store.write_targets("fewer", fewer)
    arguments = (store.path, "--run", tmp_path / "run", "--targets", "fewer", *SMALL)
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "8 of 42 training segments are not in the soft targets" in refused.output
    allowed = run(*arguments, "--allow-missing-targets")
    assert allowed.exit_code == 0, allowed.output
    assert "34 windows; masked: 8 absent" in allowed.output


@pytest.mark.parametrize("damaged", ["weights.safetensors", "state.json"])
def test_a_broken_checkpoint_is_refused(
    make_store: MakeStore, tmp_path: Path, damaged: str
) -> None:
    store, folder = make_store(), tmp_path / "run"
    run(store.path, "--run", folder, *SMALL)
    (folder / "checkpoint" / "epoch-0002" / damaged).write_text("broken")
    result = run(store.path, "--run", folder, "--resume")
    assert result.exit_code == 2
    assert "can't be read" in result.output
    (folder / "config.json").write_text("{}")
    result = run(store.path, "--run", folder, "--resume")
    assert result.exit_code == 2
    assert "settings can't be read" in result.output


@pytest.mark.parametrize(("given", "anchor"), [("end", 1.0), ("start", 0.0), ("0.25", 0.25)])
def test_windows_are_counted_back_from_the_anchor(
    make_store: MakeStore, tmp_path: Path, given: str, anchor: float
) -> None:
    store = make_store()
    result = run(store.path, "--run", tmp_path / "run", "--anchor", given, "--json", *SMALL)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["config"]["window"]["anchor"] == anchor
    assert json.loads((tmp_path / "run/config.json").read_text())["protocol"]["anchor"] == anchor
    student = TrainedStudent(store, tmp_path / "run")
    assert student.protocol.anchor == anchor
    expected = student.predict(store.labels("validation"), split="validation").scores
    kept = Predictions.load(tmp_path / "run").scores
    np.testing.assert_allclose(kept, expected, atol=1e-5)


@pytest.mark.parametrize("given", ["middle", "1.5", "nan", ""])
def test_impossible_anchors_are_one_line(tmp_path: Path, given: str) -> None:
    result = run(tmp_path, "--run", tmp_path / "run", "--anchor", given)
    assert result.exit_code == 2
    assert "impossible --anchor: expected start or end or a number from 0 to 1" in result.stderr
    assert result.stderr.count("\n") == 1


def test_parity_has_its_own_anchor(make_store: MakeStore, tmp_path: Path) -> None:
    given = ("--anchor", "end", "--parity", "avt")
    result = run(make_store().path, "--run", tmp_path / "run", *given)
    assert result.exit_code == 2
    assert "parity 'avt' is that of a code whose windows end before the start" in result.stderr
    assert not (tmp_path / "run").exists()
