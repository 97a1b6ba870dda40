"""What does it save that threads which wait for one another sleep soon?

    python benchmarks/waiting.py [--record] [--repeats N] [--steps N] [--size NAME]
                                 [--train]

A student (a head of `training.py` over as many random frames, with the loss and the usual precision
of a distilled one) is trained for some steps by a process of its own with a thread for each core,
in two environments by turns: as OpenMP has it (threads look for work 300,000 times before they
sleep, GNU's way), and as `antcache` sets it up. On a machine that has nothing else to do, and
beside a process for each core that never rests. Ratios are those of medians over the turns; above
1, antcache's way is faster. Where PyTorch has another OpenMP than GNU's, both are the same.
`--train` is what each such process does: it prints its seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from record import Figure, finish
from training import BATCH, DEFAULT, SIZES, antcache_steps, make_trainer, random_windows

from antcache.devices import BRIEF, usable_cores

OWN = {"GOMP_SPINCOUNT": "300000"}
ALONE, BESIDE = "alone", "beside a busy process for each core"
BOUNDS = {ALONE: 0.95, BESIDE: 1.2}


def train(size: str, steps: int) -> None:
    """Print the seconds of some steps, after three that warm up."""
    layers, width = SIZES[size]
    windows = random_windows(4 * BATCH)
    trainer = make_trainer(windows, BATCH, layers=layers, width=width, device="cpu")
    side = antcache_steps(trainer)
    for step in range(steps + 3):
        if step == 3:
            started = time.perf_counter()
        next(side)
    print(time.perf_counter() - started)


def seconds(environment: dict[str, str], *options: str) -> float:
    """What a process of its own says that it took."""
    command = [sys.executable, __file__, *options]
    threads = {"OMP_NUM_THREADS": str(usable_cores())}
    done = subprocess.run(
        [*command, "--train"],
        env={**os.environ, **threads, **environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that never rest."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def figures(size: str, steps: int, repeats: int) -> list[Figure]:
    """How much faster a student is trained in antcache's environment, alone and beside others."""
    options = ("--size", size, "--steps", str(steps))
    made = []
    for where, others in ((ALONE, 0), (BESIDE, usable_cores())):
        with busy(others):
            turns = [[seconds(each, *options) for each in (OWN, BRIEF)] for _ in range(repeats)]
        own, ours = np.array(turns).T
        figure = Figure(
            figure=f"{size}, {where}: threads that sleep soon over OpenMP's own",
            value=round(float(np.median(own) / np.median(ours)), 2),
            unit="x",
            at_least=BOUNDS[where],
            spread=round(float((own / ours).std(ddof=1)), 2),
            n=repeats,
        )
        made.append(figure)
    return made


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--repeats", type=int, default=5, help="turns, at least 2")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of a training")
    parser.add_argument("--size", choices=list(SIZES), help="only this head")
    parser.add_argument("--train", action="store_true", help="only train; no figure")
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.size or DEFAULT, arguments.steps)
        return
    sizes = [arguments.size] if arguments.size else list(SIZES)
    found = [f for size in sizes for f in figures(size, arguments.steps, arguments.repeats)]
    for each in found:
        print(f"{each.figure:90}{each.value:6.2f} x  at least {each.at_least}")
    finish("waiting", found, record=arguments.record)


if __name__ == "__main__":
    main()
