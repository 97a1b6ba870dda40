"""`antcache compare`: what one system gains over another, and what a teacher knew about it."""

from __future__ import annotations

import click

from antcache.cli.command import UNCHANGED, command
from antcache.cli.common import json_option, print_json, print_table, say
from antcache.cli.evaluation.comparing import comparison_options
from antcache.cli.evaluation.sheets import print_metrics
from antcache.cli.numbers import AMOUNT
from antcache.evaluation.comparing.buckets import CHANGES, BucketCell, Buckets
from antcache.evaluation.comparing.compare import CompareConfig, Comparison
from antcache.evaluation.comparing.compare import compare as compare_systems
from antcache.store import Store
from antcache.store.location import Location


@command(
    example="antcache compare kitchen.zarr runs/plain runs/distilled --teacher targets/sequence",
    then="`antcache report` writes the same as one page, with curves and a timeline.",
    goes_on=UNCHANGED,
)
@comparison_options
@click.option("--shown-classes", "classes", type=AMOUNT, default=10, help="Classes that are shown.")
@json_option
def compare(
    store: Location,
    side_a: tuple[str, ...],
    side_b: tuple[str, ...],
    names: tuple[str, ...],
    teacher: str | None,
    split: str | None,
    config: CompareConfig,
    classes: int,
    as_json: bool,
) -> None:
    """Compare B with A: each a folder of a run, a file of predictions, or targets/NAME.

    Of several seeds give --a and --b once for each run (`--a r/plain-0 --b r/distilled-0 ...`);
    they are paired by order. The difference is B minus A, on the same draws of whole videos.
    """
    found = compare_systems(
        Store.open(store), side_a, side_b, names=names, teacher=teacher, split=split, config=config
    )
    if as_json:
        print_json(found.to_dict())
        return
    for note in found.notes:
        say(note)
    _print_metrics(found, config)
    _print_classes(found, classes)
    for buckets in found.buckets:
        _print_buckets(found, buckets)


def _print_metrics(found: Comparison, config: CompareConfig) -> None:
    for name, runs in zip(found.names, (found.a, found.b), strict=True):
        counts = [found.unpredicted[run.name] for run in runs]
        said = [f" ({count} without a prediction)" if count else "" for count in counts]
        say(f"{name}: {', '.join(run.name + more for run, more in zip(runs, said, strict=True))}")
    seeds = len(found.a)
    about = f"{config.sampling.level:.0%} intervals by {config.sampling.cluster}"
    about += f" and seed, {seeds} pairs" if seeds > 1 else ""
    rows = []
    for name, m in found.metrics.items():
        d = m.difference
        row = [name, m.mean_a, m.mean_b, f"{d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}]"]
        row += [d.p_text] + ([] if m.deviation is None else [m.deviation])
        rows.append(row)
    print_metrics(
        f"{found.n} segments of {found.split!r} ({found.over}), {found.task.text}, "
        f"{found.scored_classes} classes: percent, {about}",
        ["metric", *found.names, "difference", "p", *(["deviation"] if seeds > 1 else [])],
        rows,
        found.same,
    )


def _print_classes(found: Comparison, count: int) -> None:
    gained, lost = found.gained(), found.lost()
    total = sum(c.kind == "action" for c in found.classes)
    rows = [
        [c.name, c.n, c.a, c.b, f"{c.gain:+.2f}", "" if c.many_shot is None else c.many_shot]
        for c in (*gained[:count], *reversed(lost[:count]))
    ]
    title = f"Recall@5 by action: {len(gained)} of {total} gained, {len(lost)} lost"
    if rows:
        print_table(title, ["action", "segments", *found.names, "difference", "many-shot"], rows)
    else:
        say(title)


def _print_buckets(found: Comparison, buckets: Buckets) -> None:
    groups = list(dict.fromkeys(cell.teacher for cell in buckets.cells))
    alone = found.teacher is None
    print_table(
        f"Truth among the {buckets.k} best: segments that {found.names[1]} fixed or broke"
        + ("" if found.teacher is None else f", by {found.teacher.name}"),
        ["" if alone else "teacher", "fixed", "broken", "both right", "both wrong"],
        [
            ["all" if alone else group, *(buckets.cell(group, c).count for c in CHANGES)]
            for group in groups
            if alone or any(buckets.cell(group, c).count for c in CHANGES)
        ],
    )
    for cell in buckets.cells:
        _print_examples(cell, found.names, alone)


def _print_examples(cell: BucketCell, names: tuple[str, str], alone: bool) -> None:
    for e in cell.examples:
        who = "" if alone else f"teacher {cell.teacher}, "
        teacher = "" if e.teacher is None else f"; teacher {e.teacher}"
        say(
            f"  {who}{cell.change}: {e.uid} ({e.video}, {e.start_s:.1f} s) {e.truth}: "
            f"{names[0]} {e.a or '-'}; {names[1]} {e.b or '-'}{teacher}"
        )
