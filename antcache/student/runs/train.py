"""Trains a student from a store: the one call behind `antcache student train` and the demo.

Promise: nothing is selected on the validation split. The last epoch is the one that is reported, or
the best one on training videos that are held out and never trained on. With a run folder
everything is kept there, and a run that was killed resumes to the same weights (bit for bit on a
CPU); without one nothing is written. Segments without a window are named.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from antcache import __version__
from antcache.annotations import Segments
from antcache.devices import pick_device, uses_bfloat16
from antcache.evaluation import Predictions, score
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.heads.table import check_known
from antcache.student.model import Student
from antcache.student.runs.folder import RunFolder
from antcache.student.runs.kept import CLASSES, SETTINGS, SOURCES
from antcache.student.runs.place import CONFIG
from antcache.student.scoring import Scores
from antcache.student.training.distributed import ALONE, Processes, own_device, processes
from antcache.student.training.held_out import best_epoch, hold_out
from antcache.student.training.loop import Trainer
from antcache.student.training.training_data import TrainingData, load_training_data

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to.

    Attributes:
        config: the run's settings.
        epoch: the epoch whose weights are reported: the best on the videos held out, else the last.
        history: one JSON-ready record per epoch: `epoch`, `lr`, the mean losses, `seconds`,
            `held_out` (metrics, percent, of the videos held out, if any), and `validation` where
            the epoch was scored.
        metrics: metrics of the validation windows by the weights that are reported; see
            `evaluation.score`.
        predictions: scores of the validation windows by these weights.
        held_out: scores of the training windows held out by these weights, or None.
        model: the trained student, with these weights.
        dropped: split -> reason -> uids of the segments without a window.
        counts: windows, padded windows, and soft targets found and masked.
        num_parameters: of the student.
        run_dir: where the run is kept, if anywhere.
        resumed_epoch: epochs that were already finished when this call began.
    """

    config: StudentConfig
    epoch: int
    history: list[dict[str, Any]]
    metrics: dict[str, float]
    predictions: Predictions
    held_out: Predictions | None
    model: Student = field(repr=False)
    dropped: Mapping[str, Mapping[str, tuple[str, ...]]] = field(repr=False)
    counts: Mapping[str, Any]
    num_parameters: int
    run_dir: Path | None
    resumed_epoch: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary, without history and scores."""
        return {
            "run": None if self.run_dir is None else str(self.run_dir),
            "epoch": self.epoch,
            "epochs": len(self.history),
            "resumed_epoch": self.resumed_epoch,
            "parameters": self.num_parameters,
            "counts": dict(self.counts),
            **self.predictions.task.to_dict(),
            "metrics": self.metrics,
            "held_out": self.history[self.epoch - 1].get("held_out"),
            "dropped": {
                split: {why: list(uids) for why, uids in reasons.items()}
                for split, reasons in self.dropped.items()
            },
            "config": self.config.to_dict(),
        }


def train(
    store: Store,
    run_dir: str | Path | None,
    config: StudentConfig,
    *,
    resume: bool = False,
    progress: Progress = silent,
) -> RunResult:
    """Train a student on the store's labels, features and, if configured, soft targets.

    Started by torchrun, all processes train the one student together; see `distributed`.

    Args:
        store: where everything is read from.
        run_dir: folder of the run, made here; None keeps nothing.
        config: what is trained, and how.
        resume: go on with the run in `run_dir`; a finished one is only read.
        progress: called with `training steps`, `epochs` and, per split, `windows` read.

    Raises:
        AlreadyExists: `run_dir` holds something and `resume` is false, or another process trains
            there.
        NotFound: `resume` is true and there is no run.
        BadCheckpoint: the checkpoint is damaged, or of another configuration or shape, or the store
            holds something else than when the run began.
        NotFinite: the loss is not finite.
        WriteFailed: the disk refused; what was kept can be resumed.
        MissingKey, MissingFeature, MissingTarget, FingerprintMismatch, BadConfig: see
            `training_data.load_training_data` and `held_out.hold_out`.
    """
    group = processes(config.runtime.device)
    with ExitStack() as stack:
        folder = None
        if run_dir is not None:
            folder = stack.enter_context(
                RunFolder.open(Path(run_dir), resume=resume, writes=group.first)
            )
        if run_dir is not None and resume:
            check_known(config.model.head, Path(run_dir) / CONFIG)
        group.wait()  # nobody writes before all have looked
        device = pick_device(own_device(config.runtime.device, group))
        data = load_training_data(store, config, device, progress)
        run = Run(store, folder, config, data, group)
        while not run.over:
            started = time.perf_counter()
            means = run.trainer.train_epoch(run.epoch + 1, progress)
            run.record(means, time.perf_counter() - started)
            progress("epochs", run.epoch, config.optimization.epochs)
        return run.finish()


class Run:
    """A run in progress: its trainer, its folder, and what is done after each epoch.

    Args:
        store: where the labels are read from.
        folder: where the run is kept, begun or resumed here; None keeps nothing.
        config: the run's settings.
        data: what it learns from.
        group: the processes that train together.

    Attributes:
        trainer: the student and its optimizer.
        history: the records of the epochs so far.

    Raises:
        BadCheckpoint: see `train`.
        BadConfig: see `held_out.hold_out`.
    """

    def __init__(
        self,
        store: Store,
        folder: RunFolder | None,
        config: StudentConfig,
        data: TrainingData,
        group: Processes = ALONE,
    ) -> None:
        self.config = config
        self.data = data
        self.folder = folder
        labels = store.labels(config.data.train_split)
        choices = data.train.choices
        uid = data.train.labels.uid[choices.first.numpy()]
        rows, held = hold_out(uid, labels, data.taxonomy, config.selection)
        self.held = None if held is None else held.scored(choices.own)
        if self.held is not None:
            log.info(
                "held out of training: %d of %d segments, videos %s",
                len(self.held.rows),
                len(choices),
                ", ".join(self.held.videos),
            )
        self.trainer = Trainer(config, data.train, data.shape, rows=rows, group=group)
        self.num_parameters = sum(p.numel() for p in self.trainer.model.parameters())
        log.info(
            "%s head: %d parameters on %s",
            config.model.head,
            self.num_parameters,
            self.trainer.device,
        )
        self.resumed_epoch = 0
        self.history: list[dict[str, Any]] = []
        if folder is not None:
            identity = {**config.identity, **data.fingerprints}
            # What `auto` came to: another device that computes in another precision can't go on.
            bfloat16 = uses_bfloat16(config.runtime.precision, self.trainer.device)
            identity["computed in"] = "bfloat16" if bfloat16 else "float32"
            account = _account(store, config, data)
            account["computed in"] = identity["computed in"]
            if self.held is not None:
                account["held out"] = list(self.held.videos)
            self.resumed_epoch, self.history = folder.begin(account, self.trainer, identity)

    @property
    def epoch(self) -> int:
        """Epochs that are finished."""
        return len(self.history)

    @property
    def over(self) -> bool:
        """Whether all epochs are trained, or none was better for too long."""
        patience = self.config.selection.patience
        if patience is not None and self.epoch - self._best() >= patience:
            return True
        return self.epoch >= self.config.optimization.epochs

    def _best(self) -> int:
        """The epoch whose weights are reported."""
        if self.held is None:
            return self.epoch
        return best_epoch(self.history, self.config.selection.metric)

    def record(self, means: Mapping[str, float], seconds: float) -> None:
        """Score the epoch that was trained in `seconds` if it is due, and keep it."""
        trainer, config, epoch = self.trainer, self.config, self.epoch + 1
        lr = trainer.optimizer.param_groups[0]["lr"]
        record: dict[str, Any] = {"epoch": epoch, "lr": lr, **means, "seconds": seconds}
        self.history.append(record)
        if self.held is not None:
            scores = trainer.predict(self.data.train, self.held.rows)
            record["held_out"] = self._score(scores, self.held.segments)
            if self._best() == epoch:
                trainer.keep_best()
        if epoch % config.runtime.evaluate_every == 0 or self.over:
            scores = trainer.predict(self.data.validation)
            record["validation"] = self._score(scores, self.data.segments)
        metric = config.selection.metric
        top5 = record.get("validation", {}).get("action/top5")
        log.info(
            "epoch %d of %d: loss %.4f%s%s (%.1f s)",
            epoch,
            config.optimization.epochs,
            record["loss"],
            "" if self.held is None else f", held out {record['held_out'][metric]:.2f} %",
            "" if top5 is None else f", validation top-5 {top5:.2f} %",
            seconds,
        )
        if self.folder is not None:
            self.folder.record(epoch, trainer, self.history, last=self.over)

    def finish(self) -> RunResult:
        """Score the weights that are reported and keep what there is to keep."""
        trainer, data = self.trainer, self.data
        trainer.take_reported_weights()
        scores = trainer.predict(data.validation)
        held = None
        if self.held is not None:
            held = self._predictions(
                trainer.predict(data.train, self.held.rows),
                self.held.segments,
                self.config.data.train_split,
            )
        result = RunResult(
            config=self.config,
            epoch=self._best(),
            history=self.history,
            metrics=self._score(scores, data.segments),
            predictions=self._predictions(scores, data.segments, self.config.data.validation_split),
            held_out=held,
            model=trainer.model,
            dropped=data.dropped,
            counts=data.counts,
            num_parameters=self.num_parameters,
            run_dir=None if self.folder is None else self.folder.path,
            resumed_epoch=self.resumed_epoch,
        )
        if self.folder is not None:
            self.folder.finish(result.predictions, held, result.to_dict())
        return result

    def _score(self, scores: Scores, segments: Segments) -> dict[str, float]:
        return score(scores.action, segments, self.data.taxonomy, verb_noun_scores=scores.own)

    def _predictions(self, scores: Scores, segments: Segments, split: str) -> Predictions:
        return Predictions(
            uid=segments.uid,
            moment=segments.moments(),
            scores=scores.action,
            verb_scores=scores.verb,
            noun_scores=scores.noun,
            split=split,
            taxonomy=self.data.taxonomy.fingerprint,
            config=self.config.to_dict(),
            anchor=self.data.protocol.anchor,
            gap_s=self.data.protocol.gap_s,
        )


def _account(store: Store, config: StudentConfig, data: TrainingData) -> dict[str, Any]:
    """What `config.json` says about a run."""
    return {
        "version": __version__,
        "store": str(store.path),
        "student": config.to_dict(),
        "stream": ",".join(stream.name for stream in data.streams),
        SETTINGS: [stream.settings for stream in data.streams],
        SOURCES: [stream.source for stream in data.streams],
        CLASSES: data.taxonomy.to_dict(),
        "protocol": vars(data.protocol),
        "shape": asdict(data.shape),
        "counts": data.counts,
        **data.fingerprints,
    }
