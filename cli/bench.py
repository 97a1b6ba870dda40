"""`antcache bench`: benchmarks that need nothing but the package.

Promise: the same measurement as the file of that name under `benchmarks/`; exit code 1 if a bound
is broken, after everything is written, 2 for bad input.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from antcache.cli.command import START_AGAIN, command, quiet
from antcache.cli.common import json_option, print_json, say
from antcache.cli.lazy import LazyGroup
from antcache.cli.numbers import POSITIVE
from antcache.cli.options import device_option, output_option

COMMANDS = {"kernel": (__name__, "Measure the fused distillation loss against others.")}


@click.group(cls=LazyGroup, table=COMMANDS)
def bench() -> None:
    """Run the kernel benchmarks."""


@command(
    example="antcache bench kernel --quick",
    then="`antcache student train` uses the loss that was measured.",
    goes_on=START_AGAIN,
)
@device_option
@click.option("--quick", is_flag=True, help="A few shapes, fewer repetitions.")
@click.option("--shapes", metavar="BxC,...", help="These shapes alone.")
@click.option("--minutes", type=POSITIVE, default=8.0, help="Begin no case after that.")
@click.option("--record", is_flag=True, help="Update kernel.csv and kernel.json.")
@output_option("Folder to record in.", shown="benchmarks/results of the checkout")
@json_option
def kernel(shapes: str | None, output: Path | None, as_json: bool, **settings: Any) -> None:
    """Measure the fused distillation loss against PyTorch, torch.compile and other packages.

    Those are Liger-Kernel, orda-kernel and flash-linear-attention, where they are installed. On a
    GPU, as a share of copy bandwidth too; on a CPU, its part of it.
    """
    from antcache.kernels.benchmark.run import BenchmarkConfig, parse_shapes, run

    chosen = parse_shapes(shapes) if shapes else ()
    config = BenchmarkConfig(shapes=chosen, out=output, **settings)
    result = run(config, partial(_lines, err=as_json), " ".join(["antcache", *sys.argv[1:]]))
    if as_json:
        print_json(result.to_dict())
    if not result.ok:
        click.get_current_context().exit(1)


def _lines(text: str, *, err: bool) -> None:
    """Print a text of several lines; beside JSON it is no more than progress."""
    if err and quiet():
        return
    for line in text.splitlines():
        say(line, err=err)
