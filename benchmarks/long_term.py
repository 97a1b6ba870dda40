"""What do the count teacher and a student with slots foresee beyond the next action, on 50 Salads?

    python benchmarks/long_term.py [--record] [--seeds N] [--epochs N]

The five published splits, each: labels of all frames, the background two classes of their own, as
published figures count it; of its test videos, the mean over classes of the frames that come, and
the edit distance of the next `STEPS` actions (a video has some 20 segments: too few for 20).

- teacher: a count teacher with times, trained on the split's training videos; the true labels up to
  the moment are told.
- student: a light head with `SLOTS` slots on real scores (`salads_data.py`: each video's are those
  of a recogniser that never saw it). It is told no labels, but for the frames the one that is under
  way at the moment. Its settings are those of `salads_runs.py`, and nothing is chosen here.

Mean and deviation over the splits, of a student's mean over seeds.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from record import Figure, finish
from salads_data import FOLDER, MEMORY, PROTOCOL, SCORES, features_alone, write_frames
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

SPLITS = range(1, 6)
STEPS = 5
SLOTS = 20
COUNT = TargetConfig(kind="count", settings={"times": True}, folds=0)
WINDOW = {"stream": [SCORES, MEMORY], "gaps": GAPS, "slots": SLOTS, "checkpoint_every": 1000}
STUDENT = BASE.replace(
    **read_settings(LIGHT | WINDOW),
    gap_s=PROTOCOL.gap_s,
    num_frames=PROTOCOL.num_frames,
    rate=PROTOCOL.rate,
)


def figures_of(ahead: EditScore | FrameScore, edits: EditScore | FrameScore) -> dict[str, float]:
    """Both scores by name."""
    assert isinstance(ahead, FrameScore)
    assert isinstance(edits, EditScore)
    found = {
        f"after {row['observed']:.0%}, the next {row['ahead']:.0%}": row["mean_over_classes"]
        for row in ahead.rows
    }
    found[f"ED@({STEPS},5)"] = edits.sampled["action"]
    found[f"ED@({STEPS},1)"] = edits.likeliest["action"]
    return found


def measured(work: Path, number: int, student: StudentConfig, seeds: int) -> dict[str, float]:
    """Figures of one split, of the labels in the folder `frames`."""
    frames = work / "frames"
    read = read_annotations("frames", frames, fps=30.0, split_number=number, background=("none",))
    path = work / f"{number}.zarr"
    shutil.copytree(features_alone(work), path)
    store = Store.open(path)
    store.write_splits(read.splits, read.taxonomy, source="published timeline")
    folder = work / f"{number}-count"
    teach(store, "count", COUNT, folder)
    (split,) = {*read.splits} - {"train"}
    config = ForeseeingConfig(split=split, steps=STEPS, samples=5)
    found = {
        f"teacher, {what}": value
        for what, value in figures_of(
            foresee(store, folder, config, "frames"), foresee(store, folder, config)
        ).items()
    }
    several = []
    for seed in range(seeds):
        run = work / f"{number}-student-{seed}"
        train(store, run, student.replace(seed=seed, validation_split=split))
        several.append(
            figures_of(
                foresee_by_student(store, run, config, "frames"),
                foresee_by_student(store, run, config),
            )
        )
    for what in several[0]:
        found[f"student, {what}"] = float(np.mean([own[what] for own in several]))
    print(f"split {number} of {len(SPLITS)}", flush=True)
    return found


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--seeds", type=int, default=3, help="students of each split")
    epochs = STUDENT.optimization.epochs
    parser.add_argument("--epochs", type=int, default=epochs, help="epochs of a student")
    arguments = parser.parse_args()
    student = STUDENT.replace(epochs=arguments.epochs)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_frames(work / "frames")
        features_alone(work)  # reads the frames without the published splits
        shutil.copytree(FOLDER / "splits", work / "frames/splits")
        runs = [measured(work, number, student, arguments.seeds) for number in SPLITS]
    figures = []
    for what in runs[0]:
        values = np.array([run[what] for run in runs])
        print(f"{what:42}{values.mean():8.3f} ± {values.std(ddof=1):.3f}")
        figures.append(
            Figure(
                figure=what,
                value=round(float(values.mean()), 3),
                unit="edits a step" if "ED@" in what else "percent",
                spread=round(float(values.std(ddof=1)), 3),
                n=len(runs),
            )
        )
    finish("long_term", figures, record=arguments.record)


if __name__ == "__main__":
    main()
