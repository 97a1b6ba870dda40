"""Which targets should training segments get: in-sample ones, or cross-fitted ones?

    python benchmarks/cross_fitting.py [--record] [--share S] [--epochs N] [--seeds N]

On the generated kitchen of `antcache demo`, without its text-only scripts, so that a teacher that
has seen a segment's own label can have learned it by heart. For the count and the sequence teacher,
students are distilled from in-sample targets (the paper's way) and from targets cross-fitted on
five folds of videos; five seeds, none of them the demo's. The figure is the paired difference, and
its standard error. `TargetConfig.folds` has the way that this favours as its default.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from demo import part_of
from record import Figure, finish

from antcache.demo.kitchen import KitchenConfig
from antcache.demo.run import DemoConfig, Steps, build_store
from antcache.evaluation.metrics import mean_and_error
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.train import train
from antcache.teacher.histories import Timeline
from antcache.teacher.targets import TargetConfig, make_targets

SEEDS = (11, 12, 13, 14, 15)
METRICS = ("action/top1", "action/top5", "action/recall@5")
WAYS = {"in-sample": 0, "cross-fitted": 5}


def run(store: Store, student: StudentConfig, seeds: tuple[int, ...]) -> dict[str, list[float]]:
    """Final metrics over the seeds."""
    results = [train(store, None, student.replace(seed=seed)).metrics for seed in seeds]
    return {metric: [r[metric] for r in results] for metric in METRICS}


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    usual = DemoConfig(kitchen=KitchenConfig(scripts=0))
    parser.add_argument("--share", type=float, default=1.0, help="of the kitchen")
    parser.add_argument(
        "--epochs", type=int, default=usual.student.optimization.epochs, help="of a student"
    )
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="of them, at least 2")
    given = parser.parse_args()
    seeds = SEEDS[: given.seeds]
    config = replace(usual, kitchen=part_of(usual.kitchen, given.share))
    student = config.student.replace(epochs=given.epochs, evaluate_every=given.epochs)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        store, _ = build_store(Path(folder), config, Steps())
        splits = {split: store.labels(split) for split in store.splits()}
        timeline = Timeline.of(splits, store.taxonomy)
        found = {"plain": run(store, student, seeds)}
        for kind in ("count", "sequence"):
            for way, folds in WAYS.items():
                name = f"{kind}-{way}"
                _, targets = make_targets(timeline, TargetConfig(kind=kind, folds=folds))
                store.write_targets(name, targets)
                found[name] = run(store, student.replace(targets=(name,)), seeds)
    print(f"{'percent':22}" + "".join(f"{metric:>24}" for metric in METRICS))
    for name, values in found.items():
        cells = ""
        for metric in METRICS:
            mean, deviation, _ = mean_and_error(values[metric])
            cells += f"{mean:17.2f} ± {deviation:4.2f}"
            figures.append(
                Figure(
                    figure=f"{metric}, {name}",
                    value=mean,
                    unit="percent",
                    spread=deviation,
                    n=len(seeds),
                )
            )
        print(f"{name:22}{cells}")
    for kind in ("count", "sequence"):
        for metric in METRICS:
            pairs = zip(
                found[f"{kind}-cross-fitted"][metric],
                found[f"{kind}-in-sample"][metric],
                strict=True,
            )
            mean, deviation, error = mean_and_error([a - b for a, b in pairs])
            print(f"{kind}, {metric}: cross-fitted less in-sample {mean:+.2f} ± {error:.2f} (s.e.)")
            figures.append(
                Figure(
                    figure=f"{metric}, {kind}: cross-fitted less in-sample",
                    value=mean,
                    unit="percent",
                    spread=deviation,
                    n=len(seeds),
                )
            )
    finish("cross_fitting", figures, record=given.record)


if __name__ == "__main__":
    main()
