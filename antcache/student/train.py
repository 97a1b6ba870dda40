"""Trains a student from a store: the one call behind `antcache student train` and the demo.

Promise: the last epoch is the one that is reported; nothing is selected on the validation split.
With a run folder everything is kept there, and a run that was killed resumes to the same weights
(bit for bit on a CPU); without one nothing is written. Segments without a window are named.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antcache import __version__
from antcache.devices import pick_device
from antcache.evaluation import Predictions, score
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.heads import Head
from antcache.student.loop import Trainer
from antcache.student.problem import Problem, load_problem
from antcache.student.runs import RunFolder

log = logging.getLogger(__name__)

NOT_IDENTITY = ("device", "windows", "evaluate_every", "checkpoint_every")
"""Settings that a resumed run may change: they do not change what is learned."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to.

    Attributes:
        config: the run's settings.
        history: one JSON-ready record per epoch: `epoch`, `lr`, the mean losses, `seconds`, and
            `validation` (metrics, percent) where the epoch was scored.
        metrics: metrics of the validation windows after the last epoch; see `evaluation.score`.
        predictions: scores of the validation windows after the last epoch.
        model: the trained head.
        dropped: split -> reason -> uids of the segments without a window.
        counts: windows, padded windows, and soft targets found and masked.
        num_parameters: of the head.
        run_dir: where the run is kept, if anywhere.
        resumed_epoch: epochs that were already finished when this call began.
    """

    config: StudentConfig
    history: list[dict[str, Any]]
    metrics: dict[str, float]
    predictions: Predictions
    model: Head = field(repr=False)
    dropped: Mapping[str, Mapping[str, tuple[str, ...]]] = field(repr=False)
    counts: Mapping[str, Any]
    num_parameters: int
    run_dir: Path | None
    resumed_epoch: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary, without history and scores."""
        return {
            "run": None if self.run_dir is None else str(self.run_dir),
            "epoch": self.config.epochs,
            "resumed_epoch": self.resumed_epoch,
            "parameters": self.num_parameters,
            "counts": dict(self.counts),
            "metrics": self.metrics,
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

    Args:
        store: where everything is read from.
        run_dir: folder of the run, made here; None keeps nothing.
        config: what is trained, and how.
        resume: go on with the run in `run_dir`; a finished one is only read.
        progress: called with `training steps` and, per split, `windows` read.

    Raises:
        AlreadyExists: `run_dir` holds something and `resume` is false.
        NotFound: `resume` is true and there is no run.
        BadCheckpoint: the checkpoint is damaged, or of another configuration or shape.
        NotFinite: the loss is not finite.
        MissingKey, MissingFeature, MissingTarget, FingerprintMismatch, BadConfig: see
            `problem.load_problem`.
    """
    folder = None if run_dir is None else RunFolder.locate(Path(run_dir), resume=resume)
    problem = load_problem(store, config, pick_device(config.device), progress)
    trainer = Trainer(config, problem.train, len(problem.taxonomy.actions))
    num_parameters = sum(p.numel() for p in trainer.model.parameters())
    log.info("%s head: %d parameters on %s", config.head, num_parameters, trainer.device)

    done = 0
    history: list[dict[str, Any]] = []
    if folder is not None:
        identity = {**config.to_dict(), **problem.fingerprints}
        identity = {k: v for k, v in identity.items() if k not in NOT_IDENTITY}
        done, history = folder.begin(_account(store, config, problem), trainer, identity)
    for epoch in range(done + 1, config.epochs + 1):
        history.append(_epoch(trainer, problem, epoch, progress))
        if folder is not None:
            folder.record(epoch, trainer, history)
    scores = trainer.predict(problem.validation)
    predictions = Predictions(
        uid=problem.validation.uid,
        scores=scores,
        split=config.validation_split,
        taxonomy=problem.taxonomy.fingerprint,
        config=config.to_dict(),
    )
    result = RunResult(
        config=config,
        history=history,
        metrics=score(scores, problem.segments, problem.taxonomy),
        predictions=predictions,
        model=trainer.model,
        dropped=problem.dropped,
        counts=problem.counts,
        num_parameters=num_parameters,
        run_dir=None if folder is None else folder.path,
        resumed_epoch=done,
    )
    if folder is not None:
        folder.finish(predictions, result.to_dict())
    return result


def _epoch(trainer: Trainer, problem: Problem, epoch: int, progress: Progress) -> dict[str, Any]:
    """Train one epoch, score it if it is due, and give its record."""
    config = trainer.config
    started = time.perf_counter()
    means = trainer.train_epoch(epoch, progress)
    record: dict[str, Any] = {"epoch": epoch, "lr": trainer.optimiser.param_groups[0]["lr"]}
    record |= {**means, "seconds": time.perf_counter() - started}
    if epoch % config.evaluate_every == 0 or epoch == config.epochs:
        scores = trainer.predict(problem.validation)
        record["validation"] = score(scores, problem.segments, problem.taxonomy)
    top5 = record.get("validation", {}).get("action/top5")
    log.info(
        "epoch %d of %d: loss %.4f%s (%.1f s)",
        epoch,
        config.epochs,
        record["loss"],
        "" if top5 is None else f", validation top-5 {top5:.2f} %",
        record["seconds"],
    )
    return record


def _account(store: Store, config: StudentConfig, problem: Problem) -> dict[str, Any]:
    """What `config.json` says about a run."""
    return {
        "version": __version__,
        "store": str(store.path),
        "student": config.to_dict(),
        "stream": problem.stream.name,
        "protocol": vars(problem.protocol),
        "counts": problem.counts,
        **problem.fingerprints,
    }
