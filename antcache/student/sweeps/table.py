"""What a sweep says: means over seeds, and paired differences with their significance.

Promise: settings are compared seed by seed, with those seeds alone that both have; intervals and p
are of the paired t-test, which takes differences between seeds to be normal and says nothing about
other data. A setting is chosen by training videos that are held out, or not at all. Letters: n
seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from antcache.evaluation.metrics import mean_and_error

SHOWN = (
    "action/top1",
    "action/top5",
    "action/many_shot_recall@5",
    "action/recall@5",
    "action/class_mean_top1",
)
"""Metrics in the table, as far as the dataset has them."""

HELD_OUT = "held out "
"""Begins the name of the metric of the training videos held out, by which epochs are compared."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One metric of one setting, in percent.

    Attributes:
        mean: over seeds.
        deviation: standard deviation (n - 1), or None of one seed.
        n: seeds.
        difference: mean difference to the first setting over the seeds of both, or None of the
            first itself.
        low: lower end of the difference's 95 % interval; None with fewer than two pairs.
        high: upper end.
        p: two-sided, of the paired t-test; None likewise.
        pairs: seeds that were compared.
    """

    mean: float
    deviation: float | None
    n: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    pairs: int = 0


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells by setting and metric; the first setting is what the others are compared to.

    Attributes:
        cells: setting -> metric -> cell.
        chosen: the setting with the best mean on the training videos held out, the first of
            several, among those of which no seed failed; None where no videos are held out.
    """

    cells: Mapping[str, Mapping[str, Cell]]
    chosen: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "settings": {
                setting: {metric: asdict(cell) for metric, cell in row.items()}
                for setting, row in self.cells.items()
            },
            "chosen": self.chosen,
        }


def tabulate(results: Mapping[str, Mapping[int, Mapping[str, float] | None]]) -> Table:
    """Compare settings.

    Args:
        results: setting -> seed -> metrics, None where the run failed.
    """
    cells: dict[str, dict[str, Cell]] = {}
    first = next(iter(results.values()))
    for setting, runs in results.items():
        done = {seed: run for seed, run in runs.items() if run is not None}
        held = {name: None for run in done.values() for name in run if name.startswith(HELD_OUT)}
        wanted = (*held, *SHOWN)
        names = [name for name in wanted if done and all(name in run for run in done.values())]
        cells[setting] = {}
        for name in names:
            values = [run[name] for run in done.values()]
            mean, deviation = float(np.mean(values)), None
            if len(values) > 1:
                mean, deviation, _ = mean_and_error(values)
            cell = Cell(mean=mean, deviation=deviation, n=len(values))
            if runs is not first:
                base = {seed: run[name] for seed, run in first.items() if run is not None}
                pairs = [run[name] - base[seed] for seed, run in done.items() if seed in base]
                cell = _compared(cell, pairs)
            cells[setting][name] = cell
    complete = {
        setting: cell.mean
        for setting, row in cells.items()
        for name, cell in row.items()
        if name.startswith(HELD_OUT) and cell.n == len(results[setting])
    }
    chosen = max(complete, key=lambda setting: complete[setting]) if complete else None
    return Table(cells=cells, chosen=chosen)


def _compared(cell: Cell, differences: Sequence[float]) -> Cell:
    """The cell with its paired differences (n,) to the first setting."""
    count = len(differences)
    given: dict[str, Any] = {**asdict(cell), "pairs": count}
    if count:
        given["difference"] = float(np.mean(differences))
    if count > 1:
        from scipy import stats

        mean, _, error = mean_and_error(differences)
        reach = float(stats.t.ppf(0.975, count - 1)) * error
        p = 2 * float(stats.t.sf(abs(mean) / error, count - 1)) if error else float(mean == 0)
        given |= {"low": mean - reach, "high": mean + reach, "p": p}
    return Cell(**given)
