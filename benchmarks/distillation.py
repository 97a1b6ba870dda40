"""What is distillation from text worth? Students on SIMULATED features over the real timelines.

    python benchmarks/distillation.py [--record] [--dataset NAME] [--condition NAME] [--seeds N]
                                      [--threads N] [--work FOLDER]
    python benchmarks/distillation.py --tune [--dataset NAME] [--student NAME]
    python benchmarks/distillation.py --set-noise

The features are those of a simulated recogniser (`simulated.py`); labels, times, splits and
teachers are real. All students share architecture, data and number of seeds; each condition is
scored on the published validation split (4,969 of 4,979 segments of EPIC-KITCHENS-55 have a
window), which nothing was tuned on:

- plain: labels alone, as tuned.
- smoothing: the settings of `ours` without a teacher, with label smoothing of equal entropy
  (`distillation_runs.equal_entropy_smoothing`), so that a gain over it is knowledge.
- brief-smoothing: plain's settings with that smoothing, as what is good for soft targets may be too
  long a training for labels.
- paper: plain's settings, in-sample targets of the sequence teacher, and the paper's top-k,
  temperature and weight (in our convention): top-50, 5, 0.4; on EGTEA Gaze+ all classes, 10, 1.415.
- ours: joint targets of the count and the sequence teacher, as tuned.
- shuffled: `ours`, targets permuted over the training segments. It must not help.
- unadjusted-plain, unadjusted-ours: each without logit adjustment, with the settings of the best
  trial on record without it.
- further-plain, further-ours (EPIC-KITCHENS-55 alone): the same, after as many `FURTHER` trials for
  each; among those of ours are targets whose teachers, not the student, are divided by the prior.
- default-plain, default-ours (EPIC-KITCHENS-55 alone): `plain` and `ours` with the light head's
  default size and rate, for which nothing else was tuned; three seeds.
- gappy (EGTEA Gaze+ alone, where both splits lie in the same videos): `ours` by teachers that are
  told of no validation segment, not even as the past of a training segment.

Tuning (`--tune`) sees training videos only: a student trained on four fifths of them is scored on
the others by the dataset's main metric, and so are its teachers. Plain and distilled get equally
many trials of one seed and choose from the same schedules. A trial changes one setting of the best
so far, in the order of `STAGES`, and counts by its best strength of logit adjustment
(`distillation_runs.STRENGTHS`), which is chosen with it; smoothing, brief-smoothing and paper have
their strength chosen on the same videos. All trials are kept in `results/distillation_tuning.json`;
how the values to be tried came about is told in docs/distillation.md.

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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distillation_runs import (
    WAYS,
    StudentOutcome,
    StudentRun,
    TargetName,
    equal_entropy_smoothing,
    outcome,
    outcomes,
    require_targets,
)
from record import RESULTS, Figure, finish
from scipy import stats
from simulated import FINAL, TUNING, make_store, splits_of, store_path
from teacher_runs import EGTEA, EK55, METRICS, WORK, figures

from antcache.evaluation.bootstrap import Resamples, difference
from antcache.evaluation.metrics import mean_and_error, metrics_of

MAIN = {EK55: "action/many_shot_recall@5", EGTEA: "action/class_mean_top1"}
REQUIRED = {EK55: 20.0, EGTEA: 5.0}
"""Least relative gain of `ours` in the main metric, percent; the paper has 7.2 and 3.5."""
PAPER: dict[str, dict[str, Any]] = {
    EK55: {"top_k": 50, "temperature": 5.0, "weight": 0.4},
    EGTEA: {"top_k": None, "temperature": 10.0, "weight": 1.415},
}
SHARED_CONDITIONS = (
    *("plain", "smoothing", "brief-smoothing", "paper", "ours", "shuffled"),
    *("unadjusted-plain", "unadjusted-ours"),
)
CONDITIONS = {
    EK55: (
        *SHARED_CONDITIONS,
        *("further-plain", "further-ours", "default-plain", "default-ours"),
    ),
    EGTEA: (*SHARED_CONDITIONS, "gappy"),
}
CHOICES = sorted({c for conditions in CONDITIONS.values() for c in conditions})
DEFAULT_HEAD = {"layers": None, "heads": None, "width": None, "lr": 1e-3}
OF_DEFAULT_HEAD = {"default-plain": "plain", "default-ours": "ours"}
DEFAULT_SEEDS = 3
UNADJUSTED = {"unadjusted-plain": "plain", "unadjusted-ours": "distilled"}
BASES = {
    "unadjusted-ours": "unadjusted-plain",
    "further-ours": "further-plain",
    "default-ours": "default-plain",
}
"""What the gain of a condition is over, if not over `plain`."""
PREFIX = {EK55: "", EGTEA: "EGTEA: "}

SCHEDULES = (
    *((8, 2e-3), (12, 2e-3), (20, 2e-3), (30, 2e-3), (50, 2e-3), (8, 4e-3)),
    *((20, 1e-3), (30, 1e-3), (50, 1e-3)),
)
STAGES: dict[str, dict[str, tuple[Any, ...]]] = {
    "plain": {
        "dropout": (0.3, 0.1, 0.5, 0.7),
        "epochs, lr": SCHEDULES,
        "label_smoothing": (0.0, 0.1, 0.3, 0.5),
        "weight_decay": (0.05, 0.01, 0.2),
        "batch_size": (128, 64, 256),
    },
    "distilled": {
        "targets": tuple(str(TargetName(way=way)) for way in WAYS),
        "temperature": (1.0, 2.0, 0.5),
        "weight": (3.0, 1.0, 10.0, 30.0),
        "top_k": (None, 50),
        "dropout": (0.3, 0.5),
        "epochs, lr": ((20, 2e-3), *(s for s in SCHEDULES if s != (20, 2e-3))),
        "weight_decay": (0.05, 0.01),
    },
}
"""Values of each setting; the first one is where tuning starts."""
ALIGNED = (1.0, 0.1)
"""Weights of an alignment with the names of next actions, of students with and without teachers."""
FURTHER: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "further-plain": (
        "plain",
        {
            "label_smoothing": (0.7,),
            "loss, label_smoothing": (("focal", 0.0),),
            "ema": (0.99, 0.999),
            "verb_noun_weight": (0.5,),
            "align, align_weight, targets, weight": tuple(
                ("cosine", weight, str(TargetName(way="own", named=True)), 0.0)
                for weight in ALIGNED
            ),
        },
    ),
    "further-ours": (
        "distilled",
        {
            "targets": tuple(
                str(TargetName(way="own", balance=balance)) for balance in (0.3, 0.5, 0.7)
            ),
            "ema": (0.999,),
            "verb_noun_weight": (0.5,),
            "align, align_weight, targets": tuple(
                ("cosine", weight, str(TargetName(way="own", balance=0.7, named=True)))
                for weight in ALIGNED
            ),
        },
    ),
}
"""Whose best trial without logit adjustment is gone on from, and other values of its settings."""
TUNED = RESULTS / "distillation_tuning.json"

NOISE_RECORD = RESULTS / "simulated_noise.json"
NOISE_TARGET = 28.5
NOISE_NEAR = 0.3
NOISE_RANGE, NOISE_STEPS = (0.01, 0.1), 6


def tuning(dataset: str, who: str) -> dict[str, Any]:
    """The record of the tuning of `plain` or `distilled`."""
    found = json.loads(TUNED.read_text("utf-8")) if TUNED.is_file() else {}
    if who not in found.get(dataset, {}):
        print(f"{dataset} is not tuned: run with --tune first", file=sys.stderr)
        sys.exit(2)
    record: dict[str, Any] = found[dataset][who]
    return record


def best_unadjusted(dataset: str, who: str) -> dict[str, Any]:
    """Settings of the best trial without logit adjustment, those of earlier searches included."""
    record = tuning(dataset, who)
    trials = [*record["trials"], *record.get("earlier", [])]
    best: dict[str, Any] = max(trials, key=lambda trial: trial["by strength"]["0.0"])["settings"]
    return best


def settings_of(
    dataset: str, condition: str, work: Path, epochs: int | None = None
) -> dict[str, Any]:
    """A condition's settings of the student; with `epochs`, all of them train so long, also to
    find a strength."""
    found = _chosen(dataset, condition, work, {} if epochs is None else {"epochs": epochs})
    return found if epochs is None else {**found, "epochs": epochs}


def _chosen(dataset: str, condition: str, work: Path, tried: dict[str, Any]) -> dict[str, Any]:
    """Settings; where a strength is to be found, it is by trials with those of `tried`."""
    plain, ours = (tuning(dataset, who)["chosen"] for who in STAGES)
    name = TargetName.parse(ours["targets"])
    if condition in UNADJUSTED:
        return best_unadjusted(dataset, UNADJUSTED[condition])
    if condition in FURTHER:
        further: dict[str, Any] = tuning(dataset, condition)["chosen"]
        return further
    if condition in OF_DEFAULT_HEAD:
        return {**_chosen(dataset, OF_DEFAULT_HEAD[condition], work, tried), **DEFAULT_HEAD}
    if condition in ("plain", "ours"):
        return plain if condition == "plain" else ours
    if condition == "shuffled":
        return {**ours, "targets": str(replace(name, shuffled=True))}
    if condition == "gappy":
        return {**ours, "targets": str(replace(name, history="gappy"))}
    if condition == "paper":
        targets = str(TargetName(kind="sequence"))
        paper = {**plain, "targets": targets, **PAPER[dataset]}
        return with_strength(dataset, {**paper, **tried}, work)
    store = make_store(work, dataset, FINAL)
    require_targets(store, name)
    smoothing = {"label_smoothing": round(equal_entropy_smoothing(store, ours), 4)}
    if condition == "brief-smoothing":
        return with_strength(dataset, {**plain, **smoothing, **tried}, work)
    without = ("targets", "weight", "temperature", "top_k")
    kept = {k: v for k, v in ours.items() if k not in without}
    return with_strength(dataset, {**kept, **smoothing, **tried}, work)


def with_strength(dataset: str, settings: dict[str, Any], work: Path) -> dict[str, Any]:
    """The settings with the logit adjustment that is best on held-out training videos."""
    by_strength = trial(dataset, settings, work)
    return {**settings, "logit_adjustment": max(by_strength, key=lambda a: by_strength[a])}


def trial(dataset: str, settings: dict[str, Any], work: Path) -> dict[float, float]:
    """Main metric on held-out training videos, one seed, by strength of logit adjustment."""
    found = outcomes(StudentRun(dataset=dataset, part=TUNING, settings=settings), work)
    return {strength: own.metrics[MAIN[dataset]] for strength, own in found.items()}


def setting(names: str, values: Any) -> dict[str, Any]:
    """`{"lr": 1e-3}` of "lr" and 1e-3; also several at once, of "epochs, lr" and (8, 1e-3)."""
    several = names.split(", ")
    return {names: values} if len(several) == 1 else dict(zip(several, values, strict=True))


def tune(dataset: str, who: str, work: Path) -> dict[str, Any]:
    """Change one setting of the best after the other; returns what was chosen and all trials."""
    if who in FURTHER:
        tuned, others = FURTHER[who]
        found = search(dataset, who, best_unadjusted(dataset, tuned), others, work, adjusted=False)
        return {"metric": MAIN[dataset], **found}
    best: dict[str, Any] = {}
    for name, values in STAGES[who].items():
        best |= setting(name, values[0])
    others = {name: values[1:] for name, values in STAGES[who].items()}
    if who == "distilled" and dataset == EGTEA:
        others = {**others, "top_k": (20,)}  # 50 of 106 classes are next to all
    found = search(dataset, who, best, others, work, adjusted=True)
    return {
        "metric": MAIN[dataset],
        **found,
        "chosen": with_strength(dataset, found["chosen"], work),
    }


def search(
    dataset: str,
    who: str,
    best: dict[str, Any],
    others: dict[str, tuple[Any, ...]],
    work: Path,
    *,
    adjusted: bool,
) -> dict[str, Any]:
    """The best settings, and all trials, from `best` on by the `others` values of each setting. A
    trial counts by its best strength of logit adjustment, or by that of 0, unless `adjusted`."""
    trials: list[dict[str, Any]] = []

    def value(settings: dict[str, Any]) -> float:
        values = trial(dataset, settings, work)
        trials.append(
            {"settings": settings, "by strength": {a: round(v, 3) for a, v in values.items()}}
        )
        reached = max(values.values()) if adjusted else values[0.0]
        print(f"{dataset}, {who}: {reached:.2f} ({values[0.0]:.2f}) {settings}", flush=True)
        return reached

    reached = value(best)
    for name, values in others.items():
        for other in values:
            changed = best | setting(name, other)
            if (found := value(changed)) > reached:
                best, reached = changed, found
    return {"chosen": best, "trials": trials}


def write_tuning(dataset: str, who: str, found: dict[str, Any]) -> None:
    """Keep a tuning beside those of the other dataset and student."""
    old = json.loads(TUNED.read_text("utf-8")) if TUNED.is_file() else {}
    earlier = old.setdefault(dataset, {}).get(who, {})
    old[dataset][who] = {**earlier, **found}
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
    dataset: str, name: str, ours: list[StudentOutcome], base: list[StudentOutcome], over: str
) -> list[Figure]:
    """What the main metric gains from `base` to `ours`, outcomes of the same seeds in order."""
    metric = metrics_of(splits_of(dataset, FINAL)[1])[MAIN[dataset]]
    new, old = (np.array([o.metrics[MAIN[dataset]] for o in group]) for group in (ours, base))
    pairs = new - old
    mean, deviation, error = mean_and_error(pairs)
    reach = float(stats.t.ppf(0.975, len(pairs) - 1)) * error
    resamples = Resamples.of(ours[0].video, 1000)
    ranks = np.stack([o.ranks for o in (*ours, *base)])
    draws = resamples.values(metric, ranks, ours[0].action)
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


def measure(
    dataset: str, conditions: tuple[str, ...], seeds: int, work: Path, epochs: int | None
) -> list[Figure]:
    """Figures of each condition, and of each over what it is measured against, if that is here."""
    made: list[Figure] = []
    found: dict[str, list[StudentOutcome]] = {}
    for condition in conditions:
        settings = settings_of(dataset, condition, work, epochs)
        found[condition] = [
            outcome(StudentRun(dataset=dataset, part=FINAL, settings=settings, seed=100 + s), work)
            for s in range(min(seeds, DEFAULT_SEEDS) if condition in OF_DEFAULT_HEAD else seeds)
        ]
        values = [[o.metrics[key] for key in METRICS[dataset].values()] for o in found[condition]]
        made += figures(f"{PREFIX[dataset]}{condition}", dataset, values)
    if seeds > 1:
        others = [c for c in conditions if c not in ("plain", *BASES.values())]
        pairs = [(condition, BASES.get(condition, "plain")) for condition in others]
        for name, over in [*pairs, ("ours", "smoothing"), ("ours", "brief-smoothing")]:
            if {name, over} <= found.keys():
                made += gains(dataset, name, found[name], found[over], over)
    return made


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--dataset", choices=list(MAIN), help="only this dataset")
    parser.add_argument("--condition", nargs="+", choices=CHOICES, help="only these")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each condition")
    parser.add_argument("--epochs", type=int, help="of each training: a try, not to be recorded")
    parser.add_argument("--tune", action="store_true", help="choose settings on training videos")
    parser.add_argument("--student", choices=[*STAGES, *FURTHER], help="tune only this one")
    parser.add_argument("--set-noise", action="store_true", help="repeat the search for the noise")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--work", type=Path, default=WORK / "distillation", help="kept trainings")
    arguments = parser.parse_args()
    if arguments.record and arguments.epochs is not None:
        parser.error("a try, of other epochs than were chosen, is not recorded")
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    datasets = [arguments.dataset] if arguments.dataset else list(MAIN)
    if arguments.set_noise:
        set_noise(arguments.work)
        return
    if arguments.tune:
        for dataset in datasets:
            further = FURTHER if dataset == EK55 else ()
            for who in [arguments.student] if arguments.student else [*STAGES, *further]:
                write_tuning(dataset, who, tune(dataset, who, arguments.work))
        return
    made = [
        figure
        for dataset in datasets
        for figure in measure(
            dataset,
            CONDITIONS[dataset]
            if arguments.condition is None
            else tuple(c for c in CONDITIONS[dataset] if c in arguments.condition),
            arguments.seeds,
            arguments.work,
            arguments.epochs,
        )
    ]
    finish("distillation", made, record=arguments.record)


if __name__ == "__main__":
    main()
