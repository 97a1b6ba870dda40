"""`antcache teacher score`: every figure of teachers and soft targets, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from antcache.cli.common import (
    json_option,
    print_json,
    print_table,
    progress_bars,
    store_argument,
)
from antcache.evaluation.calibration import Calibration
from antcache.evaluation.sheet import Counted, Sampling, Sheet
from antcache.store import Store
from antcache.store.location import Location
from antcache.teacher.histories import MODES
from antcache.teacher.scoring import COVERAGE, ScoreConfig, TeacherScore, score_teacher

HEADS = {"all": "all", "rulstm": "RULSTM", "avt": "AVT"}
SHOWN = {
    "top-1": "action/top1",
    "top-5": "action/top5",
    "many-shot recall@5": "action/many_shot_recall@5",
    "recall@5": "action/recall@5",
}


class Several(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """Values separated by commas, as a tuple."""

    name = "list"

    def __init__(self, kind: Callable[[str], Any]) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Each part as the kind of value that is wanted; the library checks the range."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            self.fail(f"{value!r} is not a list of {self.kind.__name__}s such as 1,2", param, ctx)


@click.command()
@store_argument("store_path")
@click.argument("names", metavar="NAME|TEACHER...", nargs=-1, required=True)
@click.option("--split", default="validation", show_default=True, help="Split to score.")
@click.option(
    "--histories",
    type=Several(str),
    default=MODES,
    show_default=",".join(MODES),
    help="Kinds of history that a TEACHER is asked with.",
)
@click.option("--gap", type=float, help="Gap of observed histories in s; default: the dataset's.")
@click.option(
    "--bootstrap",
    type=int,
    default=1000,
    show_default=True,
    metavar="B",
    help="Resamples for the 95 % intervals; 0: none.",
)
@click.option(
    "--cluster", default="video", show_default=True, help="What is resampled: video or segment."
)
@click.option(
    "--coverage",
    type=Several(int),
    default=COVERAGE,
    show_default=",".join(map(str, COVERAGE)),
    help="Numbers of best classes of the coverage curve.",
)
@click.option(
    "--held-out",
    metavar="SPLIT",
    help="Fit the temperature on this split; on the scored one, from other videos. "
    "[default: the training split, if its targets are cross-fitted]",
)
@click.option(
    "--noise", type=Several(float), default=(), help="Shares of wrong labels in the histories."
)
@click.option(
    "--recognised",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PREDICTIONS",
    help="Label past segments with the first action of these predictions.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="Torch device.")
@json_option
def score(
    store_path: Location,
    names: tuple[str, ...],
    split: str,
    histories: tuple[str, ...],
    gap: float | None,
    bootstrap: int,
    cluster: str,
    coverage: tuple[int, ...],
    held_out: str | None,
    noise: tuple[float, ...],
    recognised: tuple[Path, ...],
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Score soft targets of STORE by NAME, or trained TEACHER folders, in every way.

    Every metric over every denominator with bootstrap intervals, calibration, and how often the
    truth is among the k best; docs/protocol.md says what each means. A TEACHER is asked with every
    kind of history, and with imperfect ones (--noise, --recognised).
    """
    store = Store.open(store_path)
    config = ScoreConfig(
        split=split,
        histories=histories,
        gap_s=gap,
        sampling=Sampling(resamples=bootstrap, cluster=cluster, seed=seed),
        coverage=coverage,
        held_out=held_out,
        noise=noise,
        recognised=recognised,
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
            _print_sheet(f"{result.name}, {history}", sheet, config)
        _print_calibration(result)
        _print_imperfect(result)
        for note in result.notes:
            click.echo(note)


def _print_sheet(title: str, sheet: Sheet, config: ScoreConfig) -> None:
    """Metrics by denominator, and the coverage curve."""
    # Each denominator holds the next stricter one, so that equally large ones are the same.
    parts = {part.n: part for part in sheet.counted.values()}
    heads = [
        f"{', '.join(HEADS[name] for name, part in sheet.counted.items() if part.n == n)} {n}"
        for n in parts
    ]
    names = dict.fromkeys(name for part in parts.values() for name in part.metrics)
    how = f"{config.sampling.level:.0%} intervals by {config.sampling.cluster}"
    missed = max(part.missed for part in parts.values())
    about = "percent" + (f", {how}" if config.sampling.resamples else "")
    about += f"; {missed} without a prediction count as wrong" if missed else ""
    print_table(
        f"{title}: {about}",
        ["metric", *heads],
        [[name, *(_cell(part, name) for part in parts.values())] for name in names if name != "n"],
    )
    print_table(
        f"{title}: the truth among the k best classes, and their probability, percent",
        ["k", "recall", "class mean", "many-shot mean", "probability", "tail"],
        [
            [
                point.k,
                point.recall,
                point.class_mean_recall,
                "-" if point.many_shot_recall is None else point.many_shot_recall,
                point.mass,
                point.tail,
            ]
            for point in sheet.coverage
        ],
    )


def _cell(part: Counted, name: str) -> str:
    if name not in part.metrics:
        return "-"
    value = f"{part.metrics[name]:.2f}"
    if name not in part.intervals:
        return value
    interval = part.intervals[name]
    return f"{value} [{interval.low:.2f}, {interval.high:.2f}]"


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
                *(row.metrics.get(key, "-") for key in SHOWN.values()),
            ]
            for row in result.imperfect
        ],
    )
