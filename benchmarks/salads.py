"""Is distillation from text worth anything on scores of a REAL recogniser? 50 Salads, five folds.

    python benchmarks/salads.py [--record] [--fold N] [--seeds N] [--epochs N] [--work FOLDER]

Labels, times, splits and per-frame scores are real (`salads_data.py`): 50 videos, and the scores of
a frame-wise SVM of 2016. Asked for is the action that begins a second later, one of 17, wherever
there is anything to be seen by then; figures are of all five folds together. All is chosen on the
training videos of each fold, split by split, by the mean reciprocal rank of one seed.

Students see a `window` of scores, or one row of a `memory` of all scores so far; of each:

- labels alone; smoothing: the settings of ours without a teacher, with label smoothing of equal
  entropy; paper: settings of labels alone, in-sample targets of the sequence teacher, and the
  paper's temperature and weight; ours: cross-fitted targets of the count teacher, or joint ones;
  shuffled: ours, targets permuted over the training segments, which must not help.

Without a student (`salads_rivals.py`):

- HMM: the forward filter over the scores, the honest simple rival.
- teacher: the count teacher with true histories; with 25 and 50 % of the past labels wrong; and
  with histories that are recognised from the scores: `runs` of what the filter holds likeliest, or
  `guessed` by `antcache.teacher.recognizing`.
- fused: a student with the teacher of guessed histories; the weight is fitted on the training
  videos of the fold, to what was trained without them.

Intervals are of the mean gain over seeds, by videos (paired bootstrap, 1,000 draws, each seed's
gain on the same draw). What is trained is kept in the work folder, so that the benchmark goes on
where it was stopped; with `--fold`, only that fold is trained and nothing compared.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import salads_runs
import torch
from numpy.typing import NDArray
from record import Figure, finish
from salads_data import folds
from salads_rivals import Floats, rivals
from salads_runs import (
    OURS,
    PLAIN,
    SMOOTHING,
    TRIALS,
    Settings,
    asked_without,
    choose,
    conditions,
    inner_rows,
    pair,
    student,
)
from teacher_runs import WORK

from antcache.annotations import Segments
from antcache.evaluation.bootstrap import Resamples, difference
from antcache.evaluation.fusion import fit_weights, mix
from antcache.evaluation.metrics import Metric, mean_and_error, true_class_ranks

METRICS = {
    "top-1": Metric(kind="action", k=1),
    "top-5": Metric(kind="action", k=5),
    "class-mean top-1": Metric(kind="action", k=1, class_mean=True),
}
GUESSED = "teacher, history guessed"
COMPARED = (
    *(
        (f"{family}: {name}", f"{family}: {PLAIN}")
        for family in TRIALS
        for name in (OURS, SMOOTHING)
    ),
    *((f"{family}: {OURS}", f"{family}: {SMOOTHING}") for family in TRIALS),
    *(
        (f"{family}: {name}", f"{family}: {PLAIN}")
        for family in TRIALS
        for name in ("paper", "shuffled")
    ),
    (f"memory: {PLAIN}", f"window: {PLAIN}"),
    *((f"{family}: {OURS}, fused", f"{family}: {OURS}") for family in TRIALS),
    (f"memory: {PLAIN}, fused", f"memory: {PLAIN}"),
    *((f"memory: {OURS}, fused", other) for other in (GUESSED, "HMM")),
)
"""Conditions whose gain over another one is told."""
REQUIRED = {
    f"memory: {OURS}, fused": 38.0,
}
"""Least top-1."""
Said = dict[str, list[Floats]]
"""Scores (N, C) by condition, one for each seed; of what has no seed, one."""


def chosen(work: Path, fold: int, numbers: list[int]) -> dict[str, dict[str, Settings]]:
    """Settings by family and condition, chosen on a fold's training videos."""
    found = {}
    for family, trials in TRIALS.items():
        plain = choose(work, fold, numbers, trials[PLAIN], {})
        found[family] = {PLAIN: plain, OURS: choose(work, fold, numbers, trials[OURS], plain)}
    return found


def of_fold(work: Path, fold: int, numbers: list[int], seeds: int) -> Said:
    """All that is said of the test segments of a fold."""
    settings = chosen(work, fold, numbers)
    said: Said = {}
    for seed in range(seeds):  # seed by seed: what is stopped has fewer of all
        for family, own in settings.items():
            for name, each in conditions(work, fold, own[PLAIN], own[OURS]).items():
                scores = student(work, (fold,), each, seed).astype(np.float64)
                said.setdefault(f"{family}: {name}", []).append(scores)
    others = rivals(work, (fold,))
    said |= {name: [scores] for name, scores in others.items() if not name.startswith(GUESSED)}
    return said | fused(work, fold, numbers, settings, said)


