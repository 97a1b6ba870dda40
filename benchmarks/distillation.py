"""What is distillation from text worth? Students on SIMULATED features over the real timelines.

    python benchmarks/distillation.py [--record] [--dataset NAME] [--condition NAME] [--seeds N]
                                      [--threads N] [--work FOLDER]
    python benchmarks/distillation.py --tune [--dataset NAME]
    python benchmarks/distillation.py --set-noise

The features are those of a simulated recogniser (`simulated.py`); labels, times, splits and
teachers are real. All students share architecture, data and number of seeds; each condition is
scored on the published validation split (4,969 of 4,979 segments of EPIC-KITCHENS-55 have a
window), which nothing was tuned on:

- plain: labels alone, as tuned.
- wider (EPIC-KITCHENS-55 alone): labels alone after a wider search than `plain` had, which settles
  on label smoothing: the strongest student without a teacher.
- smoothing: the settings of `ours` without a teacher, with label smoothing of equal entropy
  (`distillation_runs.equal_entropy_smoothing`), so that a gain over it is knowledge.
- brief-smoothing: plain's settings with that smoothing, as what is good for soft targets may be too
  long a training for labels.
- paper: plain's settings, in-sample targets of the sequence teacher, and the paper's top-k,
  temperature and weight (in our convention): top-50, 5, 0.4; on EGTEA Gaze+ all classes, 10, 1.415.
- ours: joint targets of the count and the sequence teacher, as tuned.
- shuffled: `ours`, targets permuted over the training segments. It must not help.
- default-plain, default-ours (EPIC-KITCHENS-55 alone): `plain` and `ours` with the light head's
  default size and rate, for which nothing else was tuned; three seeds.
- gappy (EGTEA Gaze+ alone, where both splits lie in the same videos): `ours` by teachers that are
  told of no validation segment, not even as the past of a training segment.

Tuning (`--tune`) sees training videos only: a student trained on four fifths of them is scored on
the others by the dataset's main metric, and so are its teachers. Both plain and distilled get 13
trials of one seed and the same longest schedule. A trial changes one setting of the best so far, in
the order of `STAGES`; distilled has plain's learning rate and weight decay. All trials of `--tune`
are kept in `results/distillation_tuning.json`; further ones on the same videos (about 19 for each)
are told of in docs/distillation.md.

Intervals are of the mean gain over seeds: by seeds (paired t, 95 %), and by videos (paired
bootstrap, 1,000 draws, each seed's gain on the same draw). What is trained is kept in the work
folder, so that the benchmark goes on where it was stopped; with `--condition`, only that one is
trained and nothing compared.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distillation_runs import (
    WAYS,
    Outcome,
    StudentRun,
    TargetName,
    equal_entropy_smoothing,
    outcome,
    require_targets,
)
from record import RESULTS, Figure, finish
from simulated import FINAL, TUNING, make_store, splits_of, store_path
from teacher_runs import EGTEA, EK55, METRICS, WORK, figures

from antcache.evaluation.bootstrap import Resamples, difference
from antcache.evaluation.metrics import mean_and_error, metrics_of
from antcache.student.sweep_table import t_quantile

MAIN = {EK55: "action/many_shot_recall@5", EGTEA: "action/class_mean_top1"}
REQUIRED = {EK55: 20.0, EGTEA: 5.0}
"""Least relative gain of `ours` in the main metric, percent; the paper has 7.2 and 3.5."""
PAPER: dict[str, dict[str, Any]] = {
    EK55: {"top_k": 50, "temperature": 5.0, "weight": 0.4},
    EGTEA: {"top_k": None, "temperature": 10.0, "weight": 1.415},
}
SHARED_CONDITIONS = ("plain", "smoothing", "brief-smoothing", "paper", "ours", "shuffled")
CONDITIONS = {
    EK55: (*SHARED_CONDITIONS, "wider", "default-plain", "default-ours"),
    EGTEA: (*SHARED_CONDITIONS, "gappy"),
}
CHOICES = sorted({c for conditions in CONDITIONS.values() for c in conditions})
DEFAULT_HEAD = {"layers": None, "heads": None, "width": None, "lr": 1e-3}
DEFAULT_SEEDS = 3
PREFIX = {EK55: "", EGTEA: "EGTEA: "}

TARGETS = tuple(str(TargetName(way=way)) for way in WAYS)
SCHEDULES = (
    *((8, 2e-3), (12, 2e-3), (20, 2e-3), (30, 2e-3), (50, 2e-3), (8, 4e-3)),
    *((20, 1e-3), (30, 1e-3), (50, 1e-3)),
)
STAGES: dict[str, dict[str, tuple[Any, ...]]] = {
    "plain": {
        "dropout": (0.3, 0.1, 0.5, 0.7),
        "epochs": (8, 5, 12, 20, 30),
        "lr": (2e-3, 1e-3, 4e-3),
        "label_smoothing": (0.0, 0.1, 0.3),
        "weight_decay": (0.05, 0.2),
    },
    "distilled": {
        "targets": TARGETS,
        "temperature": (1.0, 2.0, 0.5),
        "weight": (3.0, 1.0, 10.0, 30.0),
        "top_k": (None, 50),
        "dropout": (0.3, 0.5),
        "epochs": (20, 8, 12, 30),
    },
    "wider": {
        "dropout": (0.3, 0.1, 0.5, 0.7),
        "epochs, lr": SCHEDULES,
        "label_smoothing": (0.0, 0.1, 0.3, 0.5),
        "weight_decay": (0.05, 0.01, 0.2),
        "batch_size": (128, 64, 256),
    },
}
"""Values of each setting; the first one is where tuning starts."""
SHARED = ("lr", "weight_decay")
"""Settings that the distilled student takes from the plain one."""
TUNING_SEEDS = 1
TUNED = RESULTS / "distillation_tuning.json"

NOISE_RECORD = RESULTS / "simulated_noise.json"
NOISE_TARGET = 28.5
NOISE_NEAR = 0.3
NOISE_RANGE, NOISE_STEPS = (0.01, 0.1), 6


def tuned(dataset: str, who: str) -> dict[str, Any]:
    """The settings that tuning chose for `plain` or `distilled`."""
    found = json.loads(TUNED.read_text("utf-8")) if TUNED.is_file() else {}
    if who not in found.get(dataset, {}):
        print(f"{dataset} is not tuned: run with --tune first", file=sys.stderr)
        sys.exit(2)
    chosen: dict[str, Any] = found[dataset][who]["chosen"]
    return chosen


def settings_of(dataset: str, condition: str, work: Path) -> dict[str, Any]:
    """A condition's settings of the student."""
    plain, ours = tuned(dataset, "plain"), tuned(dataset, "distilled")
    name = TargetName.parse(ours["targets"])
    if condition in ("plain", "ours"):
        return plain if condition == "plain" else ours
    if condition == "wider":
        return tuned(dataset, condition)
    if condition in ("default-plain", "default-ours"):
        return {**(plain if condition == "default-plain" else ours), **DEFAULT_HEAD}
    if condition == "paper":
        return {**plain, "targets": str(TargetName(kind="sequence")), **PAPER[dataset]}
    if condition == "shuffled":
        return {**ours, "targets": str(TargetName(way=name.way, shuffled=True))}
    if condition == "gappy":
        return {**ours, "targets": str(TargetName(way=name.way, history="gappy"))}
    store = make_store(work, dataset, FINAL)
    require_targets(store, name)
    smoothing = round(equal_entropy_smoothing(store, ours), 4)
    if condition == "brief-smoothing":
        return {**plain, "label_smoothing": smoothing}
    without = ("targets", "weight", "temperature", "top_k")
    rest = {k: v for k, v in ours.items() if k not in without}
    return {**rest, "label_smoothing": smoothing}


