"""Members trained at once are what they are alone; how a sweep goes on, and what it says."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_kitchen import MakeStore, assert_equals_solo

from antcache.cli.main import cli
from antcache.errors import AlreadyExists, BadConfig
from antcache.store import SoftTargets
from antcache.student.config import StudentConfig
from antcache.student.heads.head import ModelShape
from antcache.student.model import build_student
from antcache.student.runs.checkpoint import latest_checkpoint
from antcache.student.runs.train import train
from antcache.student.sweeps import run as sweep_module
from antcache.student.sweeps.plan import Sweep
from antcache.student.sweeps.run import sweep
from antcache.student.training.stack import Stack


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
