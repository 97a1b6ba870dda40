"""`antcache teacher score`: every figure of teachers and soft targets, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.annotations.protocols import anchor_name
from antcache.cli.choices import HISTORIES
from antcache.cli.command import UNCHANGED, command, section
from antcache.cli.common import (
    PATH,
    json_option,
    print_json,
    print_table,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.evaluation.sheets import print_coverage, print_sheet, say_few_classes
from antcache.cli.numbers import COUNT, SHARE, Several
from antcache.cli.options import (
    anchor_option,
    bootstrap_option,
    cluster_option,
    device_option,
    gap_option,
    seed_option,
    split_option,
)
from antcache.cli.teacher.figures import SHOWN, shown

if TYPE_CHECKING:
    from antcache.evaluation.calibration import Calibration
    from antcache.store.location import Location
    from antcache.teacher.scoring import TeacherScore

COVERAGE = (1, 2, 5, 10, 20, 50, 100)
"""As `antcache.teacher.scoring` has them."""


@command(
    example="antcache teacher score kitchen.zarr sequence kitchen.zarr.teachers/sequence",
    then="`antcache teacher ensemble` mixes the better ones, `antcache student train` distils from "
    "them.",
    goes_on=UNCHANGED,
)
@store_argument("store_path")
@click.argument("names", metavar="NAME|TEACHER...", nargs=-1, required=True)
@section(
    "Figures",
    split_option("validation"),
    click.option(
        "--coverage",
        type=Several(COUNT),
        default=COVERAGE,
        show_default=",".join(map(str, COVERAGE)),
        help="Numbers of best classes of the coverage curve.",
    ),
    click.option(
        "--held-out",
        metavar="SPLIT",
        show_default="the training split, if its targets are cross-fitted",
        help="Fit the temperature on this split; on the scored one, from other videos.",
    ),
    bootstrap_option(1000),
    cluster_option,
    seed_option(),
)
@section(
    "What a TEACHER is asked with",
    click.option(
        "--histories",
        type=Several(HISTORIES),
        default=tuple(HISTORIES.choices),
        show_default=",".join(HISTORIES.choices),
        help="Kinds of history.",
    ),
    gap_option,
    anchor_option,
    click.option(
        "--noise", type=Several(SHARE), default=(), help="Shares of wrong labels in the histories."
    ),
    click.option(
        "--recognized",
        type=PATH,
        multiple=True,
        metavar="PREDICTIONS",
        help="Label past segments with the first action of these predictions; repeatable.",
    ),
    device_option,
)
@json_option
def score(
    store_path: Location,
    names: tuple[str, ...],
    split: str,
    histories: tuple[str, ...],
    gap_s: float | None,
    anchor: float | None,
    bootstrap: int,
    cluster: str,
    coverage: tuple[int, ...],
    held_out: str | None,
    noise: tuple[float, ...],
    recognized: tuple[Path, ...],
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Score soft targets of STORE by NAME, or trained TEACHER folders, in every way.

    Every metric over every denominator with bootstrap intervals, calibration, and how often the
    truth is among the k best; docs/protocol.md says what each means. A TEACHER is asked with every
    kind of history, and with imperfect ones (--noise, --recognized).
    """
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.evaluation.sheet import BootstrapConfig
    from antcache.teacher.scoring import ScoreConfig, score_teacher

    config = ScoreConfig(
        split=split,
        histories=histories,
        gap_s=gap_s,
        anchor=anchor,
        sampling=BootstrapConfig(resamples=bootstrap, cluster=cluster, seed=seed),
        coverage=coverage,
        held_out=held_out,
        noise=noise,
        recognized=recognized,
    )
    results = []
    for name in names:
        with progress_bars() as progress:
            results.append(score_teacher(store, name, config, device=device, progress=progress))
    if as_json:
        print_json([result.to_dict() for result in results])
        return
    for result in results:
        for history, sheet in result.sheets.items():
            title = f"{result.name}, {history}, anchor {anchor_name(result.anchor)}"
            print_sheet(title, sheet, config.sampling)
            print_coverage(title, sheet)
        _print_calibration(result)
        _print_imperfect(result)
        for note in result.notes:
            say(note)
    say_few_classes(store.taxonomy)


def _print_calibration(result: TeacherScore) -> None:
    rows: list[list[Any]] = []
    for history, sheet in result.sheets.items():
        rows.append([history, "1", "-", *_calibration(sheet.calibration)])
        fitted = result.temperature[history]
        if fitted is not None:
            value = f"{fitted.value:.3f}"
            rows.append([history, value, fitted.fitted_on, *_calibration(fitted.after)])
    print_table(
        f"{result.name}: calibration",
        ["history", "temperature", "fitted on", "NLL", "ECE %", "Brier", "confidence %"],
        rows,
    )


def _calibration(found: Calibration) -> list[str]:
    figures = (found.nll, found.ece, found.brier, found.confidence)
    return [f"{value:.3f}" for value in figures]


def _print_imperfect(result: TeacherScore) -> None:
    if not result.imperfect:
        return
    print_table(
        f"{result.name}: imperfect histories, percent",
        ["history", "labels", "wrong", "absent", *SHOWN],
        [
            [
                row.history,
                row.labels if row.rate is None else f"{row.labels} {row.rate:g}",
                row.wrong,
                row.absent,
                *shown(row.metrics),
            ]
            for row in result.imperfect
        ],
    )