def fused(
    work: Path, fold: int, numbers: list[int], settings: dict[str, dict[str, Settings]], said: Said
) -> Said:
    """The teacher of guessed histories, by the trust that is best, and students with it."""
    inner = {pair(fold, g): inner_rows(work, fold, g) for g in numbers if g != fold}
    truth = np.concatenate([asked_without(work, h).action[own] for h, own in inner.items()])

    def trained(trust: str) -> Floats:
        return np.concatenate([rivals(work, held)[trust][own] for held, own in inner.items()])

    trusts = [name for name in rivals(work, (fold,)) if name.startswith(GUESSED)]
    best = max(trusts, key=lambda name: -np.log(1 + true_class_ranks(trained(name), truth)).mean())
    teacher = rivals(work, (fold,))[best]
    found: Said = {GUESSED: [teacher]}
    for family, own in settings.items():
        for name in (PLAIN, OURS):
            held_out = np.concatenate(
                [student(work, held, own[name], 0)[rows] for held, rows in inner.items()]
            )
            weights, _ = fit_weights([held_out, trained(best)], truth, mixture="probabilities")
            print(f"fold {fold}, {family}: {name}, fused: {weights.round(2)}, {best}", flush=True)
            found[f"{family}: {name}, fused"] = [
                mix([scores, teacher], weights, "probabilities")
                for scores in said[f"{family}: {name}"]
            ]
    return found


def figures(ranks: dict[str, NDArray[np.int64]], segments: Segments) -> list[Figure]:
    """What every condition comes to: `ranks` (seeds, N)."""
    made = []
    for name, own in ranks.items():
        for metric, how in METRICS.items():
            values = [how.value(each, segments.action) for each in own]
            several = len(values) > 1
            made.append(
                Figure(
                    figure=f"{name}: {metric}",
                    value=round(float(np.mean(values)), 3),
                    unit="percent",
                    at_least=REQUIRED.get(name) if metric == "top-1" else None,
                    spread=round(mean_and_error(values)[1], 3) if several else None,
                    n=len(values),
                )
            )
        print(f"{name}: " + " / ".join(f"{f.value:.2f}" for f in made[-len(METRICS) :]), flush=True)
    return made


def gains(ranks: dict[str, NDArray[np.int64]], segments: Segments) -> list[Figure]:
    """What conditions gain over others, with intervals by videos."""
    made = []
    resamples = Resamples.of(segments.video, 1000)
    drawn = {
        (name, metric): resamples.values(how, ranks[name], segments.action).mean(axis=0)
        for name in dict.fromkeys(itertools.chain(*COMPARED))
        for metric, how in METRICS.items()
    }
    for name, over in COMPARED:
        for metric, how in METRICS.items():
            label = f"{name} over {over}, {metric}"
            both = [[how.value(r, segments.action) for r in ranks[who]] for who in (name, over)]
            gain = float(np.mean(both[0]) - np.mean(both[1]))
            found = difference(gain, drawn[name, metric] - drawn[over, metric])
            values = {
                "gain": gain,
                "gain, lower end by video": found.low,
                "gain, upper end by video": found.high,
                "relative gain": 100 * gain / float(np.mean(both[1])),
            }
            print(
                f"{label}: {gain:+.2f} ({values['relative gain']:+.1f} %), "
                f"by video {found.low:+.2f} to {found.high:+.2f}",
                flush=True,
            )
            made += [
                Figure(figure=f"{label}: {k}", value=round(v, 3), unit="percent", n=len(both[0]))
                for k, v in values.items()
            ]
    return made


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--fold", type=int, help="train this one alone")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each condition")
    parser.add_argument("--epochs", type=int, help="of each training")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--work", type=Path, default=WORK / "salads", help="kept trainings")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.epochs:
        salads_runs.BASE = salads_runs.BASE.replace(epochs=arguments.epochs)
    numbers = folds()
    if arguments.fold is not None:
        of_fold(arguments.work, arguments.fold, numbers, arguments.seeds)
        return
    by_fold = [of_fold(arguments.work, fold, numbers, arguments.seeds) for fold in numbers]
    parts = [asked_without(arguments.work, (fold,)) for fold in numbers]
    segments = Segments.of(
        **{
            name: np.concatenate([part.arrays()[name] for part in parts])
            for name in parts[0].arrays()
        }
    )
    ranks = {
        name: np.stack(
            [
                true_class_ranks(np.concatenate(seed), segments.action)
                for seed in zip(*(said[name] for said in by_fold), strict=True)
            ]
        )
        for name in by_fold[0]
    }
    made = [*figures(ranks, segments), *gains(ranks, segments)]
    counted = Figure(figure="segments", value=len(segments), unit="segments", n=len(segments))
    finish("salads", [counted, *made], record=arguments.record)


if __name__ == "__main__":
    main()
