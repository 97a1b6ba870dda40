"""`antcache student stream`: what a student reaches if its predictions have to be ready in time."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.annotations.protocols import anchor_name
from antcache.cli.command import UNCHANGED, command, section
from antcache.cli.common import (
    json_option,
    path_argument,
    print_json,
    print_table,
    say,
    store_argument,
)
from antcache.cli.numbers import COUNT, POSITIVE, SECONDS
from antcache.cli.options import allow_missing_option, device_option, split_option

if TYPE_CHECKING:
    from antcache.evaluation.online import OnlineResult
    from antcache.store.location import Location


@command(
    example="antcache student stream kitchen.zarr runs/distilled --stride 0.25",
    then="`antcache evaluate` scores the same run without a clock, with intervals.",
    goes_on=UNCHANGED,
)
@store_argument("store_path")
@path_argument("runs", metavar="RUN...", nargs=-1, required=True)
@split_option("validation")
@allow_missing_option
@device_option
@section(
    "OnlineClock",
    click.option(
        "--latency",
        type=SECONDS,
        show_default="the head's, measured here",
        help="Seconds that a prediction takes.",
    ),
    click.option(
        "--backbone-latency",
        type=SECONDS,
        default=0.0,
        help="Seconds added for the features, which are read from the store here.",
    ),
    click.option(
        "--stride",
        type=POSITIVE,
        show_default="it is always done in time",
        help="Seconds between inputs; a busy model skips them.",
    ),
    click.option("--calls", type=COUNT, default=100, help="Predictions to time."),
)
@json_option
def stream(
    store_path: Location,
    runs: tuple[Path, ...],
    split: str,
    latency: float | None,
    backbone_latency: float,
    stride: float | None,
    calls: int,
    allow_missing: bool,
    device: str,
    as_json: bool,
) -> None:
    """Score the students in RUN folders beside a clock: a late prediction does not count.

    At `start - gap` the newest finished prediction counts; it saw less of the video the longer it
    took. The first column is the classic evaluation, which takes a prediction to need no time.
    """
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.evaluation.online import OnlineClock, evaluate_online, measure_latency
    from antcache.student.runs.predicting import TrainedStudent

    segments = store.labels(split)
    results = []
    for run in runs:
        student = TrainedStudent(store, run, device=device, allow_missing=allow_missing)
        window = student.predictor.one_window(student.shape)
        timed = None if latency is not None else measure_latency(window, calls=calls)
        runtime = timed.median_s if timed is not None else latency or 0.0
        clocks = [
            OnlineClock(latency_s=0.0),
            OnlineClock(latency_s=runtime + backbone_latency, stride_s=stride),
        ]
        classic, streamed = (
            evaluate_online(
                segments,
                store.taxonomy,
                student.protocol.gap_s,
                clock,
                partial(student.predict, split=split),
                anchor=student.protocol.anchor,
            )
            for clock in clocks
        )
        account = {
            "run": str(run),
            "device": str(student.device),
            "anchor": anchor_name(student.protocol.anchor),
            "gap_s": student.protocol.gap_s,
            "measured": None if timed is None else vars(timed),
            "classic": _plain(classic),
            "streaming": _plain(streamed),
        }
        results.append(account)
        if not as_json:
            _print(account, classic, streamed)
    if as_json:
        print_json(results)


def _plain(found: OnlineResult) -> dict[str, Any]:
    return {
        "latency_s": found.clock.latency_s,
        "stride_s": found.clock.stride_s,
        "period_s": found.clock.period_s,
        "n": found.n,
        "not_ready": found.not_ready,
        "unseen": found.unseen,
        "age_s": found.age_s if math.isfinite(found.age_s) else None,
        "metrics": found.metrics,
    }


def _print(account: dict[str, Any], classic: OnlineResult, streamed: OnlineResult) -> None:
    clock, timed = streamed.clock, account["measured"]
    how = "given" if timed is None else f"median of {timed['calls']} on {account['device']}"
    say(f"{account['run']}: {1000 * clock.latency_s:.2f} ms a prediction ({how})")
    if account["anchor"] != anchor_name(0.0):
        say(f"the gap is counted back from the anchor {account['anchor']!r}: another task")
    pace = "done when it has to be"
    if clock.period_s is not None:
        pace = f"an input every {clock.stride_s:g} s, a prediction every {clock.period_s:g} s"
    say(
        f"{pace}; windows end {streamed.age_s:.3f} s early; of {streamed.n} segments "
        f"{streamed.not_ready} have none in time, {streamed.unseen} nothing to see"
    )
    print_table(
        f"All {streamed.n} segments, percent",
        ["metric", "classic", "streaming"],
        [
            [name, value, streamed.metrics[name]]
            for name, value in classic.metrics.items()
            if name != "n"
        ],
    )
