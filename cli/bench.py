"""`antcache bench`: benchmarks that need nothing but the package.

Promise: the same measurement as the file of that name under `benchmarks/`; exit code 1 if a bound
is broken, after everything is written, 2 for bad input.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Literal

import click

from antcache.cli.common import json_option, print_json, say
from antcache.cli.numbers import POSITIVE


@click.group()
def bench() -> None:
    """Run the kernel benchmarks."""


@bench.command()
@click.option("--device", default="auto", show_default=True, help="auto, cuda or cpu.")
@click.option("--quick", is_flag=True, help="A few shapes, fewer repetitions.")
@click.option("--shapes", default="", metavar="BxC,...", help="These shapes alone.")
@click.option(
    "--minutes", type=POSITIVE, default=8.0, show_default=True, help="Begin no case after that."
)
@click.option("--record", is_flag=True, help="Update kernel.csv and kernel.json.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Record in this folder; without it, in benchmarks/results of the checkout.",
)
@json_option
@click.pass_context
def kernel(
    ctx: click.Context,
    device: Literal["auto", "cuda", "cpu"],
    quick: bool,
    shapes: str,
    minutes: float,
    record: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure the fused distillation loss against PyTorch, torch.compile and Liger-Kernel.

    On a GPU, as a share of copy bandwidth; on a CPU, its part of it.
    """
    from antcache.kernels.benchmark.run import BenchmarkConfig, parse_shapes, run

    config = BenchmarkConfig(
        device=device,
        quick=quick,
        shapes=parse_shapes(shapes) if shapes else (),
        minutes=minutes,
        record=record,
        out=out,
    )
    result = run(config, partial(_lines, err=as_json), " ".join(["antcache", *sys.argv[1:]]))
    if as_json:
        print_json(result.to_dict())
    if not result.ok:
        ctx.exit(1)


def _lines(text: str, *, err: bool) -> None:
    """Print a text of several lines."""
    for line in text.splitlines():
        say(line, err=err)
