"""How well does text alone anticipate? Count and sequence teachers on EPIC-KITCHENS-55 labels.

    python benchmarks/teachers.py [--record] [--kind KIND] [--threads N]

Trains each kind on the training split and scores it on all 4,979 validation segments, with
complete histories and with observed ones (1 s), each the same in training and after. Top-1, top-5
and the mean of recall@5 over the official many-shot list, in percent; the sequence teacher on three
seeds, mean and deviation. `seconds` are those of the longest training. Settings are the defaults;
they were chosen on training videos held out (docs/teachers.md).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from record import DATA, Figure, finish

from antcache.annotations import read_annotations
from antcache.evaluation.metrics import score
from antcache.teacher.base import make_teacher
from antcache.teacher.histories import HistoryConfig, Timeline

SEEDS = {"count": (0,), "sequence": (0, 1, 2)}
METRICS = {
    "top-1": "action/top1",
    "top-5": "action/top5",
    "many-shot recall@5": "action/many_shot_recall@5",
}
BOUNDS = {  # complete history
    "count": (17.0, 32.9, 22.1),
    "sequence": (20.0, 39.5, 29.0),
}
SECONDS = 600.0


def measure(timeline: Timeline, kind: str, mode: str) -> list[Figure]:
    """Figures of one kind under one kind of history."""
    train = timeline.split == "train"
    values, seconds = [], []
    for seed in SEEDS[kind]:
        started = time.perf_counter()
        teacher = make_teacher(kind, timeline.taxonomy, {"seed": seed})
        examples = timeline.examples(HistoryConfig(mode=mode), teacher.config.length)
        teacher.fit(examples[train])
        seconds.append(time.perf_counter() - started)
        segments = timeline.segments[~train]
        figures = score(teacher.logits(examples[~train]), segments, timeline.taxonomy)
        values.append([figures[key] for key in METRICS.values()])
        shown = " / ".join(f"{v:.2f}" for v in values[-1])
        print(f"{kind:<9} {mode:<9} seed {seed}: {shown}, {seconds[-1]:.0f} s", flush=True)
    runs = len(values)
    spread = np.std(values, axis=0, ddof=1) if runs > 1 else [None] * len(METRICS)
    bounds = BOUNDS[kind] if mode == "complete" else [None] * len(METRICS)
    return [
        Figure(
            figure=f"{kind}, {mode} history: {name}",
            value=round(float(value), 3),
            unit="percent",
            at_least=bound,
            spread=None if deviation is None else round(float(deviation), 3),
            n=runs,
        )
        for name, value, bound, deviation in zip(
            METRICS, np.mean(values, axis=0), bounds, spread, strict=True
        )
    ] + [
        Figure(
            figure=f"{kind}, {mode} history: seconds",
            value=round(max(seconds), 1),
            unit="s",
            at_most=SECONDS,
            n=runs,
        )
    ]


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--kind", choices=list(SEEDS), help="only this kind")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    arguments = parser.parse_args()
    if arguments.kind != "count":
        import torch

        torch.set_num_threads(arguments.threads)
    dataset = read_annotations("epic-kitchens-55", DATA / "epic-kitchens-55")
    timeline = Timeline.of(dataset.splits, dataset.taxonomy)
    kinds = [arguments.kind] if arguments.kind else list(SEEDS)
    figures = [
        figure
        for kind in kinds
        for mode in ("complete", "observed")
        for figure in measure(timeline, kind, mode)
    ]
    finish("teachers", figures, record=arguments.record)


if __name__ == "__main__":
    main()
