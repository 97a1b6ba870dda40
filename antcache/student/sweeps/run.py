"""Sweeps: many seeds and settings of one architecture, trained at once in one process.

Promise: every member is kept as an ordinary run in `FOLDER/SETTING/seed-N`, and its result equals
its solo run within float tolerance (on a GPU, with dropout, in distribution). A sweep that was
interrupted goes on when it is called again: finished members are only read, others resume from
their checkpoints, and one that was trained on what the store no longer holds is refused. One
process trains a sweep at a time. A member whose loss is not finite is named, and the others go on.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from antcache.devices import pick_device
from antcache.errors import AlreadyExists, BadCheckpoint, BadConfig, NotFinite
from antcache.files import LOCK, atomic_file, found_at
from antcache.files.locks import exclusively
from antcache.progress import Progress, silent
from antcache.settings import settings_of
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.heads.head import ModelShape
from antcache.student.model import build_student
from antcache.student.runs.folder import RunFolder
from antcache.student.runs.place import CONFIG, LOG, RESULT
from antcache.student.runs.train import Run
from antcache.student.sweeps.begun import Member, unfinished
from antcache.student.sweeps.plan import Sweep
from antcache.student.sweeps.table import HELD_OUT, Table, tabulate
from antcache.student.training.distributed import started
from antcache.student.training.loop import Trainer
from antcache.student.training.stack import Stack, can_stack
from antcache.student.training.training_data import TrainingData, load_training_data, say_weight
from antcache.untrusted import read_json
from antcache.windows.dataset import Windows
from antcache.windows.reading.memory import free_bytes

log = logging.getLogger(__name__)

Training = Callable[[Store, Path, Sequence[Member], Progress], dict[str, str]]
"""Trains members in a folder; gives the errors of those whose loss is not finite, by name."""
Loaded = dict[tuple[Any, ...], TrainingData]
"""What members learn from, by their soft targets."""

TABLE = "table.json"
"""In the folder of a sweep: its figures."""

AT_ONCE = 16
"""Members that a GPU trains at once, unless told otherwise or its memory is too small. A CPU gains
nothing: one by one."""


def sweep(
    store: Store,
    folder: Path,
    plan: Sweep,
    *,
    progress: Progress = silent,
    training: Training | None = None,
) -> tuple[Table, dict[str, str]]:
    """Train all members that are not finished, and compare the settings.

    Args:
        store: where everything is read from.
        folder: where the runs and `table.json` go; one of this plan is gone on with.
        plan: what is trained.
        progress: see `train`.
        training: what trains members; None: this process (see `on_ray` for another).

    Returns:
        The table over all finished members, and the errors of those whose loss is not finite.

    Raises:
        BadConfig: a run in the folder is of another plan, the head can't be stacked, or torchrun
            started several processes.
        FingerprintMismatch: a member was trained on something else than the store holds now.
        AlreadyExists: the folder has something else, or another process trains the sweep, or one
            of its members.
        WriteFailed, MissingKey, ...: see `train.train`.
    """
    _check_alone()
    if training is not None and plan.at_once not in (None, 1):
        raise BadConfig(
            "members are trained at once in this process only",
            expected="no `at_once`",
            found=plan.at_once,
            hint="leave it out with --engine ray",
        )
    check_folder(folder, plan)
    busy, hint = "another process is training this sweep", "choose another folder"
    with exclusively(folder / LOCK, busy, where=folder, hint=hint):
        return _sweep(store, folder, plan, progress, training or partial(_train_here, plan.at_once))


def check_folder(folder: Path, plan: Sweep) -> None:
    """Raise unless a sweep of the plan may begin in a folder, or go on there.

    Raises:
        AlreadyExists: something is there that is not of this plan.
    """
    strange = found_at(folder, {LOG, LOCK, TABLE, *plan.settings})
    if strange:
        raise AlreadyExists(
            "something is here that is not of this plan",
            where=folder,
            found=", ".join(strange[:5]),
            hint="choose another folder",
        )


def _sweep(
    store: Store, folder: Path, plan: Sweep, progress: Progress, training: Training
) -> tuple[Table, dict[str, str]]:
    """`sweep`, in a folder that is ours."""
    members = plan.members()
    left = unfinished(store, folder, members)
    if len(left) < len(members):
        log.info("%d of %d members are finished", len(members) - len(left), len(members))
    failed = training(store, folder, left, progress) if left else {}
    results = {
        name: {seed: _metrics(folder / f"{name}/seed-{seed}") for seed in plan.seeds}
        for name in plan.settings
    }
    table = tabulate(results)
    with atomic_file(folder / TABLE, overwrite=True) as staged:
        staged.write_text(json.dumps(table.to_dict() | {"failed": failed}, indent=1), "utf-8")
    return table, failed


def _train_here(
    at_once: int | None,
    store: Store,
    folder: Path,
    members: Sequence[Member],
    progress: Progress,
) -> dict[str, str]:
    """`Training` in this process, of as many members at once as asked for, or as pays."""
    loaded = read_data(store, members, progress)
    together = _at_once(at_once, loaded, members[0][1])
    failed: dict[str, str] = {}
    for start in range(0, len(members), together):
        some = members[start : start + together]
        failed |= train_members(store, folder, some, loaded, progress)
        log.info("%d of %d members trained", start + len(some), len(members))
    return failed


def read_data(store: Store, members: Sequence[Member], progress: Progress) -> Loaded:
    """What members learn from; of one setting all seeds learn from the same."""
    settings = {name.split("/")[0]: config for name, config in members}
    return _training_data(store, settings, progress)


def train_members(
    store: Store, folder: Path, members: Sequence[Member], loaded: Loaded, progress: Progress
) -> dict[str, str]:
    """Train members at once, each in its folder below `folder`; the errors of those whose loss is
    not finite, by name."""
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        runs = {
            name: Run(
                store, stack.enter_context(_open(folder / name)), config, loaded[_data(config)]
            )
            for name, config in members
        }
        _train(runs, failed, progress)
    return failed


def _check_alone() -> None:
    """Refuse to be one of several processes: each would train every member, in the same folders."""
    if started() > 1:
        raise BadConfig(
            "a sweep is not trained by several processes",
            expected="one process",
            found=f"{started()} of torchrun",
            hint="start it without torchrun, which is for single runs: antcache student train",
        )


def _train(runs: dict[str, Run], failed: dict[str, str], progress: Progress) -> None:
    """Train some runs at once until each is over; one that fails is left out from then on."""
    active = {name: run for name, run in runs.items() if not run.over}
    stack: Stack | None = None
    while active:
        group = list(active.values())
        started = time.perf_counter()
        epochs = [run.epoch + 1 for run in group]
        if len(group) > 1 and stack is None:
            stack = Stack([run.trainer for run in group])
        results = (
            _alone(group[0].trainer, epochs[0], progress)
            if stack is None
            else stack.train_epoch(epochs, progress)
        )
        seconds = (time.perf_counter() - started) / len(group)
        for (name, run), result in zip(list(active.items()), results, strict=True):
            if isinstance(result, NotFinite):
                failed[name] = str(result)
                log.error("%s: %s", name, result)
            else:
                run.record(result, seconds)
            if run.over or name in failed:
                del active[name]
                stack = None  # those that are left are stacked anew
        progress(
            "epochs",
            sum(run.epoch for run in runs.values()),
            sum(run.config.optimization.epochs for run in runs.values()),
        )
    for name, run in runs.items():
        if name not in failed:
            run.finish()


def _alone(trainer: Trainer, epoch: int, progress: Progress) -> list[dict[str, float] | NotFinite]:
    try:
        return [trainer.train_epoch(epoch, progress)]
    except NotFinite as error:
        return [error]


def _training_data(
    store: Store, settings: Mapping[str, StudentConfig], progress: Progress
) -> Loaded:
    """What members learn from, by their soft targets; the windows' features are read once.

    Of each setting it is logged what its weight comes to, as `load_training_data` does of a run.
    """
    found: dict[tuple[Any, ...], TrainingData] = {}
    for name, config in settings.items():
        log.info("setting %s", name)
        key = _data(config)
        if key in found:
            teachers = found[key].train.targets
            if teachers is not None:
                say_weight(config, teachers, found[key].shape.num_classes)
            continue
        device = pick_device(config.runtime.device)
        if not found:
            found[key] = load_training_data(store, config, device, progress)
            continue
        first = next(iter(found.values()))
        # Windows that are read lazily read nothing: of these only the soft targets are taken.
        other = load_training_data(store, config.replace(windows="stream"), device)
        same = first.train
        train = Windows(same.labels, same.features, other.train.targets, same.choices, same.later)
        found[key] = replace(other, train=train, validation=first.validation)
    return found


def _data(config: StudentConfig) -> tuple[Any, ...]:
    """What chooses the soft targets that a config learns from."""
    table = settings_of(StudentConfig)
    return tuple(value for name, value in config.values.items() if table[name].sweep == "targets")


def _at_once(asked: int | None, loaded: Loaded, config: StudentConfig) -> int:
    """How many members are trained at once: as asked for, or what pays on the device."""
    data = loaded[_data(config)]
    with torch.device("meta"):  # only its structure is looked at
        student = build_student(config, data.shape)
    possible = can_stack(student)
    if asked is not None:
        if asked > 1 and not possible:
            raise BadConfig(
                f"students with the head {config.model.head!r} can't be trained at once",
                found="an LSTM or GRU of PyTorch, of which it runs one at a time",
                hint="at_once: 1",
            )
        return asked
    device = data.train.device
    at_once = 1
    if possible and device.type == "cuda":
        at_once = fitting(student, device, step_bytes(student, config, data.shape))
    log.info("members trained at once: %d", at_once)
    return at_once


def fitting(student: nn.Module, device: torch.device, step: int = 0) -> int:
    """How many such students a device has memory for, from 1 to `AT_ONCE`.

    Each has weights, gradients, two moments of the optimizer and perhaps an average, which may take
    half of what is free, and keeps `step` bytes while it is trained on a batch.
    """
    free = free_bytes(device)
    if free is None:
        return AT_ONCE
    each = 5 * sum(p.nbytes for p in student.parameters())
    return max(1, min(AT_ONCE, free // 2 // each, free // (each + step)))


def step_bytes(student: nn.Module, config: StudentConfig, shape: ModelShape) -> int:
    """Bytes that a student on the device `meta` keeps of a batch for its gradients, in float32.

    Counted on one window, of which nothing is computed; fused attention keeps less than is counted.
    """
    own = {id(p) for p in student.parameters()}
    kept = {}

    def count(tensor: Tensor) -> Tensor:
        whole = tensor if tensor._base is None else tensor._base  # of a view, what it looks at
        if id(whole) not in own:
            kept[id(whole)] = whole
        return tensor

    features = torch.empty(1, *shape.window, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        student(features, **config.losses.frame_outputs)
    window = features.nbytes + sum(tensor.nbytes for tensor in kept.values())
    return config.optimization.batch_size * window


def _open(path: Path) -> AbstractContextManager[RunFolder]:
    return RunFolder.open(path, resume=(path / CONFIG).exists())


def _metrics(path: Path) -> dict[str, float] | None:
    """The figures of a finished run, None of one that failed."""
    if not (path / RESULT).exists():
        return None
    try:
        result = read_json(path / RESULT)
        metrics = dict(result["metrics"])
        if held := result.get("held_out"):
            metric = result["config"]["selection"]["metric"]
            metrics[HELD_OUT + metric] = held[metric]
        if not all(isinstance(value, int | float) for value in metrics.values()):
            raise ValueError("metrics that are no numbers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint(
            "the run's result can't be read", where=path / RESULT, found=error
        ) from error
    return metrics
