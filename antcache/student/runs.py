"""The folder of a run: what is kept of it, and when.

    config.json                 settings, store and fingerprints
    metrics.jsonl               one line per epoch
    checkpoint/epoch-NNNN/      the newest state; see `checkpoint`
    tensorboard/                the same figures as events, if tensorboard is installed
    predictions.safetensors     scores of the validation windows after the last epoch
    result.json                 final metrics and dropped segments; written last: it means done
    log.txt                     what the command logged

Promise: an existing run is never overwritten; every file but the log appears whole or not at all.
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
from antcache.evaluation.predictions import Predictions
from antcache.student.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from antcache.student.config import StudentConfig
from antcache.student.loop import Trainer

log = logging.getLogger(__name__)

CONFIG, METRICS, RESULT, LOG = "config.json", "metrics.jsonl", "result.json", "log.txt"
CHECKPOINTS, EVENTS = "checkpoint", "tensorboard"


class RunFolder:
    """The folder of one run; use `RunFolder.locate`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: dict[str, Any] = {}
        self._events: Any = None

    @classmethod
    def locate(cls, path: Path, *, resume: bool) -> RunFolder:
        """The folder of a new run (nothing is written yet), or of one to go on with.

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
        return cls(path)

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
            log.info("resumed after epoch %d of %d", done, trainer.config.epochs)
        self.path.mkdir(parents=True, exist_ok=True)
        if newest is None:
            _write(self.path / CONFIG, json.dumps(account, indent=1))
        _write(self.path / METRICS, "".join(json.dumps(record) + "\n" for record in history))
        if done < trainer.config.epochs:
            self._events = _event_writer(self.path / EVENTS, purge_step=done + 1)
        return done, history

    def record(self, epoch: int, trainer: Trainer, history: list[dict[str, Any]]) -> None:
        """Keep the record and, if it is due, the state after `epoch`."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(history[-1]) + "\n")
        if self._events is not None:
            for name, value in _flat(history[-1]).items():
                self._events.add_scalar(name, value, epoch)
            self._events.flush()
        config = trainer.config
        if epoch % config.checkpoint_every == 0 or epoch == config.epochs:
            save_checkpoint(
                self.path / CHECKPOINTS,
                epoch,
                trainer.model,
                trainer.optimiser,
                self._identity,
                history,
            )

    def finish(self, predictions: Predictions, result: Mapping[str, Any]) -> None:
        """Keep predictions and result, unless the run was finished before."""
        if self._events is not None:
            self._events.close()
        if (self.path / RESULT).exists() and (self.path / PREDICTIONS).exists():
            log.info("the run was already finished")
            return
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
        return StudentConfig.from_dict(json.loads(file.read_text("utf-8"))["student"])
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
    losses = {f"train/{k}": v for k, v in record.items() if k not in ("epoch", "validation")}
    return losses | {f"validation/{k}": v for k, v in record.get("validation", {}).items()}


def _write(path: Path, text: str) -> None:
    """Write a text file, all at once."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_text(text, "utf-8")
    staged.replace(path)
