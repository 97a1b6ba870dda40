"""What commands share that score: tables of a sheet."""

from __future__ import annotations

from typing import Any

from antcache.cli.common import print_table
from antcache.evaluation.sheet import UNSEEN, Counted, Sampling, Sheet

HEADS = {"all": "all", "rulstm": "RULSTM", "avt": "AVT", UNSEEN: "unseen participants"}


def print_sheet(title: str, sheet: Sheet, sampling: Sampling) -> None:
    """Print every metric by denominator, with intervals where there are any."""
    # Each denominator holds the next stricter one, so that equally large ones are the same.
    groups: dict[Any, list[str]] = {}
    for name, part in sheet.counted.items():
        groups.setdefault(name if name == UNSEEN else part.n, []).append(name)
    parts = {names[0]: sheet.counted[names[0]] for names in groups.values()}
    heads = [
        f"{', '.join(HEADS[name] for name in names)} {sheet.counted[names[0]].n}"
        for names in groups.values()
    ]
    names = dict.fromkeys(name for part in parts.values() for name in part.metrics)
    how = f"{sampling.level:.0%} intervals by {sampling.cluster}"
    missed = max(part.missed for part in parts.values())
    about = "percent" + (f", {how}" if sampling.resamples else "")
    about += f"; {missed} without a prediction count as wrong" if missed else ""
    print_table(
        f"{title}: {about}",
        ["metric", *heads],
        [[name, *(_cell(part, name) for part in parts.values())] for name in names if name != "n"],
    )


def print_coverage(title: str, sheet: Sheet) -> None:
    """Print the coverage curve."""
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
