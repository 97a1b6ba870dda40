"""`antcache student sweep`: many seeds and settings of one architecture, and what differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.command import SAME_COMMAND, command
from antcache.cli.common import (
    PATH,
    json_option,
    log_to,
    path_argument,
    print_json,
    print_table,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.options import engine_options, only_with_ray

if TYPE_CHECKING:
    from antcache.store.location import Location
    from antcache.student.sweeps.table import Cell, Table


@command(
    example="antcache student sweep kitchen.zarr sweep.yaml --runs runs/sweep",
    then="`antcache compare` tells what one of these runs gains over another.",
    goes_on=SAME_COMMAND,
)
@store_argument("store_path")
@path_argument("plan", metavar="PLAN.yaml")
@click.option("--runs", type=PATH, required=True, help="Folder for a run per member.")
@engine_options
@json_option
def sweep(
    store_path: Location,
    plan: Path,
    runs: Path,
    engine: str,
    address: str | None,
    as_json: bool,
) -> None:
    """Train every setting in PLAN.yaml with every seed, and compare the settings seed by seed.

    The plan has `base` (options of `antcache student train`, underscores for hyphens, or a
    `preset`), `seeds`, and either `settings` (name: what changes) or `grid` (option: values).
    Members of one architecture are trained at once where that pays (`at_once` says how many).
    With `held_out`, the setting that is best on the training videos held out is named.
    With --engine ray a cluster trains one member per GPU, or per CPU, wherever one is free.
    A member whose loss is not finite is named, and the others go on; the exit code is then 1.
    """
    from antcache.store import Store

    only_with_ray(engine, address=address)
    store = Store.open(store_path)
    from antcache.student.runs.place import LOG
    from antcache.student.sweeps.plan import read_plan
    from antcache.student.sweeps.run import check_folder
    from antcache.student.sweeps.run import sweep as run_sweep

    wanted = read_plan(plan)
    check_folder(runs, wanted)
    training = None
    if engine == "ray":
        from antcache.student.sweeps.on_ray import on_ray

        training = on_ray(address)
    with log_to(runs / LOG), progress_bars() as progress:
        table, failed = run_sweep(store, runs, wanted, progress=progress, training=training)
    if as_json:
        print_json(table.to_dict() | {"failed": failed})
    else:
        _print(table)
        for name, error in failed.items():
            say(f"failed: {name}: {error}")
        if table.chosen is not None:
            say(f"best on the training videos held out: {table.chosen}")
    if failed:
        click.get_current_context().exit(1)


def _print(table: Table) -> None:
    """A table for each metric: mean and deviation, and the difference to the first setting."""
    first = next(iter(table.cells))
    metrics = list(dict.fromkeys(name for row in table.cells.values() for name in row))
    for metric in metrics:
        rows = []
        for setting, row in table.cells.items():
            if metric in row:
                rows.append([setting, *_columns(row[metric])])
        print_table(
            f"{metric}, percent; differences to {first}, paired by seed",
            ["setting", "mean", "deviation", "seeds", "difference", "95 % interval", "p"],
            rows,
        )


def _columns(cell: Cell) -> list[object]:
    interval = "" if cell.low is None else f"{cell.low:+.2f} to {cell.high:+.2f}"
    return [
        cell.mean,
        "" if cell.deviation is None else cell.deviation,
        cell.n,
        "" if cell.difference is None else f"{cell.difference:+.2f}",
        interval,
        "" if cell.p is None else f"{cell.p:.3f}",
    ]
