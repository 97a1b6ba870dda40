"""`antcache import lmdb`: features that RULSTM, AVT or others have published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from antcache.cli.command import SAME_COMMAND, command
from antcache.cli.common import (
    at_work,
    existing_store,
    json_option,
    note,
    print_json,
    print_table,
    progress_bars,
    say,
    store_argument,
    warn,
)
from antcache.cli.options import dry_run_option, dtype_option, format_option, key_fps_option
from antcache.errors import BadConfig

SHOWN = 20
"""Videos whose gaps are printed; the log and `--json` have them all."""


@command(
    example="antcache import lmdb kitchen.zarr rgb=rulstm/rgb flow=rulstm/flow --dry-run",
    then="`antcache store doctor` tells what gaps mean for your windows, `antcache student train` "
    "trains on them.",
    goes_on=SAME_COMMAND,
)
@store_argument()
@click.argument("sources", metavar="STREAM=LMDB...", nargs=-1, required=True)
@key_fps_option
@dtype_option("float32")
@click.option(
    "--fill",
    metavar="RULE",
    show_default="as the stream has it, at first none",
    help="previous:0.3s: in a gap, the row before stands in until it is 0.3 s old. none: it never "
    "does.",
)
@format_option
@dry_run_option
@json_option
def lmdb(
    store: Path | str,
    sources: tuple[str, ...],
    backend: str | None,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Bring LMDBs of features into STORE, each as a stream: rgb=FOLDER flow=FOLDER ...

    Keys are VIDEO_frame_0000000001.jpg, values float32. STORE is created if it is not there. With
    --dry-run the keys are read and the plan is shown.
    """
    from antcache.interop.lmdb.importing import LmdbImportConfig, import_lmdb, plan_lmdb
    from antcache.store import Store

    config = LmdbImportConfig(**settings)
    paths = _parse(sources)
    existing = existing_store(store, backend)
    with progress_bars() as progress:
        plans = plan_lmdb(paths, existing, config, progress)
    if dry_run:
        _show([plan.to_dict() for plan in plans], "to_do", as_json)
        return
    target = existing or Store.create(store, backend=backend)
    with at_work(store) as progress:
        reports = import_lmdb(plans, target, progress)
    _show([report.to_dict() for report in reports], "written", as_json)


def _parse(sources: tuple[str, ...]) -> dict[str, Path]:
    """LMDB by name of stream."""
    paths: dict[str, Path] = {}
    for text in sources:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise BadConfig("which LMDB becomes which stream", expected="rgb=FOLDER", found=text)
        if name in paths:
            raise BadConfig(f"two LMDBs for stream {name!r}", found=text)
        paths[name] = Path(path)
    return paths


def _show(streams: list[dict[str, Any]], done: str, as_json: bool) -> None:
    """The plan, or what was done, for each stream."""
    if as_json:
        print_json({"streams": streams})
        return
    columns = ["dim", "dtype", "fps", "gaps", "longest_gap_s"]
    print_table(
        "Streams",
        ["stream", "videos", "rows", done.replace("_", " "), *columns[:-1], "longest s"],
        [
            [
                s["stream"],
                len(s["videos"]),
                sum(v["rows"] for v in s["videos"]),
                len(s[done]),
                *(s[c] for c in columns),
            ]
            for s in streams
        ],
    )
    for s in streams:
        _show_gaps(s)


def _show_gaps(stream: dict[str, Any]) -> None:
    """What is missing in one stream, and what windows make of it."""
    name, step, age = stream["stream"], stream["step_s"], stream["max_age_s"]
    holed = [v for v in stream["videos"] if v["gaps"]]
    if holed:
        holed.sort(key=lambda v: -v["longest_gap_s"])
        fields = ["gaps", "longest_gap_s", "first_gap_s"]
        print_table(
            f"Gaps in {name}: {len(holed)} videos"
            + (f", the {SHOWN} with the longest gaps" if len(holed) > SHOWN else ""),
            ["video", "gaps", "longest s", "first after s"],
            [[v["video"], *(v[f] for f in fields)] for v in holed[:SHOWN]],
        )
    rule = (
        "a window that needs one is an error"
        if age is None
        else f"the row before stands in until it is {age:g} s old"
    )
    say(f"{name}: a gap is more than {step:.4g} s between two rows; {rule}")
    if stream["note"]:
        note(f"{name}: {stream['note']}")
    wild = stream.get("nonfinite_rows")
    if wild:
        first = next(iter(wild.items()))
        warn(
            f"{name}: {sum(wild.values())} rows of {len(wild)} videos hold values that are not "
            f"finite, stored as they are; the first video is {first[0]} ({first[1]} rows)"
        )
