"""What does the count teacher foresee beyond the next action, on 50 Salads?

    python benchmarks/long_term.py [--record]

The five published splits, each: labels of all frames, the background two classes of their own, as
published figures count it; a count teacher with times, trained on the split's training videos; and
of its test videos, their true labels observed, the mean over classes of the frames that come, and
the edit distance of the next `STEPS` actions (a video has some 20 segments: too few for 20). Mean
and deviation over the splits.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from record import Figure, finish
from salads_data import FOLDER, write_frames

from antcache.annotations import read_annotations
from antcache.evaluation.long_term.scores import EditScore, ForeseeingConfig, FrameScore
from antcache.store import Store
from antcache.teacher.long_term.foreseeing import foresee
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import teach

SPLITS = range(1, 6)
STEPS = 5
COUNT = TargetConfig(kind="count", settings={"times": True}, folds=0)


def measured(frames: Path, work: Path, number: int) -> dict[str, float]:
    """Figures of one split, of the labels in the folder `frames`."""
    read = read_annotations("frames", frames, fps=30.0, split_number=number, background=("none",))
    store = Store.create(work / f"{number}.zarr", dataset=read.taxonomy.dataset)
    store.write_splits(read.splits, read.taxonomy, source="published timeline")
    folder = work / f"{number}-count"
    teach(store, "count", COUNT, folder)
    (split,) = {*read.splits} - {"train"}
    config = ForeseeingConfig(split=split, steps=STEPS)
    ahead = foresee(store, folder, config, "frames")
    assert isinstance(ahead, FrameScore)
    edits = foresee(store, folder, config)
    assert isinstance(edits, EditScore)
    found = {
        f"after {row['observed']:.0%}, the next {row['ahead']:.0%}": row["mean_over_classes"]
        for row in ahead.rows
    }
    found[f"ED@({STEPS},{config.samples})"] = edits.sampled["action"]
    found[f"ED@({STEPS},1)"] = edits.likeliest["action"]
    return found


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_frames(work / "frames")
        shutil.copytree(FOLDER / "splits", work / "frames/splits")
        runs = [measured(work / "frames", work, number) for number in SPLITS]
    figures = []
    for what in runs[0]:
        values = np.array([run[what] for run in runs])
        print(f"{what:32}{values.mean():8.3f} ± {values.std(ddof=1):.3f}")
        figures.append(
            Figure(
                figure=what,
                value=round(float(values.mean()), 3),
                unit="edits a step" if what.startswith("ED") else "percent",
                spread=round(float(values.std(ddof=1)), 3),
                n=len(runs),
            )
        )
    finish("long_term", figures, record=arguments.record)


if __name__ == "__main__":
    main()
