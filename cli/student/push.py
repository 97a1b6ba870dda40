"""`antcache student push`: a student onto a hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.command import SAME_COMMAND, command
from antcache.cli.common import json_option, path_argument, print_result, say
from antcache.cli.options import (
    classes_store_option,
    license_option,
    private_option,
    student_form_option,
)

if TYPE_CHECKING:
    from antcache.store.location import Location
    from antcache.student.handing.pushing import StudentPushReport


@command(
    example="antcache student push runs/plain kitchen/anticipator --license cc-by-4.0",
    then="`antcache student export` takes the hub id as well, as does whatever takes a student.",
    goes_on=SAME_COMMAND,
)
@path_argument("run")
@click.argument("repo", metavar="OWNER/NAME")
@student_form_option
@license_option
@private_option
@classes_store_option
@json_option
def push(
    run: Path,
    repo: str,
    form: str,
    license_: str,
    private: bool,
    store: Location | None,
    as_json: bool,
) -> None:
    """Push the student of RUN, a finished run or an exported folder, as the model OWNER/NAME.

    What is pushed is what antcache student export writes. The hub is HF_ENDPOINT's, the token that
    of hf auth login or HF_TOKEN.
    """
    from antcache.store import Store

    taxonomy = None if store is None else Store.open(store).taxonomy
    from antcache.student.handing.pushing import push_student

    report = push_student(
        run, repo, license=license_, form=form, private=private, taxonomy=taxonomy
    )
    print_result(report, as_json, _print)


def _print(report: StudentPushReport) -> None:
    say(f"{report.repo}: {report.num_parameters:,} parameters; {', '.join(report.files)}")
