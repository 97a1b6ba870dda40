"""Members trained at once are what they are alone; what a sweep says about them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from antcache.cli.main import cli
from antcache.errors import AlreadyExists, BadConfig, MissingExtra, NotFound
from antcache.evaluation import Predictions
from antcache.settings import settings_of
from antcache.store import SoftTargets, Store
from antcache.student.config import StudentConfig
from antcache.student.heads.head import ModelShape
from antcache.student.model import build_student
from antcache.student.presets import find_preset
from antcache.student.runs.checkpoint import WEIGHTS, latest_checkpoint
from antcache.student.runs.train import train
from antcache.student.sweeps import run as sweep_module
from antcache.student.sweeps.plan import Sweep, read_plan
from antcache.student.sweeps.run import sweep
from antcache.student.sweeps.table import tabulate
from antcache.student.training.stack import Stack
from antcache.untrusted import parse_yaml

MakeStore = Callable[..., Store]


def assert_equals_solo(store: Store, folder: Path, plan: Sweep) -> None:
    for name, config in plan.members():
        solo = train(store, None, config)
        checkpoint = latest_checkpoint(folder / name / "checkpoint")
        assert checkpoint is not None
        if not config.optimization.ema:
            for key, value in load_file(checkpoint / WEIGHTS).items():
                alone = solo.model.state_dict()[key]
                if key.endswith("attention_in.bias"):
                    # That of the keys changes no score: its gradient is rounding, and Adam's step
                    # of it is as long as any.
                    value, alone = (torch.cat(b.chunk(3)[::2]) for b in (value, alone))
                torch.testing.assert_close(value, alone, rtol=1e-4, atol=2e-6, msg=f"{name} {key}")
        scores = Predictions.load(folder / name).scores
        np.testing.assert_allclose(scores, solo.predictions.scores, rtol=1e-4, atol=1e-5)
        lines = (folder / name / "metrics.jsonl").read_text().splitlines()
        for line, record in zip(lines, solo.history, strict=True):
            for key in ("loss", "distillation_loss", "gradient_norm", "lr"):
                assert json.loads(line)[key] == pytest.approx(record[key], rel=1e-4, abs=1e-7), key


@pytest.mark.parametrize("head", ["light", "avth"])
def test_members_equal_their_solo_runs(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, head: str
) -> None:
    """Own rate, decay, optimizer, dropout, weight, temperature, targets, average: all at once."""
    store, base = make_store(), small.replace(head=head, epochs=2)
    oracle = base.replace(targets=("oracle",))
    plan = Sweep(
        settings={
            "plain": base,
            "smooth": base.replace(label_smoothing=0.1, lr=1e-3, weight_decay=0.3, dropout=0.4),
            "distilled": oracle.replace(temperature=3.0, grad_clip=None, warmup_epochs=0.0),
            "sgd": oracle.replace(optimizer="sgd", lr=1e-2, weight=0.7, ema=0.8),
            "focal": oracle.replace(loss="focal"),
        },
        seeds=(3, 5),
        at_once=10,
    )
    table, failed = sweep(store, tmp_path / "runs", plan)
    assert not failed
    assert list(table.cells) == ["plain", "smooth", "distilled", "sgd", "focal"]
    assert_equals_solo(store, tmp_path / "runs", plan)


@pytest.mark.parametrize("head", ["mean", "probe"])
def test_students_without_dropout_and_targets_that_some_windows_lack(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, head: str
) -> None:
    """There are no masks to draw, and masked rows can't share a call of the kernel."""
    store = make_store()
    oracle = store.targets("oracle")
    valid = np.arange(len(oracle.uid)) % 3 > 0
    store.write_targets("some", replace(oracle, valid=valid))
    own: dict[str, Any] = dict.fromkeys(("layers", "heads", "width", "dropout"))
    own |= {"mean": {"dropout": 0.0}, "probe": {"layers": 2, "heads": 2}}[head]
    base = small.replace(head=head, **own, epochs=2, targets=("some",))
    plan = Sweep(settings={"a": base, "b": base.replace(weight=0.5)}, seeds=(0, 1), at_once=4)
    _, failed = sweep(store, tmp_path / "runs", plan)
    assert not failed
    assert_equals_solo(store, tmp_path / "runs", plan)


