"""`antcache import predictions`: a teacher's predictions made by others become soft targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.choices import HISTORIES_OF_OTHERS
from antcache.cli.command import START_AGAIN, command, section
from antcache.cli.common import (
    PATH,
    at_work,
    json_option,
    note,
    print_json,
    print_table,
    say,
    store_argument,
)
from antcache.cli.options import (
    anchor_option,
    dry_run_option,
    name_option,
    overwrite_option,
    top_k_option,
)

if TYPE_CHECKING:
    from antcache.interop.predictions.importing import PredictionsReport

METRICS = {"top-1": "action/top1", "top-5": "action/top5"}


@command(
    example="antcache import predictions kitchen.zarr train.pkl validation.pkl --name bert",
    then="`antcache teacher score` tells what they are worth, `antcache student train` distils "
    "from them.",
    goes_on=START_AGAIN,
)
@store_argument("store_path", metavar="STORE")
@click.argument("files", type=PATH, metavar="FILE...", nargs=-1, required=True)
@section(
    "Soft targets",
    name_option,
    click.option(
        "--history",
        type=HISTORIES_OF_OTHERS,
        default="unknown",
        help="What the teacher is told of the past.",
    ),
    anchor_option,
    top_k_option,
    overwrite_option,
)
@section(
    "Files",
    click.option(
        "--allow-unknown", is_flag=True, help="Pass over predictions for segments not in the store."
    ),
    click.option(
        "--allow-nan", is_flag=True, help="Logits that are NaN throughout mean: no prediction."
    ),
    click.option("--no-features", is_flag=True, help="Leave out the teacher's features (LM_feat)."),
    dry_run_option,
)
@json_option
def predictions(
    store_path: Path | str,
    files: tuple[Path, ...],
    name: str,
    no_features: bool,
    anchor: float | None,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Import the predictions in FILE... (pickle, .npz, parquet) into STORE as soft targets.

    Pickles are read without running anything of them: arrays of numpy and torch and plain values,
    and nothing else. Several predictions for one segment are averaged; a segment without one has
    no soft target. With --dry-run everything is read and checked.
    """
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.evaluation.scoring import score_targets
    from antcache.interop.predictions.importing import PredictionsConfig, import_predictions

    settings["anchor"] = store.protocol.anchor if anchor is None else anchor
    config = PredictionsConfig(name=name, features=not no_features, dry_run=dry_run, **settings)
    with at_work(store.path, dry_run=dry_run) as progress:
        report = import_predictions(store, files, config, progress=progress)
    scores = {
        split: score_targets(store, name, split).scored
        for split, counts in report.splits.items()
        if report.written and counts["predicted"]
    }
    if as_json:
        print_json({**report.to_dict(), "metrics": scores})
        return
    _print(report, scores)


def _print(report: PredictionsReport, scores: dict[str, dict[str, float]]) -> None:
    rows = [
        [split, *counts.values(), *(scores.get(split, {}).get(m, "-") for m in METRICS.values())]
        for split, counts in report.splits.items()
    ]
    form = report.attributes["form"]
    about = f"targets/{report.name}: {form}, {report.attributes['history']} history"
    if report.feature is not None:
        about += f", features {report.feature} wide"
    print_table(about, ["split", "segments", "predicted", "missing", *METRICS], rows)
    for count, text in (
        (report.averaged["segments"], "segments have several predictions, averaged"),
        (report.in_several_files, "segments are in more than one file"),
        (report.by_number, "uids matched by their value as integers"),
        (report.unknown, "predictions for segments not in the store passed over"),
        (report.without, "entries say that there is no prediction"),
    ):
        if count:
            note(f"{count} {text}")
    for split, uids in report.missing.items():
        if uids:
            count = report.splits[split]["missing"]
            note(f"{split}: {count} without a prediction, {uids[0]} first")
    if not report.written:
        say("dry run: nothing was written")
