"""Does the text of one kitchen help a teacher of another?

    python benchmarks/transfer.py [--record]

The videos of Breakfast and CaptainCook4D are read as scripts, in the words of another dataset by
the map of `transfer_words.py`, and given to its count teacher, which is told no times: text has
none. Trained on no video, on a tenth of the training videos and on all of them, each without and
with the scripts; a complete history; validated as in `teachers.py`. Of 50 Salads, mean and
deviation over its five splits. `mapped` is the share of the scripts' actions that the other dataset
has a name for. A gain below 0 is a result as well.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from other_labels import BREAKFAST, COOK, SALADS
from record import Figure, finish
from teacher_runs import EGTEA, EK55, timeline
from transfer_words import index_of, mapped

from antcache.annotations import protocol_for
from antcache.evaluation.metrics import score
from antcache.teacher.base import make_teacher
from antcache.teacher.histories import Examples, HistoryConfig
from antcache.teacher.scripts import Scripts
from antcache.teacher.targets import examples_for

TARGETS = {"EPIC-KITCHENS-55": (EK55,), "EGTEA Gaze+": (EGTEA,), "50 Salads": SALADS}
SHARES = {"no video": 0, "a tenth of the videos": 10, "all videos": 1}
METRICS = {
    "top-1": "action/top1",
    "top-5": "action/top5",
    "class-mean recall@5": "action/recall@5",
}


def scripts_for(dataset: str) -> tuple[Scripts, float, float]:
    """Scripts in the words of a dataset, the share of their actions that could be mapped, and of
    its training segments whose action is in some script."""
    line = timeline(dataset)
    index = index_of(line.taxonomy)
    actions: list[int] = []
    starts, total = [0], 0
    for source in (BREAKFAST[0], COOK):
        told = timeline(source)
        to = [mapped(name, index) for name in told.taxonomy.actions]
        order = np.lexsort((told.segments.start_s, told.video_ids))
        video = told.video_ids[order]
        for rows in np.split(order, np.flatnonzero(np.diff(video)) + 1):
            own = [to[a] for a in told.segments.action[rows]]
            total += len(own)
            kept = [a for a in own if a is not None]
            if kept:
                actions += kept
                starts.append(len(actions))
    train = line.segments.action[line.split == "train"]
    scripts = Scripts(
        actions=np.array(actions, dtype=np.int64), starts=np.array(starts, dtype=np.int64)
    )
    return scripts, len(actions) / total, float(np.isin(train, actions).mean())


def some_videos(examples: Examples, every: int) -> Examples:
    """The examples of one video in `every`, or of none (0)."""
    if not every:
        return examples[:0]
    groups = np.unique(examples.group)
    drawn = np.random.default_rng(0).permutation(groups)[: -(-len(groups) // every)]
    return examples[np.flatnonzero(np.isin(examples.group, drawn))]


def tried(dataset: str) -> dict[str, NDArray[np.float64] | float]:
    """`METRICS` by training, and the two shares of `scripts_for`."""
    line = timeline(dataset)
    scripts, named, covered = scripts_for(dataset)
    found: dict[str, NDArray[np.float64] | float] = {"mapped": named, "covered": covered}
    config = HistoryConfig(gap_s=protocol_for(dataset).gap_s)
    for label, every in SHARES.items():
        for text in (False, True):
            if not (every or text):
                continue
            teacher = make_teacher("count", line.taxonomy, {})
            examples = examples_for(teacher, line, config)
            own = some_videos(examples[line.split == "train"], every)
            told = scripts.examples(teacher.config.length) if text else None
            teacher.fit(own, scripts=told)
            held = line.split == "validation"
            figures = score(
                teacher.predict(examples[held]).logits, line.segments[held], line.taxonomy
            )
            name = f"{label}, {'with' if text else 'without'} scripts"
            found[name] = np.array([figures[key] for key in METRICS.values()])
    return found


def measure(target: str) -> list[Figure]:
    """Figures of one dataset."""
    runs = [tried(dataset) for dataset in TARGETS[target]]
    made = []
    for name in runs[0]:
        values = np.array([run[name] for run in runs])
        if name in ("mapped", "covered"):
            what = f"{target}: {name}"
            value = 100 * float(values.mean())
            made.append(Figure(figure=what, value=round(value, 3), unit="percent", n=len(runs)))
            continue
        spread = values.std(axis=0, ddof=1) if len(runs) > 1 else [None] * len(METRICS)
        print(f"{target}: {name}: {values.mean(axis=0).round(1)}", flush=True)
        made += [
            Figure(
                figure=f"{target}: {name}: {metric}",
                value=round(float(mean), 3),
                unit="percent",
                spread=None if own is None else round(float(own), 3),
                n=len(runs),
            )
            for metric, mean, own in zip(METRICS, values.mean(axis=0), spread, strict=True)
        ]
    return made


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    arguments = parser.parse_args()
    made = [figure for target in TARGETS for figure in measure(target)]
    finish("transfer", made, record=arguments.record)


if __name__ == "__main__":
    main()
