"""The folder of a run: what is kept of it, and when.

    config.json                 settings, store and fingerprints
    metrics.jsonl               one line per epoch
    checkpoint/epoch-NNNN/      the newest state; see `checkpoint`
    tensorboard/                the same figures as events, if tensorboard is installed
    predictions.safetensors     scores of the validation windows by the weights that are reported
    held_out.safetensors        the same of the training windows held out, if there are any
    result.json                 final metrics and dropped segments; written last: it means done
    log.txt                     what the command logged

Promise: an existing run is never overwritten; every file but the log appears whole or not at all.
Of several processes one writes, and all read.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antcache.errors import AlreadyExists, BadCheckpoint, NotFound
from antcache.evaluation.predictions import FILE_NAME as PREDICTIONS
from antcache.evaluation.predictions import HELD_OUT, Predictions
from antcache.student.checkpoint import (
    AVERAGE,
    BEST,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from antcache.student.config import StudentConfig
from antcache.student.held_out import best_epoch
from antcache.student.loop import Trainer
from antcache.untrusted import read_json

log = logging.getLogger(__name__)

CONFIG, METRICS, RESULT, LOG = "config.json", "metrics.jsonl", "result.json", "log.txt"
CHECKPOINTS, EVENTS = "checkpoint", "tensorboard"


class RunFolder:
    """The folder of one run; use `RunFolder.locate`."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self._identity: dict[str, Any] = {}
        self._events: Any = None

    @classmethod
    def locate(cls, path: Path, *, resume: bool, writes: bool = True) -> RunFolder:
        """The folder of a new run (nothing is written yet), or of one to go on with.

        Args:
            path: the folder.
            resume: go on with the run there.
            writes: whether this process keeps the run; another only reads its checkpoint.

        Raises:
            AlreadyExists: something other than a log is there and `resume` is false.
            NotFound: `resume` is true and there is no run.
        """
        if resume and not (path / CONFIG).is_file():
            raise NotFound("no run to resume", where=path, hint="leave --resume out to start one")
        occupied = path.exists() and (
            not path.is_dir() or any(p.name != LOG for p in path.iterdir())
        )
        if occupied and not resume:
            raise AlreadyExists(
                "something is already here",
                where=path,
                hint="choose another run, or go on with this one: --resume",
            )
        return cls(path, writes=writes)

    def begin(
        self, account: Mapping[str, Any], trainer: Trainer, identity: Mapping[str, Any]
    ) -> tuple[int, list[dict[str, Any]]]:
        """Start or resume; returns the number of finished epochs and their records.

        Raises:
            BadCheckpoint: see `checkpoint.load_checkpoint`.
        """
        # Through JSON and back, as it is read from a checkpoint.
        self._identity = json.loads(json.dumps(dict(identity)))
        done, history = 0, list[dict[str, Any]]()
        newest = latest_checkpoint(self.path / CHECKPOINTS)
        if newest is not None:
            done, history = load_checkpoint(
                newest, trainer.model, trainer.optimiser, self._identity
            )
            if trainer.average is not None:
                trainer.average.load(load_weights(newest, AVERAGE, trainer.model))
            if trainer.config.held_out and best_epoch(history, trainer.config.metric):
                trainer.best = load_weights(newest, BEST, trainer.model)
            log.info("resumed after epoch %d of %d", done, trainer.config.epochs)
        if not self.writes:
            return done, history
        self.path.mkdir(parents=True, exist_ok=True)
        if newest is None:
            _write(self.path / CONFIG, json.dumps(account, indent=1))
        _write(self.path / METRICS, "".join(json.dumps(record) + "\n" for record in history))
        if done < trainer.config.epochs:
            self._events = _event_writer(self.path / EVENTS, purge_step=done + 1)
        return done, history

    def record(
        self, epoch: int, trainer: Trainer, history: list[dict[str, Any]], *, last: bool
    ) -> None:
        """Keep the record and, if it is due or the `last`, the state after `epoch`."""
        if not self.writes:
            return
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(history[-1]) + "\n")
        if self._events is not None:
            for name, value in _flat(history[-1]).items():
                self._events.add_scalar(name, value, epoch)
            self._events.flush()
        config = trainer.config
        if epoch % config.checkpoint_every == 0 or last:
            average = None if trainer.average is None else trainer.average.weights
            save_checkpoint(
                self.path / CHECKPOINTS,
                epoch,
                trainer.model,
                trainer.optimiser,
                self._identity,
                history,
                {AVERAGE: average, BEST: trainer.best},
            )

    def finish(
        self, predictions: Predictions, held_out: Predictions | None, result: Mapping[str, Any]
    ) -> None:
        """Keep predictions and result, unless the run was finished before."""
        if not self.writes:
            return
        if self._events is not None:
            self._events.close()
        if (self.path / RESULT).exists() and (self.path / PREDICTIONS).exists():
            log.info("the run was already finished")
            return
        if held_out is not None:
            held_out.save(self.path / HELD_OUT, overwrite=True)
        predictions.save(self.path / PREDICTIONS, overwrite=True)
        _write(self.path / RESULT, json.dumps(result, indent=1))


def read_config(path: Path) -> StudentConfig:
    """Settings of the run in the folder `path`.

    Raises:
        NotFound: there is no run.
        BadCheckpoint: its `config.json` can't be read.
    """
    file = path / CONFIG
    if not file.is_file():
        raise NotFound("no run here", where=path, hint="antcache student train --run starts one")
    try:
        return StudentConfig.from_dict(read_json(file)["student"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint("the run's settings can't be read", where=file, found=error) from error


def _event_writer(path: Path, *, purge_step: int) -> Any:
    """A TensorBoard writer, or None where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("no TensorBoard events: pip install 'antcache[train]'")
        return None
    return SummaryWriter(str(path), purge_step=purge_step)


def _flat(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's numbers as `train/loss`, `validation/action/top1`, ..."""
    scored = ("held_out", "validation")
    flat = {f"train/{k}": v for k, v in record.items() if k not in ("epoch", *scored)}
    for name in scored:
        flat |= {f"{name}/{k}": v for k, v in record.get(name, {}).items()}
    return flat


def _write(path: Path, text: str) -> None:
    """Write a text file, all at once."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_text(text, "utf-8")
    staged.replace(path)