def test_further_terms_and_masked_windows(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    """Objectives that can't share a call of the kernel are taken one by one."""
    store = make_store()
    whole = store.targets("oracle")
    arrays = {name: array[::2] for name, array in whole.arrays().items()}
    store.write_targets("some", SoftTargets(**arrays, attributes=whole.attributes))
    base = small.replace(epochs=1, feature_weight=0.5, past_weight=0.2, verb_noun_weight=0.1)
    some = base.replace(targets=("some",), allow_missing_targets=True)
    plan = Sweep(settings={"plain": base, "some": some}, seeds=(0, 1), at_once=4)
    sweep(store, tmp_path / "runs", plan)
    assert_equals_solo(store, tmp_path / "runs", plan)


def test_every_setting_says_once_what_its_weight_comes_to(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = small.replace(targets=("oracle",), epochs=1)
    settings = {
        "own": oracle.replace(weight=3.0),
        "paper": oracle.replace(weight=150 / 106, temperature=10.0),
        "cut": oracle.replace(weight=3.0, top_k=2),
    }
    with caplog.at_level(logging.INFO):
        sweep(make_store(), tmp_path / "runs", Sweep(settings=settings, seeds=(0, 1)))
    said = [m for m in caplog.messages if m.startswith(("setting ", "distillation: "))]
    starts = ["setting own", "distillation: weight 3 here = 18 in", "setting paper"]
    starts += ["distillation: weight 1.415 here", "distillation: this is the paper's 150 of EGTEA"]
    starts += ["setting cut", "distillation: weight 3 here = 6 in"]
    assert len(said) == len(starts)
    assert all(m.startswith(start) for m, start in zip(said, starts, strict=True)), said
    (warning,) = (r for r in caplog.records if "of EGTEA" in r.getMessage())
    assert warning.levelno == logging.WARNING


def test_an_interrupted_sweep_goes_on(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the third epoch; then one member is behind, and one was finished before."""
    store, folder = make_store(), tmp_path / "runs"
    plan = Sweep(settings={"a": small.replace(ema=0.5)}, seeds=(0, 1, 2), at_once=3)
    train(store, folder / "a" / "seed-2", plan.members()[2][1])
    finished = (folder / "a" / "seed-2" / "result.json").stat().st_mtime_ns
    train_epoch, count = Stack.train_epoch, []

    def stop(self: Stack, *args: object) -> object:
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return train_epoch(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "train_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            sweep(store, folder, plan)
    assert latest_checkpoint(folder / "a" / "seed-0" / "checkpoint").name == "epoch-0002"  # type: ignore[union-attr]
    for file in sorted((folder / "a" / "seed-1" / "checkpoint").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    table, _ = sweep(store, folder, plan)
    assert (folder / "a" / "seed-2" / "result.json").stat().st_mtime_ns == finished
    assert table.cells["a"]["action/top1"].n == 3
    assert_equals_solo(store, folder, plan)
    again, _ = sweep(store, folder, plan)
    assert again == table
    other = Sweep(settings={"a": small.replace(lr=1.0)}, seeds=(0,))
    with pytest.raises(BadConfig, match=r"run of other settings.*lr = 1.0"):
        sweep(store, folder, other)


def test_one_member_that_fails_does_not_touch_the_others(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, folder = make_store(), tmp_path / "runs"
    wild = small.replace(optimizer="sgd", lr=1e6, grad_clip=None, warmup_epochs=0.0)
    plan = Sweep(settings={"tame": small, "wild": wild}, seeds=(0, 1), at_once=4)
    table, failed = sweep(store, folder, plan)
    assert sorted(failed) == ["wild/seed-0", "wild/seed-1"]
    assert "not finite" in failed["wild/seed-0"]
    assert table.cells["wild"] == {}
    assert_equals_solo(store, folder, Sweep(settings={"tame": small}, seeds=(0, 1)))


def test_the_command(make_store: MakeStore, small: StudentConfig, tmp_path: Path) -> None:
    store, plan, runs = make_store(), tmp_path / "plan.yaml", tmp_path / "runs"
    base = {k: small.values[k] for k in ("layers", "heads", "width", "batch_size", "device")}
    lines = ["base:", *(f"  {k}: {v}" for k, v in base.items()), "  epochs: 1", "  lr: 3e-3"]
    lines += ["seeds: [0, 1]", "grid:", "  dropout: [0.1, 0.2]"]
    plan.write_text("\n".join(lines))
    command = ["student", "sweep", str(store.path), str(plan), "--runs", str(runs)]
    said = CliRunner().invoke(cli, command)
    assert said.exit_code == 0, said.output
    assert "differences to dropout=0.1, paired by seed" in said.output
    scored = CliRunner().invoke(
        cli, ["evaluate", str(store.path), str(runs / "dropout=0.2" / "seed-1")]
    )
    assert scored.exit_code == 0, scored.output
    data = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    assert data == json.loads((runs / "table.json").read_text())
    cell = data["settings"]["dropout=0.2"]["action/top1"]
    assert (cell["n"], cell["pairs"]) == (2, 2)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_ends_with_1_where_a_member_failed(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, as_json: bool
) -> None:
    store, plan, runs = make_store(), tmp_path / "plan.yaml", tmp_path / "runs"
    base = {k: small.values[k] for k in ("layers", "heads", "width", "batch_size", "device")}
    wild = {"optimizer": "sgd", "lr": 1e6, "grad_clip": None, "warmup_epochs": 0}
    settings = {"wild": wild, "tame": {}}
    written = {"base": {**base, "epochs": 1}, "seeds": [0], "settings": settings}
    plan.write_text(json.dumps(written))  # which is YAML too
    command = ["student", "sweep", str(store.path), str(plan), "--runs", str(runs)]
    said = CliRunner().invoke(cli, [*command, "--json"] if as_json else command)
    assert said.exit_code == 1, said.output
    if as_json:
        assert list(json.loads(said.stdout)["failed"]) == ["wild/seed-0"]
    else:
        assert "failed: wild/seed-0: " in said.output
    assert (runs / "tame" / "seed-0" / "result.json").exists()


def test_without_yaml_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "plan.yaml").touch()
    with pytest.raises(MissingExtra, match=r"pyyaml.*antcache\[train\]"):
        read_plan(tmp_path / "plan.yaml")


def test_several_processes_are_refused(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under torchrun each process would train every member into the same folders."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    plan = Sweep(settings={"a": small}, seeds=(0,))
    with pytest.raises(BadConfig, match=r"expected one process, found 2 .*without torchrun"):
        sweep(make_store(), tmp_path / "runs", plan)
    assert not (tmp_path / "runs").exists()


def test_bad_plans_are_refused(make_store: MakeStore, small: StudentConfig, tmp_path: Path) -> None:
    def plan(text: str) -> Sweep:
        (tmp_path / "plan.yaml").write_text(text)
        return read_plan(tmp_path / "plan.yaml")

    cases = {
        "unknown keys of a sweep": "setings: {a: {}}",
        "either settings or a grid": "seeds: [1]",
        "can't be read": "a: [",
        "must be names and values": "- a",
        "seeds must be": "seeds: [x]\nsettings: {a: {}}",
        "different seeds": "seeds: [1, 1]\nsettings: {a: {}}",
        "names its folder": "settings: {../a: {}}",
        "unknown settings of a student": "settings: {a: {wight: 1}}",
        "lr: wrong type: expected float, found 'fast'": "settings: {a: {lr: fast}}",
        "width of b": "settings: {a: {}, b: {width: 8}}",
        "past_weight of b": "settings: {a: {}, b: {past_weight: 1}}",
        "impossible at_once": "at_once: 0\nsettings: {a: {}}",
    }
    for message, text in cases.items():
        with pytest.raises(BadConfig, match=message):
            plan(text)
    with pytest.raises(NotFound, match=r"nothing\.yaml"):
        read_plan(tmp_path / "nothing.yaml")
    gru = small.replace(head="gru", heads=None)
    with pytest.raises(BadConfig, match="can't be trained at once"):
        sweep(make_store(), tmp_path / "runs", Sweep(settings={"a": gru}, seeds=(0,), at_once=2))


def test_a_plan_sets_whatever_an_option_sets() -> None:
    """By name alone or in groups, in YAML's types or as text."""
    settings = {
        **{"num_frames": 5, "rate": "1", "gap_s": 0.5, "parity": "avt", "stream": "rgb,flow"},
        **{"targets": ["a", "b"], "target_weights": "1, 3", "grad_clip": None, "lr": "1e-4"},
        **{"tail": True, "top_k": 3, "fusion": "late", "device": "cpu", "patience": 2},
        "held_out": 0.2,
    }
    wanted = StudentConfig.of(
        **{"num_frames": 5, "rate": 1.0, "gap_s": 0.5, "parity": "avt", "stream": ("rgb", "flow")},
        **{"targets": ("a", "b"), "target_weights": (1.0, 3.0), "grad_clip": None, "lr": 1e-4},
        **{"tail": True, "top_k": 3, "fusion": "late", "device": "cpu", "patience": 2},
        held_out=0.2,
    )
    flat = Sweep.from_dict({"base": settings, "settings": {"a": {}}})
    assert flat.settings["a"] == wanted
    groups: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        groups.setdefault(settings_of(StudentConfig)[name].group, {})[name] = value
    assert Sweep.from_dict({"base": groups, "settings": {"a": {}}}).settings["a"] == wanted
    changed = {"optimization": {"lr": 0.1}}
    other = Sweep.from_dict({"base": groups, "settings": {"a": changed}}).settings["a"]
    assert other == wanted.replace(lr=0.1)
    whole = json.loads(json.dumps(wanted.to_dict()))
    assert Sweep.from_dict({"base": whole, "settings": {"a": {}}}).settings["a"] == wanted


@pytest.mark.parametrize("name", list(settings_of(StudentConfig)))
def test_every_setting_is_one_of_a_plan(name: str) -> None:
    value = StudentConfig().values[name]
    plan = {"base": {name: list(value) if isinstance(value, tuple) else value}}
    found = Sweep.from_dict(plan | {"settings": {"a": {}}})
    assert found.settings["a"] == StudentConfig()


def test_members_differ_in_what_their_fields_allow() -> None:
    """A setting that must be shared is refused, by its name; 0 in all or in none of a switch."""
    others = {
        **{"stream": ("x",), "gap_s": 0.5, "num_frames": 5, "rate": 1.0, "parity": "avt"},
        **{"train_split": "x", "validation_split": "x", "allow_missing": True, "head": "mean"},
        **{"layers": 1, "heads": 1, "width": 8, "epochs": 5, "batch_size": 2, "metric": "x"},
        **{"device": "cpu", "precision": "float32", "compile": "off", "windows": "stream"},
        **{"evaluate_every": 2, "checkpoint_every": 2, "held_out": 0.1},
    }
    base = StudentConfig()
    for name, value in others.items():
        with pytest.raises(BadConfig, match=f"^{name} of b: the settings of a sweep must share"):
            Sweep(settings={"a": base, "b": base.replace(**{name: value})}, seeds=(0,))
    free = {
        **{"targets": ("x",), "weight": 1.0, "temperature": 1.0, "allow_missing_targets": True},
        **{"label_smoothing": 0.1, "logit_adjustment": 0.1, "optimizer": "sgd", "lr": 0.1},
        **{"weight_decay": 0.0, "warmup_epochs": 0.0, "grad_clip": None, "ema": 0.5, "seed": 5},
    }
    for name, value in free.items():
        Sweep(settings={"a": base, "b": base.replace(**{name: value})}, seeds=(0,))
    for name in ("feature_weight", "past_weight", "verb_noun_weight", "dropout"):
        none, some, more = (StudentConfig.of(**{name: value}) for value in (0.0, 0.1, 0.2))
        Sweep(settings={"a": some, "b": more}, seeds=(0,))
        with pytest.raises(BadConfig, match=f"^{name} of b"):
            Sweep(settings={"a": none, "b": some}, seeds=(0,))


def test_hints_name_keys_to_a_sweep_and_options_to_a_run(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store, plan = make_store(), tmp_path / "plan.yaml"
    store.create_stream("flow", dim=3, dtype="float16", fps=4, source="made up", config={})
    plan.write_text("settings: {a: {device: cpu}}")
    runs = ("--runs", str(tmp_path / "runs"))
    said = CliRunner().invoke(cli, ["student", "sweep", str(store.path), str(plan), *runs])
    assert "name one: `stream`" in said.output
    run = ("--run", str(tmp_path / "run"), "--device", "cpu")
    said = CliRunner().invoke(cli, ["student", "train", str(store.path), *run])
    assert "name one: --stream" in said.output


FIVE = ("weight", "temperature", "lr", "ema", "label_smoothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "settings: {a: {targets: [x, 5]}}",
            r"targets\[1\]: .*expected str, found 5",
        ),
        ("settings: {a: {stream: 5}}", "stream: .*expected tuple of str, found 5"),
        ("settings: {a: {width: 256.0}}", r"width: .*expected int or None, found 256\.0"),
        ("settings: {a: {epochs: 2.5}}", r"epochs: .*expected int, found 2\.5"),
        ("settings: {a: {allow_missing: 'no'}}", "allow_missing: .*expected bool, found 'no'"),
        ("settings: {a: {preset: [x]}}", "unknown preset: expected ek55-tsn or"),
        ("settings: {a: {protocol: 5}}", "unknown settings of a student: .*found protocol"),
        ("settings: {a: {1: 2}}", "unknown settings of a student: .*found 1"),
        ("1: 2\nsettings: {a: {}}", "unknown keys of a sweep: .*found 1"),
        ("at_once: two\nsettings: {a: {}}", "at_once: .*expected int or None, found 'two'"),
        ("at_once: 2.5\nsettings: {a: {}}", r"at_once: .*expected int or None, found 2\.5"),
        ("seeds: '01'\nsettings: {a: {}}", "seeds must be a list of whole numbers: found 01"),
        ("seeds: [1.5]\nsettings: {a: {}}", r"seeds must be .*found \[1\.5\]"),
        ("seeds: [true]\nsettings: {a: {}}", r"seeds must be .*found \[True\]"),
        (
            "grid:\n" + "".join(f"  {name}: {list(range(1, 200))}\n" for name in FIVE),
            "too many combinations of the grid: expected at most 10000 runs, found 312079600999",
        ),
        (
            f"seeds: {list(range(5001))}\nsettings: {{a: {{}}, b: {{}}}}",
            "too many settings and seeds: expected at most 10000 runs, found 10002",
        ),
        ("settings: {a: {layers: 101}}", "impossible layers: expected from 1 to 100"),
        ("settings: {a: {width: 65537}}", "impossible width: expected from 1 to 65536"),
        ("settings: {a: {optimizr: sgd}}", r"found optimizr \(did you mean optimizer\?\)"),
        ("base: {epochs: 2, warmup_epochs: 3}\nsettings: {a: {}}", "shorten it .*`warmup_epochs`"),
        ("settings: {a: {self: 1, cls: 2}}", "unknown settings of a student: .*found cls, self"),
        ("settings: {a: {num_frames: 0}}", "impossible num_frames: expected from 1 to 10000"),
        ("settings: {a: {}, b: {num_frames: 5}}", "must share .*expected None, as in a, found 5"),
        (f"seeds: [{'9' * 5000}]\nsettings: {{a: {{}}}}", "the sweep can't be read: .*digits"),
        ("settings: {a: {seed: 3}}", "differ in seed by themselves .*`seeds`"),
        ("grid: {seed: [1, 2]}", "differ in seed by themselves"),
        ("settings: {1: {}, '1': {}}", "the key '1' stands twice"),
        ("grid: {lr: [0.1, 0.1]}", "a value stands twice in the grid"),
        ("base: {model: {lr: 0.1}}\nsettings: {a: {}}", "`lr` is no setting of `model`"),
        ("base: {optimization: {lr: 1.0}, lr: 0.1}\nsettings: {a: {}}", "`lr` is set twice"),
        ("seeds: [-1]\nsettings: {a: {}}", "impossible seeds"),
        ("settings: &a {b: *a}", "the sweep can't be read: found nested too deeply"),
        ("#" * 300_000, "the sweep can't be read: found more than 262144 bytes"),
    ],
)
def test_wrong_types_in_a_plan_are_one_line_that_names_file_and_key(
    make_store: MakeStore, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(BadConfig, match=rf"plan\.yaml: .*{message}"):
        read_plan(tmp_path / "plan.yaml")
    command = ["student", "sweep", str(make_store().path), str(tmp_path / "plan.yaml")]
    said = CliRunner().invoke(cli, [*command, "--runs", str(tmp_path / "runs")])
    assert said.exit_code == 2
    assert len(said.output.splitlines()) == 1, said.output


def test_a_folder_with_anything_else_is_refused(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    """A plan goes on in its folder, and in one of fewer settings; nobody else's is touched."""
    store, base = make_store(), small.replace(epochs=1)
    one = Sweep(settings={"a": base}, seeds=(0,))
    two = Sweep(settings={"a": base, "b": base.replace(lr=0.1)}, seeds=(0,))
    sweep(store, tmp_path / "runs", one)
    sweep(store, tmp_path / "runs", two)
    table = (tmp_path / "runs/table.json").read_bytes()
    for folder in ("runs", "runs/a/seed-0"):
        with pytest.raises(AlreadyExists, match="not of this plan"):
            sweep(store, tmp_path / folder, one)
    assert (tmp_path / "runs/table.json").read_bytes() == table
    plan = tmp_path / "plan.yaml"
    plan.write_text("settings: {a: {}}")
    before = sorted(store.path.rglob("*"))
    for runs in (store.path, store.path / "features"):
        said = CliRunner().invoke(
            cli, ["student", "sweep", str(store.path), str(plan), "--runs", str(runs)]
        )
        assert (said.exit_code, len(said.output.splitlines())) == (2, 1)
        assert "not of this plan" in said.output
    assert sorted(store.path.rglob("*")) == before


def test_table_by_hand() -> None:
    """Differences 1, 2, 3: t = 2 * sqrt(3), p = 0.0742 with 2 degrees of freedom."""

    def runs(*values: float | None) -> dict[int, dict[str, float] | None]:
        return {s: None if v is None else {"action/top1": v} for s, v in enumerate(values)}

    table = tabulate({"a": runs(10, 11, 12, 13), "b": runs(11, 13, 15, None), "c": runs(10)})
    a, b = (table.cells[name]["action/top1"] for name in "ab")
    assert (a.mean, a.n, a.difference) == (11.5, 4, None)
    assert (b.mean, b.deviation, b.n, b.pairs, b.difference) == (13, 2, 3, 3, 2)
    assert b.p == pytest.approx(0.0742, abs=5e-5)
    assert b.low == pytest.approx(2 - 4.30265 / np.sqrt(3), abs=1e-3)
    c = table.cells["c"]["action/top1"]
    assert (c.deviation, c.difference, c.p) == (None, 0, None)


def test_a_setting_is_chosen_on_the_videos_held_out_alone() -> None:
    def runs(held: list[float | None], validation: float) -> dict[int, dict[str, float] | None]:
        return {
            seed: None if h is None else {"action/top5": validation, "held out action/top5": h}
            for seed, h in enumerate(held)
        }

    results = {
        "worst": runs([1, 2], 90),
        "failed": runs([99, None], 80),
        "best": runs([5, 8], 10),
        "as good": runs([6, 7], 70),
    }
    table = tabulate(results)
    assert table.chosen == "best"
    assert list(table.cells["best"]) == ["held out action/top5", "action/top5"]
    assert table.to_dict()["chosen"] == "best"
    assert tabulate({"a": {0: {"action/top5": 3.0}}}).chosen is None
    assert tabulate({"a": {0: None}}).chosen is None


def test_the_command_names_the_best_on_the_videos_held_out(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    """By the epoch that each run reports: the figures stand in the runs' own records."""
    store, plan, runs = make_store(), tmp_path / "plan.yaml", tmp_path / "runs"
    base = {k: small.values[k] for k in ("layers", "heads", "width", "batch_size", "device")}
    base |= {"epochs": 2, "held_out": 0.3, "metric": "action/top1"}
    plan.write_text(json.dumps({"base": base, "seeds": [0], "grid": {"lr": [1e-9, 1e-2]}}))
    command = ["student", "sweep", str(store.path), str(plan), "--runs", str(runs)]
    said = CliRunner().invoke(cli, command)
    assert said.exit_code == 0, said.output
    found = {}
    for name in ("lr=1e-09", "lr=0.01"):
        run = runs / name / "seed-0"
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        epoch = json.loads((run / "result.json").read_text())["epoch"]
        found[name] = lines[epoch - 1]["held_out"]["action/top1"]
    best = max(found, key=lambda name: found[name])
    assert f"best on the training videos held out: {best}\n" in said.output
    table = json.loads((runs / "table.json").read_text())
    assert table["chosen"] == best
    for name, row in table["settings"].items():
        assert row["held out action/top1"]["mean"] == pytest.approx(found[name])


def test_the_published_sweep_of_the_probe_is_in_the_docs(repo: Path) -> None:
    """All 20 pairs of rate and decay, each once, chosen on training videos held out."""
    page = (repo / "docs" / "student.md").read_text("utf-8")
    (text,) = (t for t in page.split("```yaml\n")[1:] if "ek100-vjepa2-l" in t.split("```")[0])
    plan = Sweep.from_dict(parse_yaml(text.split("```")[0]))
    found = [config.optimization for config in plan.settings.values()]
    rates, decays = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (1e-4, 1e-3, 1e-2, 1e-1)
    pairs = [(one.lr, one.weight_decay) for one in found]
    assert sorted(pairs) == sorted((lr, decay) for lr in rates for decay in decays)
    preset = find_preset("ek100-vjepa2-l")
    for config in plan.settings.values():
        assert config.selection.held_out > 0
        own = {"lr": preset.optimization.lr, "weight_decay": preset.optimization.weight_decay}
        own |= {"held_out": 0.0, "metric": preset.selection.metric}
        assert config.replace(**own) == preset


def test_no_more_at_once_than_the_device_has_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand weights of 4 bytes: 20 kB each, in half of what is free."""
    student, device = torch.nn.Linear(1000, 1, bias=False), torch.device("cpu")
    for free, expected in ((None, 16), (10**9, 16), (200_000, 5), (1_000, 1)):
        monkeypatch.setattr(sweep_module, "free_bytes", lambda _, free=free: free)
        assert sweep_module.fitting(student, device) == expected
    for free, step, expected in ((200_000, 20_000, 5), (200_000, 30_000, 4), (10**9, 10**9, 1)):
        monkeypatch.setattr(sweep_module, "free_bytes", lambda _, free=free: free)
        assert sweep_module.fitting(student, device, step) == expected


@pytest.mark.parametrize("head", ["light", "probe"])
def test_what_a_step_keeps_is_counted_before_it_is_taken(head: str) -> None:
    """Beside a step on real numbers: no less, and no more than attention's weights above it."""
    own = {"light": {"width": 32}, "probe": {"layers": 2}}[head]
    config = StudentConfig.of(head=head, heads=4, batch_size=6, **own)
    shape = ModelShape(dims=(32,), num_classes=9, num_frames=12)
    if head == "probe":
        shape = replace(shape, num_frames=1, tokens=12)
    with torch.device("meta"):
        student = build_student(config, shape)
    counted = sweep_module.step_bytes(student, config, shape)
    real = build_student(config, shape)
    parameters = {p.data_ptr() for p in real.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    features = torch.randn(6, *shape.window)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = real(features)
    assert output.logits.requires_grad
    attention = 2 * 6 * 4 * 12 * 12 * 4 * 4  # scores and weights of two layers and a query
    assert sum(kept.values()) <= counted <= 1.1 * sum(kept.values()) + attention
