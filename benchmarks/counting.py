"""How long does the count teacher take to train, with times, on real labels?

    python benchmarks/counting.py [--record] [--rounds N]

Trains it as the documentation says (`--set times=true`, weights of the mixture on five folds) on
the training splits of EPIC-KITCHENS-55 and -100, and says the wall time and the processor time of
the fastest of some rounds, and how many processes wanted a core meanwhile (this one included). What
is compiled is compiled before. The ratio is measured in the same run: what the events of a fold
held out cost if every model's probability is computed for all actions, over what they cost if it is
computed for the action that came alone, which is all that the weights need.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from record import Figure, finish
from teacher_runs import EK55, EK100, timeline

from antcache.evaluation.metrics import blocks
from antcache.teacher.counting.teacher import CountConfig, CountTeacher
from antcache.teacher.histories import Examples, HistoryConfig

NAMES = {EK55: "EPIC-KITCHENS-55", EK100: "EPIC-KITCHENS-100"}
MOST_S = {EK55: 3.0, EK100: 20.0}
EVENTS = 2000


def seconds(do: Callable[[], object]) -> tuple[float, float]:
    """Wall time and processor time of a call."""
    wall, own = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - wall, time.process_time() - own


def score(teacher: CountTeacher, examples: Examples, *, alone: bool) -> None:
    """The probability of each target under each model, of the target alone or of all actions."""
    for rows in blocks(len(examples)):
        block = examples[rows]
        if alone:
            teacher._targets(block)
        else:
            _ = teacher._models(block)[0][:, np.arange(len(block)), block.target]


def measure(dataset: str, rounds: int) -> list[Figure]:
    """Figures of one dataset."""
    line = timeline(dataset)
    config = CountConfig(times=True)
    examples = line.examples(HistoryConfig(), config.length, times=True)[line.split == "train"]
    teacher = CountTeacher(line.taxonomy, config)
    teacher.fit(examples[:EVENTS])
    for alone in (True, False):
        score(teacher, examples[:1], alone=alone)  # compiled by now
    trained = [seconds(lambda: teacher.fit(examples)) for _ in range(rounds)]
    load = os.getloadavg()[0]
    some = examples[:EVENTS]
    every = [seconds(lambda: score(teacher, some, alone=False))[1] for _ in range(rounds)]
    single = [seconds(lambda: score(teacher, some, alone=True))[1] for _ in range(rounds)]
    wall, own = min(w for w, _ in trained), min(c for _, c in trained)
    name = NAMES[dataset]
    print(f"{name}: {wall:.1f} s, {own:.1f} s of a core, {load:.1f} processes", flush=True)
    values = {
        "seconds": (wall, "s", MOST_S[dataset]),
        "processor seconds": (own, "s", None),
        "processes that wanted a core": (load, "processes", None),
        "all actions over the target alone": (min(every) / min(single), "ratio", None),
    }
    return [
        Figure(figure=f"{name}: {what}", value=round(value, 2), unit=unit, at_most=most, n=rounds)
        for what, (value, unit, most) in values.items()
    ]


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--rounds", type=int, default=3, help="times that everything is done")
    arguments = parser.parse_args()
    made = [figure for dataset in NAMES for figure in measure(dataset, arguments.rounds)]
    finish("counting", made, record=arguments.record)


if __name__ == "__main__":
    main()
