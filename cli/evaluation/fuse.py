"""`antcache fuse`: the predictions of several runs mixed into one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from antcache.cli.command import START_AGAIN, command
from antcache.cli.common import json_option, print_json, print_table, say, store_argument
from antcache.cli.options import mixture_option, output_option, overwrite_option
from antcache.errors import AlreadyExists, BadConfig
from antcache.evaluation.mixture_weights import APART, EQUAL, FITTED, LEARNED
from antcache.evaluation.predictions import HELD_OUT
from antcache.evaluation.scoring import load_predictions, rows_in
from antcache.store import Store
from antcache.store.location import Location

if TYPE_CHECKING:
    from antcache.evaluation.fusion import Fused


@command(
    example="antcache fuse kitchen.zarr runs/rgb runs/flow --output fused.safetensors",
    then="`antcache evaluate` scores the file, `antcache compare` tells what it gains.",
    goes_on=START_AGAIN,
)
@store_argument()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True)
@output_option("File to write.")
@click.option(
    "--weights",
    default=EQUAL,
    help=f"{EQUAL}; {FITTED}: found on held-out training videos; {APART}: likewise, for verb, noun "
    "and action apart; or a number per run: 0.5,0.3,0.2.",
)
@click.option(
    "--held-out-predictions",
    "held_out",
    multiple=True,
    metavar="FILE",
    show_default="those in the runs' folders",
    help="Predictions of held-out videos, once per run.",
)
@mixture_option
@overwrite_option
@json_option
def fuse(
    store: Location,
    runs: tuple[str, ...],
    output: Path,
    weights: str,
    held_out: tuple[str, ...],
    mixture: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Mix the predictions of RUNs (folders, files or targets/NAME), e.g. one per stream.

    `antcache evaluate` scores the file that is written like that of any run.
    """
    if output.exists() and not overwrite:
        raise AlreadyExists("predictions are already here", where=output, hint="--overwrite")
    source = Store.open(store)
    from antcache.evaluation.fusion import fuse as fuse_runs

    if weights in LEARNED:
        for name in held_out:
            _refuse_trained_on(source, name)
    found = fuse_runs(
        source,
        runs,
        weights=weights if weights in (EQUAL, *LEARNED) else _numbers(weights),
        held_out=held_out or None,
        mixture=mixture,
    )
    found.predictions.save(output, overwrite=overwrite)
    if as_json:
        print_json(
            {
                "file": str(output),
                "segments": len(found.predictions.uid),
                "left_out": found.left_out,
                "weights": dict(zip(runs, found.weights, strict=True)),
                "held_out": found.held_out,
                "nll": list(found.nll),
                **found.predictions.task.to_dict(),
                "apart": {
                    kind: {
                        "weights": dict(zip(runs, share.weights, strict=True)),
                        "nll": list(share.nll),
                    }
                    for kind, share in found.shares.items()
                    if len(found.shares) > 1
                },
            }
        )
        return
    _print(f"{output}: {len(found.predictions.uid)} segments", runs, found)
    if found.left_out:
        say(f"{found.left_out} segments that a run lacks are left out")


def _print(title: str, runs: tuple[str, ...], found: Fused) -> None:
    """A row for each run, with a weight of each kind that has its own, and one for the mixture."""
    rows, heads = [[run] for run in (*runs, "all")], ["run"]
    for kind, share in found.shares.items():
        of = f" of {kind}s" if len(found.shares) > 1 else ""
        heads.append(f"weight{of}")
        for row, weight in zip(rows, (*(f"{w:.4f}" for w in share.weights), ""), strict=True):
            row.append(weight)
        if share.nll:
            heads.append(f"NLL{of} of {found.held_out} held out" if not of else f"NLL{of}")
            for row, nll in zip(rows, share.nll, strict=True):
                row.append(f"{nll:.4f}")
    if not found.nll:
        rows.pop()  # of the mixture nothing is known
    if len(found.shares) > 1:
        title += f"; NLL of {found.held_out} held out"
    print_table(title, heads, rows)


def _refuse_trained_on(store: Store, name: str) -> None:
    """Refuse predictions of videos that their own student was trained on.

    Which ones it held out follows from their names and its share. Predictions that name no student
    (imported, fused, soft targets) pass: of those nobody can tell.
    """
    from antcache.student.config import lifted, read_settings
    from antcache.student.runs.place import CONFIG
    from antcache.student.training.held_out import hold_out
    from antcache.student.training.optimization_config import SelectionConfig

    predictions, path = load_predictions(store, name), Path(name)
    settings = read_settings(lifted(predictions.config))
    if predictions.split != settings.get("train_split"):
        return
    if path.name == HELD_OUT and path.with_name(CONFIG).is_file():
        return  # by the run itself, which knew of videos without a window: those are not counted
    labels = store.labels(predictions.split)
    config = SelectionConfig(held_out=settings.get("held_out", 0.0))
    _, held = hold_out(labels.uid, labels, store.taxonomy, config)
    videos = labels.video[rows_in(predictions, labels, name)]
    trained = ~np.isin(videos, () if held is None else held.videos)
    if trained.any():
        raise BadConfig(
            "weights can't be fitted on videos that the student was trained on",
            where=name,
            found=f"{int(trained.sum())} of {len(trained)} segments",
            hint=f"take {HELD_OUT} of a run that was trained with --held-out",
        )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise BadConfig(
            "impossible weights",
            expected=f"{EQUAL}, {FITTED}, {APART} or numbers: 0.5,0.3,0.2",
            found=text,
        ) from error
