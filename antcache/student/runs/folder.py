"""The folder of a run as it is trained: what is kept, and when; `place` has the names.

Promise: an existing run is never overwritten; every file but the log and the lines of
`metrics.jsonl` appears whole or not at all, and those lines are written anew when a run is resumed.
Killed at any time, or met by a full disk, a folder is that of a new run or can be resumed. One
process trains in a folder at a time; of several that train together one writes, and all read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from antcache.evaluation.predictions import FILE_NAME as PREDICTIONS
from antcache.evaluation.predictions import HELD_OUT, Predictions
from antcache.files import (
    LOCK,
    atomic_file,
    clear_leftovers,
    writing,
)
from antcache.files.disk import make_folders
from antcache.files.locks import exclusively, hold
from antcache.hub import first_line
from antcache.student.runs.checkpoint import (
    AVERAGE,
    BEST,
    drop_older,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from antcache.student.runs.events import Events, import_tensorboard
from antcache.student.runs.place import (
    CHECKPOINTS,
    CONFIG,
    EVENTS,
    METRICS,
    RESULT,
    check_place,
)
from antcache.student.training.held_out import best_epoch
from antcache.student.training.loop import Trainer

log = logging.getLogger(__name__)


class RunFolder:
    """The folder of one run; use `RunFolder.open` to train in it."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self._identity: dict[str, Any] = {}
        self._events: Events | None = None

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, resume: bool, writes: bool = True) -> Iterator[RunFolder]:
        """The folder of a new run (nothing is written yet), or of one to go on with.

        No other process trains there until the context ends.

        Args:
            path: the folder.
            resume: go on with the run there.
            writes: whether this process keeps the run; another only reads its checkpoint.

        Raises:
            AlreadyExists: another process does; see also `place.check_place`.
            WriteFailed: the disk refused.
        """
        with ExitStack() as stack:
            if writes:
                busy, hint = "another process is training this run", "choose another run"
                stack.enter_context(exclusively(path / LOCK, busy, where=path, hint=hint))
            check_place(path, resume=resume)
            yield cls(path, writes=writes)

    def begin(
        self, account: Mapping[str, Any], trainer: Trainer, identity: Mapping[str, Any]
    ) -> tuple[int, list[dict[str, Any]]]:
        """Start or resume; returns the number of finished epochs and their records.

        Raises:
            BadCheckpoint: see `checkpoint.load_checkpoint`.
            WriteFailed: the disk refused.
        """
        # Through JSON and back, as it is read from a checkpoint.
        self._identity = json.loads(json.dumps(dict(identity)))
        done, history = 0, list[dict[str, Any]]()
        newest = latest_checkpoint(self.path / CHECKPOINTS)
        if newest is not None:
            done, history = load_checkpoint(
                newest, trainer.model, trainer.optimizer, self._identity
            )
            if trainer.average is not None:
                trainer.average.load(load_weights(newest, AVERAGE, trainer.model))
            chosen = trainer.config.selection
            if chosen.held_out and best_epoch(history, chosen.metric):
                trainer.best = load_weights(newest, BEST, trainer.model)
            log.info("resumed after epoch %d of %d", done, trainer.config.optimization.epochs)
        if not self.writes:
            return done, history
        with writing(self.path):
            make_folders(self.path)
        if newest is not None:
            drop_older(newest)
        else:
            _write(self.path / CONFIG, json.dumps(account, indent=1))
        _write(self.path / METRICS, "".join(json.dumps(record) + "\n" for record in history))
        if done < trainer.config.optimization.epochs:
            self._events = _new_events(self.path / EVENTS, done + 1)
        return done, history

    def record(
        self, epoch: int, trainer: Trainer, history: list[dict[str, Any]], *, last: bool
    ) -> None:
        """Keep the record and, if it is due or the `last`, the state after `epoch`.

        Raises:
            WriteFailed: the disk refused; the run can be resumed.
        """
        if not self.writes:
            return
        metrics, events = self.path / METRICS, self.path / EVENTS
        with writing(metrics), metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(history[-1]) + "\n")
        if self._events is not None:
            with writing(events):
                self._events.add(epoch, _flat(history[-1]))
        config = trainer.config
        if epoch % config.runtime.checkpoint_every == 0 or last:
            average = None if trainer.average is None else trainer.average.weights
            save_checkpoint(
                self.path / CHECKPOINTS,
                epoch,
                trainer.model,
                trainer.optimizer,
                self._identity,
                history,
                {AVERAGE: average, BEST: trainer.best},
            )

    def finish(
        self, predictions: Predictions, held_out: Predictions | None, result: Mapping[str, Any]
    ) -> None:
        """Keep predictions and result, unless the run was finished before.

        Raises:
            WriteFailed: the disk refused; the run can be resumed.
        """
        if not self.writes:
            return
        if (self.path / RESULT).exists() and (self.path / PREDICTIONS).exists():
            log.info("the run was already finished")
            return
        if held_out is not None:
            held_out.save(self.path / HELD_OUT, overwrite=True)
        predictions.save(self.path / PREDICTIONS, overwrite=True)
        _write(self.path / RESULT, json.dumps(result, indent=1))


def tidy(path: Path) -> None:
    """Remove what a process left in the folder of a finished run that was killed in the end."""
    with suppress(OSError), hold(path / LOCK) as ours:  # a folder may be for reading only
        if ours:
            clear_leftovers(path)


def _new_events(path: Path, first_epoch: int) -> Events | None:
    """A file of TensorBoard events, or None where tensorboard can't be imported."""
    try:
        import_tensorboard()
    except Exception as error:  # the figures are in METRICS too: no reason to stop
        reason = f"{type(error).__name__}: {first_line(error)}"
        log.info("no TensorBoard events (%s): pip install 'antcache[train]'", reason)
        return None
    with writing(path):
        return Events(path, first_epoch=first_epoch)


def _flat(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's numbers as `train/loss`, `validation/action/top1`, ..."""
    scored = ("held_out", "validation")
    flat = {f"train/{k}": v for k, v in record.items() if k not in ("epoch", *scored)}
    for name in scored:
        flat |= {f"{name}/{k}": v for k, v in record.get(name, {}).items()}
    return flat


def _write(path: Path, text: str) -> None:
    """Write a text file, all at once."""
    with atomic_file(path, overwrite=True) as staged:
        staged.write_text(text, "utf-8")
