"""`antcache student export`: a student as a folder for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.command import START_AGAIN, command
from antcache.cli.common import json_option, path_argument, print_result, say
from antcache.cli.options import classes_store_option, license_option, student_form_option
from antcache.student.handing.fetching import check_vacant

if TYPE_CHECKING:
    from antcache.store.location import Location
    from antcache.student.handing.exporting import ExportReport


@command(
    example="antcache student export runs/plain anticipator --license cc-by-4.0",
    then="`antcache student push` puts it on the hub; in Python `KeptStudent.load` takes the "
    "folder.",
    goes_on=START_AGAIN,
)
@click.argument("run", metavar="RUN")
@path_argument("out")
@student_form_option
@license_option
@classes_store_option
@json_option
def export(
    run: str,
    out: Path,
    form: str,
    license_: str,
    store: Location | None,
    as_json: bool,
) -> None:
    """Write the student of RUN into the new folder OUT: weights, settings, classes, model card.

    RUN is the folder of a finished run, an exported one, or a hub id.
    """
    check_vacant(out)
    from antcache.store import Store

    taxonomy = None if store is None else Store.open(store).taxonomy
    from antcache.student.handing.exporting import export_student

    report = export_student(run, out, license=license_, form=form, taxonomy=taxonomy)
    print_result(report, as_json, _print)


def _print(report: ExportReport) -> None:
    say(f"{report.folder}: {report.num_parameters:,} parameters; {', '.join(report.files)}")
    for form, difference in report.differences.items():
        say(f"{form}: scores differ from the student's by at most {difference:.2g}")
