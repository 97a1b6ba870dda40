"""Does distillation from text help a video student? The generated kitchen of `antcache demo`.

    python benchmarks/demo.py [--record] [--share S] [--epochs N] [--seeds N]

Runs the demo as it is (fixed seeds, the last epoch of every run) and reports, for each
metric, both students and how far the gain is above the sum of both standard errors.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from record import Figure, finish

from antcache.demo.kitchen import KitchenConfig
from antcache.demo.run import DemoConfig, run_demo

USUAL = DemoConfig()
BOUND = {"action top-1", "action class-mean recall@5"}
"""Metrics whose gain must be clear."""


def part_of(kitchen: KitchenConfig, share: float) -> KitchenConfig:
    """A kitchen with a share of the videos and scripts, and of what is done in a video."""
    names = ("train_videos", "validation_videos", "scripts")
    fewer = {name: round(share * getattr(kitchen, name)) for name in names}
    return replace(kitchen, **fewer, recipes_per_video=math.ceil(share * kitchen.recipes_per_video))


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update benchmarks/results/demo.json")
    parser.add_argument("--share", type=float, default=1.0, help="of the kitchen")
    parser.add_argument(
        "--epochs", type=int, default=USUAL.student.optimization.epochs, help="of a student"
    )
    parser.add_argument("--seeds", type=int, default=len(USUAL.seeds), help="of them, at least 2")
    given = parser.parse_args()
    kitchen = part_of(USUAL.kitchen, given.share)
    student = USUAL.student.replace(epochs=given.epochs)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        config = replace(USUAL, kitchen=kitchen, student=student, seeds=USUAL.seeds[: given.seeds])
        outcome = run_demo(Path(folder) / "demo", config)
    seconds = time.monotonic() - start
    seeds = len(outcome.runs["plain"].metrics)
    figures = [Figure(figure="whole demo", value=seconds, unit="s", at_most=240)]
    print(
        f"{'percent':28} {'teacher':>8} {'plain':>14} {'distilled':>14} {'gain':>6} {'errors':>7}"
    )
    for row in outcome.table():
        plain, distilled = (f"{m:.2f} ± {sd:.2f}" for m, sd in (row.plain, row.distilled))
        print(
            f"{row.name:28} {row.teacher:8.2f} {plain:>14} {distilled:>14} "
            f"{row.gain:+6.2f} {row.errors:7.2f}"
        )
        for student, (mean, deviation) in (("plain", row.plain), ("distilled", row.distilled)):
            name = f"{row.name}, {student}"
            figures.append(
                Figure(figure=name, value=mean, unit="percent", spread=deviation, n=seeds)
            )
        figures.append(
            Figure(
                figure=f"{row.name}, gain less the sum of standard errors",
                value=row.gain - row.errors,
                unit="percent",
                at_least=0.0 if row.name in BOUND else None,
                n=seeds,
            )
        )
    finish("demo", figures, record=given.record)


if __name__ == "__main__":
    main()
