"""How well does text alone anticipate? Every kind of teacher on real labels.

    python benchmarks/teachers.py [--record] [--dataset NAME] [--kind KIND] [--history MODE]
                                  [--model M] [--seeds N] [--threads N] [--work FOLDER]

Trains each kind on the training split and scores it on the validation split, with one kind of
history, the same in training and after; three seeds, mean and deviation (the count teacher has no
randomness). The ensemble is the mean of the probabilities of one seed's count, sequence and
language teacher. Settings were chosen on training videos held out (docs/teachers.md), but for the
`published settings` of EGTEA Gaze+: the same language model, not adapted, as Ghosh et al. train
theirs. What is trained is kept in the work folder, so that the benchmark goes on where it was
stopped. With `--kind`, only that kind's figures are made; `seconds` are those of the longest
training. With `--model`, only the language model's, by another model than the adapted MiniLM, named
as in `language_models.py`: a hub id, a folder, an architecture with random weights, each of them
adapted to the recipes or not.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from other_labels import BREAKFAST, COOK
from record import Figure, finish
from teacher_runs import (
    EGTEA,
    EK55,
    EK100,
    WORK,
    TeacherRun,
    figures,
    metrics,
    outcome,
    rows_of,
    timeline,
)

from antcache.evaluation.metrics import class_mean_recall, true_class_ranks
from antcache.teacher.mixing.mixture import mean_mix

TIMES = {"times": True}
LANGUAGE = {
    "model": "adapted",
    "epochs": 3,
    "balance": 0.2,
    "held_out": 0.0,
    "dropout": 0.3,
    "warmup": 0.2,
    "weight_decay": 0.05,
}
MEMBERS: dict[str, dict[str, Any]] = {"count": TIMES, "sequence": TIMES, "language": LANGUAGE}
PUBLISHED = {
    "model": "minilm",
    "form": "paper",
    "attended": 15,
    "factorized": False,
    "memory": False,
    "label_smoothing": 0.0,
    "balance": 1.0,
    "verb_weight": 0.1,
    "noun_weight": 0.1,
    "epochs": 5,
    "batch": 16,
    "lr": 1e-5,
    "head_lr": 1e-5,
    "held_out": 0.0,
}
FEWER: dict[str, dict[str, Any]] = {
    "count": TIMES,
    "sequence": {**TIMES, "epochs": 4},
    "language": {**LANGUAGE, "epochs": 1},
}
"""Of EPIC-KITCHENS-100, three times as large: half the epochs of the sequence teacher are more
steps, a third of those of the language model as many."""
GEOMETRIC, LARGER, LARGEST = "geometric ensemble", "larger ensemble", "largest ensemble"
"""By the geometric mean, and two by the mean."""
TRAININGS = [("count", 0), *(("sequence", seed) for seed in range(3))]
LARGE: dict[str, list[tuple[str, int]]] = {
    GEOMETRIC: TRAININGS,
    LARGER: [*TRAININGS, ("language", 0)],
    LARGEST: [*TRAININGS, ("language", 0), ("language", 1)],
}
"""Kinds and seeds of their members. The largest has complete histories alone: its second language
model would take long."""
BALANCED = tuple(f"{kind}, balanced" for kind in (*FEWER, "ensemble", *LARGE))
TWO: dict[str, dict[str, Any]] = {"count": TIMES, "sequence": TIMES}
BREAKFAST_SPLITS = "breakfast"
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    EK55: MEMBERS,
    EGTEA: {**MEMBERS, "published settings": PUBLISHED},
    EK100: FEWER,
    BREAKFAST_SPLITS: TWO,
    COOK: TWO,
}
HISTORIES = {
    EK55: ("complete", "observed"),
    EGTEA: ("gappy", "complete", "observed"),
    EK100: ("complete", "observed"),
    BREAKFAST_SPLITS: ("complete", "observed"),
    COOK: ("complete", "observed"),
}
SEEDS = {EK100: 1}
"""At most so many trainings of each kind, where one takes long."""
BALANCES = tuple(i / 10 for i in range(16))
BOUNDS = {
    (EK55, "complete"): {
        "count": (17.5, 34.0, 23.5),
        "sequence": (21.0, 41.0, 30.5),
        "language": (22.0, 42.5, 31.5),
        "ensemble": (23.5, 45.0, 34.0),
    },
    (EK55, "observed"): {
        "count": (16.0, 32.0, 21.5),
        "sequence": (18.0, 38.5, 27.0),
        "language": (18.8, 40.0, 28.5),
        "ensemble": (20.0, 42.0, 30.5),
    },
}
PREFIX = {
    EK55: "",
    EGTEA: "EGTEA: ",
    EK100: "EK100: ",
    BREAKFAST_SPLITS: "Breakfast: ",
    COOK: "CaptainCook4D: ",
}


def run_of(
    dataset: str,
    kind: str,
    history: str,
    seed: int,
    model: str | None = None,
    *,
    of: str = "",
    held_out: bool = False,
) -> TeacherRun:
    """The run behind a figure; the count teacher is the same with every seed. `of` is the split,
    where a dataset has several."""
    settings = SETTINGS[dataset][kind]
    return TeacherRun(
        dataset=of or dataset,
        held_out=held_out,
        kind=kind if kind in MEMBERS else "language",
        history=history,
        seed=0 if kind == "count" else seed,
        settings=settings if model is None else {**settings, "model": model},
    )


def measure(
    dataset: str, kind: str, history: str, seeds: int, work: Path, model: str | None = None
) -> list[Figure]:
    """Figures of one kind under one kind of history; those of another `model` have its name."""
    label = kind if model is None else f"{kind} ({model})"
    name = f"{PREFIX[dataset]}{label}, {history} history"
    bounds = BOUNDS.get((dataset, history), {}).get(label)
    values, seconds = [], []
    members = [m for m in MEMBERS if m in SETTINGS[dataset]]
    runs = range(min(seeds, SEEDS.get(dataset, seeds)))
    # Breakfast has four splits: their figures stand in place of those of seeds.
    each = (
        [(split, 0) for split in BREAKFAST]
        if dataset == BREAKFAST_SPLITS
        else [(dataset, seed) for seed in (runs[:1] if kind == "count" else runs)]
    )
    for part, seed in each:
        if kind == "ensemble":
            asked = [outcome(run_of(dataset, k, history, seed, of=part), work) for k in members]
            values.append(metrics(part, mean_mix(members).mix([m.validation for m in asked])))
            continue
        found = outcome(run_of(dataset, kind, history, seed, model, of=part), work)
        values.append(metrics(part, found.validation))
        seconds.append(found.seconds)
    made = figures(name, each[0][0], values, bounds)
    if seconds:
        made.append(
            Figure(figure=f"{name}: seconds", value=round(max(seconds), 1), unit="s", n=len(values))
        )
    return made


def balanced(kind: str, history: str, work: Path) -> list[Figure]:
    """Figures on EPIC-KITCHENS-100 of a kind, or of an ensemble, divided by the class prior.

    The exponent is the one of `BALANCES` with the best class-mean recall@5 on the fifth of the
    training videos that was held out from a training of its own, with complete histories.
    """
    ensembles = {"ensemble": [(each, 0) for each in FEWER], **LARGE}
    members = ensembles.get(kind, [(kind, 0)])

    def log_p(history: str, *, held_out: bool) -> NDArray[np.float32]:
        runs = (run_of(EK100, each, history, seed, held_out=held_out) for each, seed in members)
        made = [outcome(run, work) for run in runs]
        scores = [m.held_out if held_out else m.validation for m in made]
        names = [f"{each} {seed}" for each, seed in members]
        return mean_mix(names, "geometric" if kind == GEOMETRIC else "mean").mix(scores)

    line = timeline(EK100)
    action = line.segments.action
    train, held, _ = rows_of(run_of(EK100, "count", "complete", 0, held_out=True))
    tried = log_p("complete", held_out=True)
    prior = log_prior(action[train], tried.shape[1])
    recalls = [
        class_mean_recall(true_class_ranks(tried - b * prior, action[held]), action[held], 5)
        for b in BALANCES
    ]
    best = BALANCES[int(np.argmax(recalls))]
    name = f"EK100: {kind}, balanced, {history} history"
    prior = log_prior(action[line.split == "train"], tried.shape[1])
    logits = (log_p(history, held_out=False) - best * prior).astype(np.float32)
    chosen = [
        Figure(figure=f"{name}: balance", value=best, unit="exponent", n=1),
        Figure(figure=f"{name}: held-out recall@5", value=max(recalls), unit="percent", n=1),
    ]
    return [*figures(name, EK100, [metrics(EK100, logits)]), *chosen]


def log_prior(action: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Log of how often each class occurs (C,), one added, as the count teacher and ensembles do."""
    return np.log(np.bincount(action, minlength=classes) + 1.0)


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--dataset", choices=list(SETTINGS), help="only this dataset")
    parser.add_argument(
        "--kind", choices=[*SETTINGS[EGTEA], "ensemble", *BALANCED], help="only this kind"
    )
    parser.add_argument("--history", help="only this kind of history")
    parser.add_argument("--model", help="of the language model, in place of the adapted MiniLM")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--epochs", type=int, help="of each training: a try, not to be recorded")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--work", type=Path, default=WORK, help="where trainings are kept")
    arguments = parser.parse_args()
    kind = "language" if arguments.model and not arguments.kind else arguments.kind
    if arguments.model and kind not in ("language", "published settings"):
        parser.error(f"--model is of the language model, not of --kind {kind}")
    if arguments.epochs is not None:
        if arguments.record:
            parser.error("a try, of other epochs than were chosen, is not recorded")
        for kinds in SETTINGS.values():
            for each in kinds.keys() - {"count"}:
                kinds[each] = {**kinds[each], "epochs": arguments.epochs}
    torch.set_num_threads(arguments.threads)
    made = [
        figure
        for dataset in ([arguments.dataset] if arguments.dataset else SETTINGS)
        for history in HISTORIES[dataset]
        if arguments.history in (None, history)
        for each in [*SETTINGS[dataset], "ensemble"]
        if kind in (None, each) and not (arguments.model and each not in SETTINGS[dataset])
        for figure in measure(
            dataset, each, history, arguments.seeds, arguments.work, arguments.model
        )
    ]
    if arguments.dataset in (None, EK100) and arguments.model is None:
        made += [
            figure
            for history in HISTORIES[EK100]
            if arguments.history in (None, history)
            for each in BALANCED
            if kind in (None, each)
            if history == "complete" or each != f"{LARGEST}, balanced"
            for figure in balanced(each.removesuffix(", balanced"), history, arguments.work)
        ]
    finish("teachers", made, record=arguments.record)


if __name__ == "__main__":
    main()
