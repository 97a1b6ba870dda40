"""What makes a language-model teacher good? The paper's ablation on MiniLM and EPIC-KITCHENS-55.

    python benchmarks/ablation.py [--record] [--only NAME] [--seeds N] [--threads N] [--work FOLDER]

One thing is changed at a time, complete histories, scored on the validation split; three seeds,
mean and deviation. The base reads the last 5 actions as natural text, is adapted to the recipes of
the test data, has factorised logits and verb and noun losses beside the action's, and no recency
memory, which would see further back than the text does. It is trained for one epoch (the teachers
of `teachers.py` for three), so that all of this takes hours and not a day on a CPU, with smaller
batches and higher rates, chosen on training videos held out.

- weights: random, pretrained, adapted
- actions read as text: 1, 2, 5, 10, 15, 20
- losses: action, verb and noun, or the action's alone
- logits: factorised, or the action's own
- text: natural, or the paper's
- targets of the training split: in-sample, or cross-fitted on two folds of videos. Here the figures
  are those of the targets on the training segments: what a student would be told about them.

Trainings are kept in the work folder, as those of `benchmarks/teachers.py`, so that the benchmark
goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import Figure, finish
from teacher_runs import EK55, METRICS, WORK, TeacherRun, figures, metrics, outcome, timeline

from antcache.evaluation.metrics import score

BASE: dict[str, Any] = {
    "model": "adapted",
    "attended": 5,
    "memory": False,
    "epochs": 1,
    "batch": 32,
    "lr": 2e-4,
    "head_lr": 3e-3,
    "held_out": 0.0,
    "dropout": 0.3,
    "warmup": 0.2,
    "weight_decay": 0.05,
}
CHANGES: dict[str, dict[str, Any]] = {
    "weights: random": {"model": "minilm", "init": "random"},
    "weights: pretrained": {"model": "minilm"},
    "weights: adapted": {},
    **{f"actions read: {n}": {"attended": n} for n in (1, 2, 5, 10, 15, 20)},
    "losses: action alone": {"verb_weight": 0.0, "noun_weight": 0.0},
    "logits: not factorised": {"factorized": False},
    "text: the paper's": {"form": "paper"},
}
TARGETS = ("targets: in-sample", "targets: cross-fitted")


def run_of(change: dict[str, Any], seed: int, training: str = "") -> TeacherRun:
    """The run behind a figure; the base, which several rows share, scores its training split."""
    settings = {**BASE, **change}
    return TeacherRun(
        dataset=EK55,
        kind="language",
        history="complete",
        seed=seed,
        settings=settings,
        training=training or ("in-sample" if settings == BASE else ""),
    )


def on_training(name: str, seed: int, work: Path) -> list[float]:
    """The dataset's metrics of the training split's targets."""
    line = timeline(EK55)
    segments = line.segments[line.split == "train"]
    run = run_of({}, seed, "in-sample" if name == TARGETS[0] else "cross-fitted")
    found = score(outcome(run, work).training, segments, line.taxonomy)
    return [found[key] for key in METRICS[EK55].values()]


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--only", choices=[*CHANGES, *TARGETS], help="only this row")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each row")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--work", type=Path, default=WORK, help="where trainings are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    made: list[Figure] = []
    for name in [arguments.only] if arguments.only else [*CHANGES, *TARGETS]:
        values = []
        for seed in range(arguments.seeds):
            if name in TARGETS:
                values.append(on_training(name, seed, arguments.work))
            else:
                found = outcome(run_of(CHANGES[name], seed), arguments.work)
                values.append(metrics(EK55, found.validation))
        made += figures(name, EK55, np.asarray(values).tolist())
    finish("ablation", made, record=arguments.record)


if __name__ == "__main__":
    main()
