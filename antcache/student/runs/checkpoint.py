"""Checkpoints: weights, optimizer and history after an epoch, complete or not there.

Promise: a checkpoint is a folder `epoch-NNNN` of safetensors files (`weights`, `optimizer`, and
where the run keeps them the `average` of the weights and the weights of the `best` epoch) and
`state.json`, which appears as a whole; the one before it is removed only when the new one is on the
disk, so that a kill or a power cut at any time leaves a whole one. Loading refuses a checkpoint of
another configuration or shape, or of what the store no longer holds, and says which; one that was
kept before a setting existed has its default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from antcache.errors import BadCheckpoint
from antcache.files import atomic_folder, clear_leftovers
from antcache.files.disk import remove_folder
from antcache.store.format import difference
from antcache.student.config import StudentConfig, lifted, read_settings
from antcache.student.heads.head import ModelShape
from antcache.student.model import build_student
from antcache.student.training.fingerprints import in_words, is_fingerprint
from antcache.tensors import read_tensors, write_tensors
from antcache.untrusted import NotFetched, read_json

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
OLDER = "optimiser.safetensors"
"""The optimizer's file as earlier versions called it."""
AVERAGE, BEST = "average.safetensors", "best.safetensors"

Model = TypeVar("Model", bound=nn.Module)


def save_checkpoint(
    folder: Path,
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, Any],
    history: list[dict[str, Any]],
    others: Mapping[str, Mapping[str, Tensor] | None] | None = None,
) -> None:
    """Write the state after `epoch` epochs to `folder`, and remove older ones.

    Args:
        folder: the run's folder of checkpoints.
        epoch: number of finished epochs.
        model: whose weights are kept.
        optimizer: whose tensors are kept.
        identity: JSON-ready settings and fingerprints that a run which resumes must share.
        history: JSON-ready records of the epochs.
        others: further weights by file name, `AVERAGE` and `BEST`; None is not written.

    Raises:
        WriteFailed: the disk refused; what was there before is left.
    """
    state = {"epoch": epoch, "identity": dict(identity), "history": history}
    target = folder / f"epoch-{epoch:04d}"
    with atomic_folder(target) as staged:
        weights = {k: v.contiguous() for k, v in model.state_dict().items()}
        write_tensors(staged / WEIGHTS, weights)
        write_tensors(staged / OPTIMIZER, _optimizer_tensors(optimizer))
        for name, tensors in (others or {}).items():
            if tensors is not None:
                write_tensors(staged / name, {k: v.contiguous() for k, v in tensors.items()})
        (staged / STATE).write_text(json.dumps(state), "utf-8")
    drop_older(target)


