"""What commands share that score: tables of figures and of a sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from antcache.annotations import Taxonomy
from antcache.cli.common import print_table, say
from antcache.evaluation.caveats import few_classes
from antcache.evaluation.sheet import UNSEEN, BootstrapConfig, Counted, Sheet

HEADS = {"all": "all", "rulstm": "RULSTM", "avt": "AVT", UNSEEN: "unseen participants"}


def print_metrics(
    title: str, columns: list[str], rows: list[list[Any]], same: Mapping[str, str]
) -> None:
    """Print figures by metric, those that are the same by construction once.

    Args:
        title: of the table.
        columns: its heads.
        rows: each begins with the name of its metric.
        same: see `caveats.same_metrics`; and `in_all`.
    """
    print_table(title, columns, [row for row in rows if row[0] not in same])
    if same:
        say("the same here: " + "; ".join(f"{name} = {other}" for name, other in same.items()))


def in_all(same: Mapping[str, str], columns: Iterable[Mapping[str, float | int]]) -> dict[str, str]:
    """Of metrics that are the same on a whole split those that are so in each column.

    Segments that count in one column may lack a class, and with it what made two of them the same.
    """
    kept = dict(same)
    for figures in columns:
        for name, other in same.items():
            pair = figures.get(name, 0.0), figures.get(other, 0.0)
            if not math.isclose(*pair, rel_tol=1e-9):  # the last bits of a quotient don't count
                kept.pop(name, None)
    return kept


def say_few_classes(taxonomy: Taxonomy) -> None:
    """Say it below figures that chance has a part in."""
    note = few_classes(taxonomy)
    if note is not None:
        say(note)


def print_sheet(title: str, sheet: Sheet, sampling: BootstrapConfig) -> None:
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
    unpredicted = max(part.unpredicted for part in parts.values())
    about = "percent" + (f", {how}" if sampling.resamples else "")
    about += f"; {unpredicted} without a prediction count as wrong" if unpredicted else ""
    print_metrics(
        f"{title}: {about}",
        ["metric", *heads],
        [[name, *(_cell(part, name) for part in parts.values())] for name in names if name != "n"],
        in_all(sheet.same, (part.metrics for part in parts.values())),
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
