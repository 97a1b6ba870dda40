"""A plot of `benchmarks/results/kernel.csv`: share of the copy bandwidth per shape and contender.

    python benchmarks/kernel_plot.py [--csv FILE] [--out FILE.png] [--value copy_share|ms_p50]

One panel per dtype and form, of one device; dotted: what the bounds ask of ours. Needs matplotlib.
Drawn from the CSV and nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernel import ROOT, make_importable

make_importable()

from antcache.errors import AntcacheError, BadConfig, NotFound  # noqa: E402
from antcache.kernels.benchmark import bounds  # noqa: E402
from antcache.kernels.benchmark import rows as bench  # noqa: E402
from antcache.kernels.benchmark.rows import Row  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
COLORS = {  # Okabe and Ito's, told apart by all eyes
    bench.OURS: "#D55E00",
    bench.OVER: "#E69F00",
    bench.COMPILED: "#009E73",
    bench.LIGER: "#56B4E9",
    bench.PLAIN: "#0072B2",
    bench.EAGER: "#999999",
    bench.WHOLE: "#F0E442",
    bench.ORDA: "#CC79A7",
    bench.FLA: "#000000",
}
LABELS = {"copy_share": "share of copy bandwidth", "ms_p50": "ms (bars to p20 and p80)"}


def chosen(rows: Sequence[Row], device: str, value: str) -> list[Row]:
    """Rows with this number of forward and gradient, of one device.

    Raises:
        BadConfig: there are none, or several devices to choose from.
    """
    devices = list(dict.fromkeys(row.device for row in rows))
    if not device and len(devices) > 1:
        raise BadConfig("rows of several devices", found=", ".join(devices), hint="--device NAME")
    found = [
        row
        for row in rows
        if row.mode == bench.BOTH and getattr(row, value) and row.device == (device or devices[0])
    ]
    if not found:
        raise BadConfig("no rows to draw", expected=f"a device of {', '.join(devices) or 'none'}")
    return found


def least_share(row: Row) -> float | None:
    """The share that its bound asks of ours, in transfers that are needed at least."""
    bound = bounds.least_share(row.case, row.device)
    least, needed = bounds.transfers(row.case)
    return bound * least / needed if bound and row.contender == bench.OURS else None


def _shape(row: Row) -> tuple[int, int, int]:
    return (row.B, row.C, row.W)


def panel(axes: Any, rows: Sequence[Row], value: str) -> None:
    """Bars of one dtype and form, grouped by shape."""
    shapes = sorted({_shape(row) for row in rows}, key=lambda shape: (shape[1:], shape[0]))
    names = [name for name in COLORS if any(row.contender == name for row in rows)]
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        mine = [row for row in rows if row.contender == name]
        at = [shapes.index(_shape(row)) + (number - (len(names) - 1) / 2) * width for row in mine]
        heights = [getattr(row, value) or 0.0 for row in mine]
        errors = None
        if value == "ms_p50":
            low = [(row.ms_p50 or 0) - (row.ms_p20 or 0) for row in mine]
            high = [(row.ms_p80 or 0) - (row.ms_p50 or 0) for row in mine]
            errors = [low, high]
        axes.bar(at, heights, width, color=COLORS[name], label=name, yerr=errors, linewidth=0)
    ticks = [f"{b:,}\n{c:,}" + (f"\nin {w:,}" if w != c else "") for b, c, w in shapes]
    axes.set_xticks(range(len(shapes)), ticks, fontsize=8)
    axes.set_xlim(-0.6, len(shapes) - 0.4)
    axes.set_title(f"{rows[0].form}, {rows[0].dtype}", fontsize=10, loc="left")
    axes.set_ylabel(LABELS[value])
    axes.spines[["top", "right"]].set_visible(False)
    if value == "ms_p50":
        axes.set_yscale("log")
    else:
        axes.axhline(1, color="black", linewidth=0.8)
        for row in rows:
            if bound := least_share(row):
                at = shapes.index(_shape(row))
                axes.plot([at - 0.45, at + 0.45], [bound, bound], "k:", linewidth=0.8)


def draw(rows: Sequence[Row], out: Path, value: str = "copy_share") -> None:
    """Write the plot of these rows, all of one device."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = list(dict.fromkeys((row.form, row.dtype) for row in rows))
    forms = (*bench.FORMS, bench.LINEAR)
    panels.sort(key=lambda p: (forms.index(p[0]), bench.DTYPES.index(p[1])))
    wide = max(len({_shape(row) for row in rows}), 4)
    figure, grid = plt.subplots(
        len(panels), 1, figsize=(2.5 + 0.85 * wide, 0.9 + 2.4 * len(panels)), squeeze=False
    )
    for axes, (form, dtype) in zip(grid[:, 0], panels, strict=True):
        panel(axes, [row for row in rows if (row.form, row.dtype) == (form, dtype)], value)
    grid[-1, 0].set_xlabel("batch rows, classes, and the width of padded rows")
    handles = {
        label: handle
        for axes in grid[:, 0]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="upper right", ncols=3, fontsize=8, frameon=False
    )
    row = rows[0]
    figure.suptitle(
        f"Distillation loss, forward and gradient\n{row.device}, torch {row.torch}, {row.date}",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.1 / len(panels)))
    figure.savefig(out, dpi=120)
    plt.close(figure)


def main() -> None:
    """Read, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=RESULTS / "kernel.csv")
    parser.add_argument("--out", type=Path, default=RESULTS / "kernel.png")
    parser.add_argument("--device", default="", help="where the CSV has several")
    parser.add_argument("--value", choices=LABELS, default="copy_share")
    given = parser.parse_args()
    try:
        if not given.csv.exists():
            raise NotFound("no such CSV", where=given.csv, hint="benchmarks/kernel.py --record")
        draw(chosen(bench.read_rows(given.csv), given.device, given.value), given.out, given.value)
    except (AntcacheError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    print(given.out)


if __name__ == "__main__":
    main()