def drop_older(newest: Path) -> None:
    """Remove what lies beside the `newest` checkpoint: older ones, and what killed writers left."""
    clear_leftovers(newest.parent)
    for other in newest.parent.glob("epoch-*"):
        if other != newest:
            remove_folder(other)  # what stays is not the latest


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the most epochs in `folder`, or None."""
    return max(folder.glob("epoch-*"), default=None)


def load_latest(folder: Path, load: Callable[[Path], Model]) -> Model | None:
    """What `load` makes of the checkpoint of the most epochs in `folder`; None if there is none.

    A training may save the next one at the same moment, and remove this one file by file: then it
    is called again, with that.

    Raises:
        BadCheckpoint: as `load` does of one that stays.
    """
    while (path := latest_checkpoint(folder)) is not None:
        try:
            made = load(path)
        except BadCheckpoint:
            if latest_checkpoint(folder) == path:
                raise
            continue
        if latest_checkpoint(folder) == path:
            return made
    return None


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: Mapping[str, Any],
) -> tuple[int, list[dict[str, Any]]]:
    """Bring `model` and `optimizer` to the state in `path`.

    Returns:
        Number of finished epochs, and their records.

    Raises:
        BadCheckpoint: it is damaged, of another configuration or shape, or the store holds
            something else than when the run began.
    """
    state = _read_state(path)
    # A setting that is newer than the run did not exist then: it had what is its default now. A
    # fingerprint that it did not keep is not asked for.
    standard = StudentConfig().values
    kept = {name: standard.get(name, value) for name, value in identity.items()}
    kept |= read_settings(lifted(state["identity"]))
    identity = read_settings(identity)
    differ = {name for name in {*kept, *identity} if kept.get(name) != identity.get(name)}
    settings = {name for name in differ if not is_fingerprint(name)}
    if settings:  # they may be why the windows differ, too
        then, now = ({k: v for k, v in each.items() if k in settings} for each in (kept, identity))
        raise BadCheckpoint(
            "the checkpoint is of another configuration",
            where=path,
            found=difference(then, now),
            hint="resume with the settings of the run, or start a new one",
        )
    if differ:
        raise BadCheckpoint(
            f"the store holds {in_words(differ)} than when the run began",
            where=path,
            hint="bring back what it held, or start a new run",
        )
    weights = _read_tensors(path / WEIGHTS)
    _compare(path / WEIGHTS, model.state_dict(), weights)
    older = (path / OLDER).exists()
    _load_optimizer(path / (OLDER if older else OPTIMIZER), optimizer)
    model.load_state_dict(weights)
    return state["epoch"], state["history"]


def load_weights(path: Path, name: str, model: nn.Module) -> dict[str, Tensor]:
    """Further weights of the checkpoint in `path`: the file `name`, `AVERAGE` or `BEST`.

    Raises:
        BadCheckpoint: the file is missing, damaged, or of another model than `model`.
    """
    weights = _read_tensors(path / name)
    _compare(path / name, dict(model.named_parameters()), weights)
    return weights


def load_whole(file: Path, model: nn.Module) -> None:
    """Give `model` all tensors of a file of weights that stands alone.

    Raises:
        BadCheckpoint: the file is missing, damaged, or of another model than `model`.
    """
    weights = _read_tensors(file)
    _compare(file, model.state_dict(), weights)
    model.load_state_dict(weights)


def check_shape(
    path: Path, config: StudentConfig, shape: ModelShape, *, name: str = WEIGHTS
) -> None:
    """Check that the weights `name` in `path` are of a student of a config, before room is made.

    Raises:
        BadCheckpoint: it is damaged, or of another student.
    """
    try:
        with torch.device("meta"):
            student = build_student(config, shape)
    except (NotImplementedError, RuntimeError):
        return  # a head of somebody's own may look at its weights; they are compared later, too
    compare_shapes(path / name, student.state_dict(), _read_tensors(path / name))


def load_reported(path: Path, model: nn.Module) -> None:
    """Give `model` the weights that the run of the checkpoint in `path` reports.

    They are those of its best epoch where videos are held out, else the average where one is kept,
    else the last ones.

    Raises:
        BadCheckpoint: a file is missing, damaged, or of another model than `model`.
    """
    newest = _read_tensors(path / WEIGHTS)
    _compare(path / WEIGHTS, model.state_dict(), newest)
    name = next((name for name in (BEST, AVERAGE) if (path / name).exists()), None)
    chosen = {} if name is None else load_weights(path, name, model)
    model.load_state_dict({**newest, **chosen})  # buffers stand with the newest weights alone


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of the i-th parameter as `i.name`."""
    return {
        f"{i}.{name}": value
        for i, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def _load_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _read_tensors(path).items():
        i, _, name = key.partition(".")
        number = int(i) if i.isdecimal() else len(parameters)
        if number >= len(parameters) or (value.ndim and value.shape != parameters[number].shape):
            raise BadCheckpoint(
                "the optimizer's state is of another shape",
                where=path,
                found=f"{key} {tuple(value.shape)}",
            )
        state.setdefault(number, {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def compare_shapes(path: Path, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Check that tensors or arrays of a file, `theirs`, have the names and shapes of `mine`.

    Raises:
        BadCheckpoint: they don't; the first one that differs is named.
    """
    for name in sorted({*mine, *theirs}):
        expected, found = (
            tuple(tensors[name].shape) if name in tensors else "no such tensor"
            for tensors in (mine, theirs)
        )
        if expected != found:
            raise BadCheckpoint(
                f"the checkpoint is of another shape: {name}",
                where=path,
                expected=expected,
                found=found,
            )


def _compare(path: Path, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """As `compare_shapes`, of tensors that also have to be of the same types.

    Raises:
        BadCheckpoint: they are not; another type would be rounded without a word.
    """
    compare_shapes(path, mine, theirs)
    for name, tensor in mine.items():
        if theirs[name].dtype != tensor.dtype:
            raise BadCheckpoint(
                f"the checkpoint is of another type: {name}",
                where=path,
                expected=str(tensor.dtype).removeprefix("torch."),
                found=str(theirs[name].dtype).removeprefix("torch."),
            )


def check_numbers(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Check that weights are numbers: with others there are no answers.

    Raises:
        BadCheckpoint: the first that are not are named.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise BadCheckpoint(
                "weights that are not finite (NaN or infinite)", where=path, found=name
            )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(path, framework="pt").tensors
    except ValueError as error:
        raise _damaged(path, error) from error


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = read_json(path / STATE)
        kinds = {"epoch": int, "identity": dict, "history": list}
        if any(type(state.get(name)) is not kind for name, kind in kinds.items()):
            raise ValueError("incomplete")
    except (OSError, ValueError, AttributeError) as error:
        raise _damaged(path / STATE, error) from error
    return dict(state)


def _damaged(path: Path, error: Exception) -> BadCheckpoint:
    if isinstance(error, NotFetched):
        return BadCheckpoint("the checkpoint can't be read", where=path, found=error)
    return BadCheckpoint(
        "the checkpoint can't be read",
        where=path,
        found=f"{type(error).__name__}: {error}",
        hint="it is damaged; train again in a new run",
    )
