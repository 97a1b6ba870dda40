"""`antcache store convert`: a store in another form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.command import SAME_COMMAND, command
from antcache.cli.common import at_work, json_option, print_result, print_table, say, store_argument
from antcache.cli.options import (
    dry_run_option,
    dtype_option,
    format_option,
    streams_option,
    tokens_option,
)

if TYPE_CHECKING:
    from antcache.store.integrity.convert import ConvertPlan, ConvertReport


@command(
    example="antcache store convert kitchen.zarr kitchen.h5",
    then="`antcache store verify` reads the copy, every byte of it.",
    goes_on=SAME_COMMAND,
)
@store_argument("source", metavar="SOURCE")
@store_argument("target", metavar="TARGET")
@format_option
@dtype_option(shown="as in SOURCE", tokens=True)
@tokens_option("Pool tokens to a smaller grid, each the mean of a cell.", shown="as in SOURCE")
@click.option(
    "--compressed/--uncompressed",
    default=None,
    show_default="as in SOURCE",
    help="Whether features are compressed, without loss.",
)
@streams_option
@dry_run_option
@json_option
def convert(
    source: Path | str,
    target: Path | str,
    streams: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Copy SOURCE into TARGET, in another form.

    Every unit is checked before it is copied, and keeps its attributes and, where its values stay
    the same, its checksums.
    """
    from antcache.store import Store
    from antcache.store.integrity import convert as library

    store = Store.open(source)
    config = library.ConvertConfig(streams=streams or None, **settings)
    if dry_run:
        print_result(library.plan_conversion(store, target, config), as_json, _show_plan)
        return
    with at_work(target) as progress:
        report = library.convert(store, target, config, progress)
    print_result(report, as_json, _print)


def _show_plan(plan: ConvertPlan) -> None:
    say(
        f"{plan.target} ({plan.backend}): {len(plan.to_do)} units to do "
        f"({plan.num_bytes / 1e6:.1f} MB to read), {len(plan.done)} already there"
    )


def _print(report: ConvertReport) -> None:
    say(
        f"{report.target} ({report.backend}): {len(report.written)} units written "
        f"({report.num_bytes / 1e6:.1f} MB read, {report.seconds:.1f} s), "
        f"{len(report.skipped)} already there"
    )
    if report.rounding:
        print_table(
            "Rounding",
            ["stream", "largest difference", "largest share", "became 0"],
            [
                [name, f"{r.largest_absolute:.3g}", f"{r.largest_relative:.3g}", r.became_zero]
                for name, r in report.rounding.items()
            ],
        )
