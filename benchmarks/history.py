"""What does a text teacher add to a student that is told of nothing but what was seen?

    python benchmarks/history.py [--record] [--dataset NAME] [--seeds N] [--epochs N]
                                 [--threads N] [--work FOLDER]

A student says what comes next from a few seconds of features; the count teacher says it from the
actions so far, which another student, the recogniser, has told it (`antcache teacher listen`). No
label of a video that is asked about is used. Labels, times and splits are real.

- `epic-kitchens-55`: features of a SIMULATED recogniser (`simulated.py`), the published validation
  split. Students learn from labels alone, or are distilled (`ours` of `distillation.py`), as tuned
  there, without logit adjustment: what is mixed are probabilities.
- `50salads`: scores of a REAL recogniser (`salads_data.py`), all five folds together. Students see
  a `window` of scores, or one row of a `memory` of all scores so far; settings are those that the
  trials of `salads_runs.py` begin with.

The recogniser is a student of the same data; of 50 Salads it sees one row of scores. All hold the
same training videos out. On these the weights of student and teacher are learned, and the trust in
the recogniser is chosen among `TRUSTS` by the likelihood of both together, for each student and
seed. Of each:

- student: alone. teacher: told of the recognised past. both: mixed.
- teacher, true history: told of all true actions before, the honest upper end; of EPIC-KITCHENS-55
  also of those alone that began before the moment (`observed`).

Intervals are of the mean gain over seeds, by videos (paired bootstrap, 1,000 draws, each seed's
gain on the same draw). Runs are kept in the work folder; a benchmark that was stopped goes on
there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import distillation_runs
import numpy as np
import salads_runs
import torch
from distillation import settings_of
from distillation_runs import TargetName
from numpy.typing import NDArray
from record import Figure, finish
from salads_data import SCORES, folds
from salads_data import make_store as salads_store
from simulated import FINAL, STREAM
from simulated import make_store as simulated_store
from teacher_runs import EK55, METRICS, SINGLE, WORK

from antcache.annotations import Segments
from antcache.evaluation.bootstrap import Resamples, difference
from antcache.evaluation.metrics import mean_and_error, metrics_of, true_class_ranks
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.scoring import rows_in, target_predictions
from antcache.predict.listening.hearing import ListenConfig
from antcache.predict.listening.learning import Listened, listen
from antcache.predict.listening.listener import HEARD
from antcache.store import Store
from antcache.student.config import StudentConfig, read_settings
from antcache.student.recognition import recogniser
from antcache.student.runs.place import CONFIG, RESULT
from antcache.student.runs.train import train
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import history_for, teach

SALADS = "50salads"
TRUSTS = (0.2, 0.5, 0.8)
"""Powers of what the recogniser says."""
HELD_OUT = {EK55: 0.2, SALADS: 0.25}
HISTORIES = {EK55: ("complete", "observed"), SALADS: ("complete",)}
STUDENT, HEARING, BOTH = "student", "teacher, recognised past", "both"
Ranks = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Questioned:
    """What all said of some segments.

    Attributes:
        segments: (N,) that were asked about.
        ranks: (N,) of the true action, by who said so.
        recognised: top-1 of the recogniser, percent.
        teacher_weight: in the mixture.
        trust: that was chosen.
    """

    segments: Segments
    ranks: dict[str, Ranks] = field(repr=False)
    recognised: float
    teacher_weight: float
    trust: float


def run(store: Store, folder: Path, config: StudentConfig) -> Path:
    """A run that is kept, trained now or to its end."""
    if not (folder / RESULT).is_file():
        print(f"training {folder}", flush=True)
        train(store, folder, config, resume=(folder / CONFIG).is_file())
    return folder


def told(store: Store, folder: Path, history: str) -> Path:
    """The count teacher of a store, and its soft targets, which know the true history."""
    place = folder / f"teacher-{history}"
    if history_name(history) not in store.target_names():
        config = TargetConfig(kind="count", history=history_for(store, history))
        teach(store, history_name(history), config, place, overwrite=True)
    return place


def history_name(history: str) -> str:
    """Name of the soft targets."""
    return f"history-{history}"


def ask(
    store: Store,
    work: Path,
    student: StudentConfig,
    recognises: StudentConfig,
    histories: Iterable[str],
    name: str,
) -> Questioned:
    """Train what is not kept, let the teacher listen, and take the best trust."""
    seed = student.seed
    place = work / name
    place.mkdir(parents=True, exist_ok=True)
    one = run(store, place / f"student-{seed}", student)
    other = run(store, work / f"recogniser-{seed}", recogniser(recognises))
    teachers = {history: told(store, work, history) for history in histories}
    found: dict[float, Listened] = {
        trust: listen(
            store,
            one,
            other,
            teachers["complete"],
            place / f"listening-{seed}-{trust:g}",
            config=ListenConfig(trust=trust),
            overwrite=True,
        )
        for trust in TRUSTS
    }
    trust = min(found, key=lambda each: found[each].nll[2])
    best = found[trust]
    said = {
        STUDENT: Predictions.load(one),
        HEARING: Predictions.load(best.folder / HEARD),
        BOTH: best.predictions,
    }
    for history in histories:
        said[f"teacher, true history, {history}"] = target_predictions(
            store, history_name(history), "validation"
        )
    labels = store.labels("validation")
    segments = labels[rows_in(said[BOTH], labels, BOTH)]
    ranks = {
        who: true_class_ranks(own.scores[_rows(own, segments.uid)], segments.action)
        for who, own in said.items()
    }
    now = Predictions.load(other)
    true = labels.action[rows_in(now, labels, "recogniser")]
    print(f"{name}, seed {seed}: {best.to_dict() | {'metrics': None}}, trust {trust}", flush=True)
    return Questioned(
        segments=segments,
        ranks=ranks,
        recognised=float(100 * np.mean(now.scores.argmax(axis=1) == true)),
        teacher_weight=best.weights[1],
        trust=trust,
    )


def _rows(predictions: Predictions, uid: NDArray[np.str_]) -> NDArray[np.int64]:
    place = {one: row for row, one in enumerate(predictions.uid.tolist())}
    return np.array([place[one] for one in uid.tolist()])


def together(parts: Iterable[Questioned]) -> Questioned:
    """Several folds as one."""
    parts = list(parts)
    columns = [part.segments.arrays() for part in parts]
    return Questioned(
        segments=Segments(**{k: np.concatenate([c[k] for c in columns]) for k in columns[0]}),
        ranks={who: np.concatenate([part.ranks[who] for part in parts]) for who in parts[0].ranks},
        recognised=float(np.mean([part.recognised for part in parts])),
        teacher_weight=float(np.mean([part.teacher_weight for part in parts])),
        trust=float(np.mean([part.trust for part in parts])),
    )


def changed(config: StudentConfig, epochs: int | None, **settings: Any) -> StudentConfig:
    """The settings of a run, shortened if asked for."""
    found = config.replace(**settings)
    return found if epochs is None else found.replace(epochs=epochs)


def of_kitchens(work: Path, seed: int, epochs: int | None) -> dict[str, Questioned]:
    """What is said of EPIC-KITCHENS-55, by student."""
    store = simulated_store(work, EK55, FINAL)
    own: dict[str, Any] = {"seed": seed, "held_out": HELD_OUT[EK55], "logit_adjustment": 0.0}
    found = {}
    base = distillation_runs.BASE
    recognises = changed(base, epochs, **own, stream=(STREAM,), num_frames=4)
    for name, condition in (("labels alone", "plain"), ("distilled", "ours")):
        settings = read_settings(settings_of(EK55, condition, work))
        for targets in settings.get("targets", ()):
            distillation_runs.require_targets(store, TargetName.parse(targets))
        student = changed(base.replace(**settings), epochs, **own)
        found[name] = ask(store, work, student, recognises, HISTORIES[EK55], name)
    return found


def of_salads(work: Path, seed: int, epochs: int | None) -> dict[str, Questioned]:
    """What is said of 50 Salads, by student."""
    own: dict[str, Any] = {"seed": seed, "held_out": HELD_OUT[SALADS], "metric": "action/top1"}
    row = {**salads_runs.LINEAR, "stream": [SCORES], "num_frames": 1, "rate": 1.0}
    recognises = changed(salads_runs.BASE, epochs, **read_settings(row), **own)
    found: dict[str, list[Questioned]] = {}
    for fold in folds():
        store = salads_store(work, (fold,))
        for name, trials in salads_runs.TRIALS.items():
            settings = read_settings(trials[salads_runs.PLAIN][0][0])
            student = changed(salads_runs.BASE, epochs, **settings, **own)
            place = work / f"without-{fold}"
            found.setdefault(name, []).append(
                ask(store, place, student, recognises, HISTORIES[SALADS], name)
            )
    return {name: together(parts) for name, parts in found.items()}


def figures(
    dataset: str, name: str, found: list[Questioned], metrics: Mapping[str, Any]
) -> list[Figure]:
    """What each comes to over seeds, and what both together gain over the student."""
    label, made = f"{dataset}, {name}", list[Figure]()
    segments = found[0].segments

    def add(what: str, values: list[float], unit: str = "percent") -> None:
        spread = round(mean_and_error(values)[1], 3) if len(values) > 1 else None
        made.append(
            Figure(
                figure=f"{label}: {what}",
                value=round(float(np.mean(values)), 3),
                unit=unit,
                spread=spread,
                n=len(values),
            )
        )

    for who in found[0].ranks:
        for metric, how in metrics.items():
            values = [how.value(each.ranks[who], segments.action) for each in found]
            add(f"{who}: {metric}", values)
    add("recogniser: top-1", [each.recognised for each in found])
    add("weight of the teacher", [each.teacher_weight for each in found], "share")
    add("trust in the recogniser", [each.trust for each in found], "power")
    resamples = Resamples.of(segments.video, 1000)
    for metric, how in metrics.items():
        ranks = {who: np.stack([each.ranks[who] for each in found]) for who in (STUDENT, BOTH)}
        value = {
            who: float(np.mean([how.value(one, segments.action) for one in own]))
            for who, own in ranks.items()
        }
        drawn = {
            who: resamples.values(how, own, segments.action).mean(axis=0)
            for who, own in ranks.items()
        }
        gain = difference(value[BOTH] - value[STUDENT], drawn[BOTH] - drawn[STUDENT])
        for what, number in (
            ("gain", value[BOTH] - value[STUDENT]),
            ("gain, lower end by video", gain.low),
            ("gain, upper end by video", gain.high),
        ):
            figure = f"{label}: both over student, {metric}: {what}"
            made.append(Figure(figure=figure, value=round(number, 3), unit="percent", n=len(found)))
    made.append(
        Figure(figure=f"{label}: segments", value=len(segments), unit="segments", n=len(segments))
    )
    for each in made:
        print(f"{each.figure}: {each.value:g}", flush=True)
    return made


DATASETS = {EK55: (of_kitchens, METRICS[EK55]), SALADS: (of_salads, SINGLE)}


def measure(dataset: str, seeds: int, epochs: int | None, work: Path) -> list[Figure]:
    """All figures of a dataset."""
    asked, names = DATASETS[dataset]
    work = work / dataset
    work.mkdir(parents=True, exist_ok=True)
    by_seed = [asked(work, seed, epochs) for seed in range(seeds)]
    store = simulated_store(work, EK55, FINAL) if dataset == EK55 else salads_store(work, (1,))
    known = metrics_of(store.taxonomy)
    metrics = {name: known[key] for name, key in names.items()}
    return [
        figure
        for name in by_seed[0]
        for figure in figures(dataset, name, [each[name] for each in by_seed], metrics)
    ]


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--dataset", choices=list(DATASETS), help="only this dataset")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each student")
    parser.add_argument("--epochs", type=int, help="of each training")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--work", type=Path, default=WORK / "history", help="kept trainings")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    datasets = [arguments.dataset] if arguments.dataset else list(DATASETS)
    made = [
        figure
        for dataset in datasets
        for figure in measure(dataset, arguments.seeds, arguments.epochs, arguments.work)
    ]
    finish("history", made, record=arguments.record)


if __name__ == "__main__":
    main()