def setting(names: str, values: Any) -> dict[str, Any]:
    """`{"lr": 1e-3}` of "lr" and 1e-3; also several at once, of "epochs, lr" and (8, 1e-3)."""
    several = names.split(", ")
    return {names: values} if len(several) == 1 else dict(zip(several, values, strict=True))


def tune(dataset: str, who: str, work: Path) -> dict[str, Any]:
    """Change one setting of the best after the other; returns what was chosen and all trials."""
    stages = STAGES[who]
    best: dict[str, Any] = {}
    for name, values in stages.items():
        best |= setting(name, values[0])
    if who == "distilled":
        best |= {name: tuned(dataset, "plain")[name] for name in SHARED}
        if dataset == EGTEA:
            stages = {**stages, "top_k": (None, 20)}  # 50 of 106 classes are next to all
    trials: list[dict[str, Any]] = []

    def value(settings: dict[str, Any]) -> float:
        runs = [
            StudentRun(dataset=dataset, part=TUNING, settings=settings, seed=seed)
            for seed in range(TUNING_SEEDS)
        ]
        values = [outcome(run, work).metrics[MAIN[dataset]] for run in runs]
        trials.append({"settings": settings, "values": [round(v, 3) for v in values]})
        print(f"{dataset}, {who}: {np.mean(values):.2f} {settings}", flush=True)
        return float(np.mean(values))

    reached = value(best)
    for name, values in stages.items():
        for other in values[1:]:
            changed = best | setting(name, other)
            if (found := value(changed)) > reached:
                best, reached = changed, found
    return {"metric": MAIN[dataset], "chosen": best, "trials": trials}


