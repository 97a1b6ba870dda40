"""`antcache store verify` and `repair`: is everything as it was written, and if not, what then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from antcache.checks import Range
from antcache.cli.command import SAME_COMMAND, UNCHANGED, command
from antcache.cli.common import (
    at_work,
    json_option,
    note,
    print_result,
    print_table,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.numbers import Number
from antcache.cli.options import dry_run_option
from antcache.text import listed

if TYPE_CHECKING:
    from antcache.store.integrity.repair import RepairReport
    from antcache.store.integrity.verify import VerifyReport

workers_option = click.option(
    "--workers",
    type=Number(Annotated[int, Range(1, 1024)]),
    show_default="one per core, 8 at most",
    help="Files that are read at once.",
)


@command(
    example="antcache store verify kitchen.zarr",
    then="`antcache store repair` drops or restores what is damaged.",
    goes_on=UNCHANGED,
)
@store_argument()
@workers_option
@json_option
def verify(store: Path | str, workers: int | None, as_json: bool) -> None:
    """Read every byte of STORE and name what is not as it was written.

    Exit code 0: intact; 1: something is damaged; 2: STORE is no store, or can't be read.
    """
    from antcache.store.backends import find_backend
    from antcache.store.integrity.verify import verify as check

    with progress_bars() as progress:
        report = check(find_backend(store), workers=workers, progress=progress)
    print_result(report, as_json, _print_verified)
    if not report.intact:
        click.get_current_context().exit(1)


@command(
    example="antcache store repair kitchen.zarr --dry-run",
    then="the command that wrote what was dropped, such as `antcache extract`, writes it again.",
    goes_on=SAME_COMMAND,
)
@store_argument()
@dry_run_option
@workers_option
@json_option
def repair(store: Path | str, dry_run: bool, workers: int | None, as_json: bool) -> None:
    """Drop what is damaged from STORE, so that running the same commands again restores it.

    Nothing that is intact is touched. What was done is logged to STORE.log. Exit code 0: what is
    in STORE now is intact; 1: something damaged is left (with --dry-run: is there).
    """
    from antcache.store.backends import find_backend
    from antcache.store.integrity.repair import repair as mend

    backend = find_backend(store)
    with at_work(store, dry_run=dry_run) as progress:
        report = mend(backend, dry_run=dry_run, workers=workers, progress=progress)
    print_result(report, as_json, _print_repaired)
    if not report.intact:
        click.get_current_context().exit(1)


def _print_verified(report: VerifyReport) -> None:
    if report.damaged:
        rows = [[finding.key or "(root)", finding.what] for finding in report.damaged]
        print_table("Damaged", ["key", "what"], rows)
        for why in dict.fromkeys(finding.why for finding in report.damaged if finding.why):
            say(why)
    wrong = len({finding.key for finding in report.damaged})
    say(
        f"{report.path}: {f'{wrong} damaged of' if wrong else 'intact:'} {report.units} units and "
        f"{report.groups} groups ({report.num_bytes / 1e6:.1f} MB read in {report.seconds:.1f} s, "
        f"{report.gigabytes_per_second:.2f} GB/s)"
    )
    if wrong:
        note("antcache store repair drops or restores what is damaged")


def _print_repaired(report: RepairReport) -> None:
    for action in report.actions:
        done = f"would be {action.done}" if report.dry_run else action.done
        say(f"{action.key or '(root)'}: {done} ({action.what})")
    for text in dict.fromkeys(action.next for action in report.actions if action.next):
        keys = [action.key for action in report.actions if action.next == text]
        say(f"next, for {listed(keys, 3)}: {text}")
    if not report.actions:
        say(f"{report.verified.path}: nothing is damaged")
