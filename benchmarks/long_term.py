"""What do teachers and a student with slots foresee beyond the next action?

    python benchmarks/long_term.py [--record] [--dataset NAME] [--seeds N] [--epochs N]

On 50 Salads and Breakfast, each published split: labels of all frames, the background classes of
their own, as published figures count it; of its test videos, the mean over classes of the frames
that come. On 50 Salads also the edit distance of the next `STEPS` actions (a video has some 20
segments: too few for 20; of Breakfast some 7).

- teachers: count and sequence (on 50 Salads count alone), with times, trained on the split's
  training videos; the true labels up to the moment are told.
- student, on 50 Salads: a light head with `SLOTS` slots on real scores (`salads_data.py`: each
  video's are those of a recogniser that never saw it). It is told no labels, but for the frames the
  one that is under way at the moment. Its settings are those of `salads_runs.py`.

Nothing is chosen here. Mean and deviation over the splits, of a student's mean over seeds.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from other_labels import FRAME_RATES, SPLITS
from record import DATA, Figure, finish
from salads_data import MEMORY, PROTOCOL, SCORES, features_alone, write_frames
from salads_runs import BASE, GAPS, LIGHT

from antcache.annotations import read_annotations
from antcache.evaluation.long_term.scores import EditScore, ForeseeingConfig, FrameScore
from antcache.store import Store
from antcache.student.config import StudentConfig, read_settings
from antcache.student.runs.foreseeing import foresee as foresee_by_student
from antcache.student.runs.train import train
from antcache.teacher.long_term.foreseeing import foresee
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import teach

SALADS, BREAKFAST = "50salads", "breakfast"
STEPS = 5
SLOTS = 20
TEACHERS = {
    kind: TargetConfig(kind=kind, settings={"times": True}, folds=0)
    for kind in ("count", "sequence")
}
WINDOW = {"stream": [SCORES, MEMORY], "gaps": GAPS, "slots": SLOTS, "checkpoint_every": 1000}
STUDENT = BASE.replace(
    **read_settings(LIGHT | WINDOW),
    gap_s=PROTOCOL.gap_s,
    num_frames=PROTOCOL.num_frames,
    rate=PROTOCOL.rate,
)
Found = dict[str, float]


def of_frames(ahead: EditScore | FrameScore) -> Found:
    """Means over classes, by what is observed and what comes."""
    assert isinstance(ahead, FrameScore)
    return {
        f"after {row['observed']:.0%}, the next {row['ahead']:.0%}": row["mean_over_classes"]
        for row in ahead.rows
    }


def of_edits(edits: EditScore | FrameScore) -> Found:
    """Edit distances of the next actions."""
    assert isinstance(edits, EditScore)
    sampled, likeliest = edits.sampled["action"], edits.likeliest["action"]
    return {f"ED@({STEPS},5)": sampled, f"ED@({STEPS},1)": likeliest}


def labelled(store: Store, frames: Path, number: int) -> str:
    """Write the labels of a published split in the folder `frames`; the name of its test split."""
    fps = FRAME_RATES[frames.name]
    read = read_annotations("frames", frames, fps=fps, split_number=number, background=("none",))
    store.write_splits(read.splits, read.taxonomy, source="published timeline")
    (split,) = {*read.splits} - {"train"}
    return split


def on_salads(work: Path, number: int, student: StudentConfig, seeds: int) -> Found:
    """Figures of one split."""
    path = work / f"{number}.zarr"
    shutil.copytree(features_alone(work), path)
    store = Store.open(path)
    split = labelled(store, work / SALADS, number)
    folder = work / f"{number}-count"
    teach(store, "count", TEACHERS["count"], folder)
    config = ForeseeingConfig(split=split, steps=STEPS, samples=5)
    own = of_frames(foresee(store, folder, config, "frames"))
    own |= of_edits(foresee(store, folder, config))
    found = {f"teacher, {what}": value for what, value in own.items()}
    several = []
    for seed in range(seeds):
        run = work / f"{number}-student-{seed}"
        train(store, run, student.replace(seed=seed, validation_split=split))
        own = of_frames(foresee_by_student(store, run, config, "frames"))
        several.append(own | of_edits(foresee_by_student(store, run, config)))
    for what in several[0]:
        found[f"student, {what}"] = float(np.mean([own[what] for own in several]))
    return found


def on_breakfast(work: Path, number: int) -> Found:
    """Figures of one split."""
    store = Store.create(work / f"breakfast-{number}.zarr")
    split = labelled(store, work / BREAKFAST, number)
    found = {}
    for kind, config in TEACHERS.items():
        folder = work / f"breakfast-{number}-{kind}"
        teach(store, kind, config, folder)
        told = of_frames(foresee(store, folder, ForeseeingConfig(split=split), "frames"))
        found |= {f"Breakfast: {kind} teacher, {what}": value for what, value in told.items()}
    return found


def figures(runs: list[Found]) -> list[Figure]:
    """Mean and deviation over splits."""
    made = []
    for what in runs[0]:
        values = np.array([run[what] for run in runs])
        print(f"{what:60}{values.mean():8.3f} ± {values.std(ddof=1):.3f}")
        made.append(
            Figure(
                figure=what,
                value=round(float(values.mean()), 3),
                unit="edits a step" if "ED@" in what else "percent",
                spread=round(float(values.std(ddof=1)), 3),
                n=len(runs),
            )
        )
    return made


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--dataset", choices=(SALADS, BREAKFAST), help="only this dataset")
    parser.add_argument("--seeds", type=int, default=3, help="students of each split")
    epochs = STUDENT.optimization.epochs
    parser.add_argument("--epochs", type=int, default=epochs, help="epochs of a student")
    arguments = parser.parse_args()
    student = STUDENT.replace(epochs=arguments.epochs)
    made = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for dataset in (SALADS, BREAKFAST):
            if arguments.dataset not in (None, dataset):
                continue
            write_frames(work / dataset, DATA / dataset)
            if dataset == SALADS:
                features_alone(work)  # reads the frames without the published splits
            shutil.copytree(DATA / dataset / "splits", work / dataset / "splits")
            runs = []
            for number in range(1, SPLITS[dataset] + 1):
                runs.append(
                    on_salads(work, number, student, arguments.seeds)
                    if dataset == SALADS
                    else on_breakfast(work, number)
                )
                print(f"{dataset}: split {number} of {SPLITS[dataset]}", flush=True)
            made += figures(runs)
    finish("long_term", made, record=arguments.record)


if __name__ == "__main__":
    main()