def write_tuning(dataset: str, who: str, found: dict[str, Any]) -> None:
    """Keep a tuning beside those of the other dataset and student."""
    old = json.loads(TUNED.read_text("utf-8")) if TUNED.is_file() else {}
    old.setdefault(dataset, {})[who] = found
    TUNED.write_text(json.dumps(old, indent=1) + "\n", "utf-8")


def set_noise(work: Path) -> None:
    """The search behind `simulated.NOISE`; prints it and keeps the record.

    Bisection on top-5 until it is within `NOISE_NEAR` of the target. The student is
    `distillation_runs.BASE`, without a teacher; training videos of EK55 alone.
    """
    low, high = map(math.log, NOISE_RANGE)
    trials = []
    for _ in range(NOISE_STEPS):
        noise = round(math.exp((low + high) / 2), 3)
        run = StudentRun(dataset=EK55, part=TUNING, noise=noise)
        found = outcome(run, work).metrics
        trial = {"noise": noise} | {k: round(found[m], 2) for k, m in METRICS[EK55].items()}
        print(trial, flush=True)
        trials.append(trial)
        shutil.rmtree(store_path(work, EK55, TUNING, noise), ignore_errors=True)
        if abs(trial["top-5"] - NOISE_TARGET) < NOISE_NEAR:
            break
        if trial["top-5"] > NOISE_TARGET:
            low = math.log(noise)
        else:
            high = math.log(noise)
    nearest = min(trials, key=lambda trial: abs(trial["top-5"] - NOISE_TARGET))
    record = {"target top-5": NOISE_TARGET, "chosen": nearest["noise"], "trials": trials}
    NOISE_RECORD.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    print(json.dumps(record))


def gains(
    dataset: str, name: str, ours: list[Outcome], base: list[Outcome], over: str
) -> list[Figure]:
    """What the main metric gains from `base` to `ours`, outcomes of the same seeds in order."""
    metric = metrics_of(splits_of(dataset, FINAL)[1])[MAIN[dataset]]
    new, old = (np.array([o.metrics[MAIN[dataset]] for o in group]) for group in (ours, base))
    pairs = new - old
    mean, deviation, error = mean_and_error(pairs)
    reach = t_quantile(len(pairs) - 1) * error
    resamples = Resamples.of(ours[0].video, 1000)
    ranks = np.stack([o.ranks for o in (*ours, *base)])
    draws = resamples.values_of_all(metric, ranks, ours[0].action)
    by_video = difference(mean, draws[: len(ours)].mean(0) - draws[len(ours) :].mean(0))
    relative = 100 * mean / float(old.mean())
    label = f"{PREFIX[dataset]}{name} over {over}, {metric_name(dataset)}"
    bounds: dict[str, Any] = {"ours": {"at_least": 0.0}, "shuffled": {"at_most": 0.0}}.get(name, {})

    def ends(of: str, low: float, high: float, count: int) -> list[Figure]:
        found = {"lower end": (low, bounds), "upper end": (high, {})}
        return [
            Figure(figure=f"{label}: gain, {end} {of}", value=v, unit="percent", n=count, **bound)
            for end, (v, bound) in found.items()
        ]

    print(
        f"{label}: {mean:+.2f} ± {deviation:.2f} ({relative:+.1f} %), by seed "
        f"{mean - reach:+.2f} to {mean + reach:+.2f}, by video {by_video.low:+.2f} to "
        f"{by_video.high:+.2f}",
        flush=True,
    )
    count = len(pairs)
    least = REQUIRED[dataset] if (name, over) == ("ours", "plain") else None
    return [
        Figure(figure=f"{label}: gain", value=mean, unit="percent", spread=deviation, n=count),
        Figure(
            figure=f"{label}: relative gain",
            value=relative,
            unit="percent",
            at_least=least,
            n=count,
        ),
        *ends("by seeds", mean - reach, mean + reach, count),
        *ends("by videos", by_video.low, by_video.high, len(np.unique(ours[0].video))),
    ]


def metric_name(dataset: str) -> str:
    """The main metric as `METRICS` calls it."""
    return next(name for name, key in METRICS[dataset].items() if key == MAIN[dataset])


def measure(dataset: str, conditions: tuple[str, ...], seeds: int, work: Path) -> list[Figure]:
    """Figures of each condition, and with plain among several, of each over plain."""
    made: list[Figure] = []
    found: dict[str, list[Outcome]] = {}
    for condition in conditions:
        settings = settings_of(dataset, condition, work)
        found[condition] = [
            outcome(StudentRun(dataset=dataset, part=FINAL, settings=settings, seed=100 + s), work)
            for s in range(min(seeds, DEFAULT_SEEDS) if "default" in condition else seeds)
        ]
        values = [[o.metrics[key] for key in METRICS[dataset].values()] for o in found[condition]]
        made += figures(f"{PREFIX[dataset]}{condition}", dataset, values)
    if len(conditions) > 1 and seeds > 1:
        for condition in conditions[1:]:
            if condition != "default-plain":
                over = "default-plain" if condition == "default-ours" else "plain"
                made += gains(dataset, condition, found[condition], found[over], over)
        for other in [c for c in ("smoothing", "brief-smoothing", "wider") if c in found]:
            made += gains(dataset, "ours", found["ours"], found[other], other)
    return made


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--dataset", choices=list(MAIN), help="only this dataset")
    parser.add_argument("--condition", choices=CHOICES, help="only this condition")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each condition")
    parser.add_argument("--tune", action="store_true", help="choose settings on training videos")
    parser.add_argument("--set-noise", action="store_true", help="repeat the search for the noise")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--work", type=Path, default=WORK / "distillation", help="kept trainings")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    datasets = [arguments.dataset] if arguments.dataset else list(MAIN)
    if arguments.set_noise:
        set_noise(arguments.work)
        return
    if arguments.tune:
        for dataset in datasets:
            for who in STAGES:
                if who == "wider" and who not in CONDITIONS[dataset]:
                    continue
                write_tuning(dataset, who, tune(dataset, who, arguments.work))
        return
    made = [
        figure
        for dataset in datasets
        for figure in measure(
            dataset,
            CONDITIONS[dataset]
            if arguments.condition is None
            else tuple(c for c in CONDITIONS[dataset] if c == arguments.condition),
            arguments.seeds,
            arguments.work,
        )
    ]
    finish("distillation", made, record=arguments.record)


if __name__ == "__main__":
    main()
