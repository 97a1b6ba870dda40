"""Training curves of the runs that are compared, from the `metrics.jsonl` in their folders.

Promise: only what a run itself wrote is drawn; a system without such a file (soft targets, a lone
file of predictions) has no curve, and is named. Letters: E epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antcache.errors import BadCheckpoint
from antcache.evaluation.predictions import FILE_NAME, HELD_OUT
from antcache.evaluation.report.svg import Drawing, shorten, ticks
from antcache.evaluation.report.words import metric_label
from antcache.untrusted import JSON_BYTES, parse_json, read_text

METRICS = "metrics.jsonl"
SCORED = {"held_out": "held-out training videos", "validation": "validation"}
LOSSES = {"loss": "training loss, all terms", "action_loss": "training cross-entropy of the action"}
WIDTH, HEIGHT = 360.0, 236.0
KEYS, KEY_Y = (44.0, 204.0), 12.0  # where the key of each side begins, above the curves
MOST_EPOCHS, LARGEST = 1 << 32, 1e100
"""Of what is drawn: the axis of a larger number has no ticks that floats can hold."""
LEFT, RIGHT, TOP, BOTTOM = 44.0, 352.0, 30.0, 200.0

Curve = dict[int, float]
"""Epoch -> value."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One figure over the epochs.

    Attributes:
        title: what is drawn.
        a: one curve for each run of A that has one.
        b: the same of B.
        names: of A and B.
    """

    title: str
    a: Sequence[Curve]
    b: Sequence[Curve]
    names: tuple[str, str]

    def summary(self) -> str:
        """The last values, in words."""
        parts = []
        for name, curves in zip(self.names, (self.a, self.b), strict=True):
            mean = mean_curve(curves)
            if mean:
                last = max(mean)
                runs = f"mean of {len(curves)} runs, " if len(curves) > 1 else ""
                parts.append(f"{name} ends at {mean[last]:.4g} ({runs}epoch {last})")
        return "; ".join(parts) + "."


def read_history(name: str) -> list[dict[str, Any]] | None:
    """What a run wrote about its epochs, or None if `name` is no run or wrote nothing.

    Args:
        name: the folder of a run, or the file of predictions in it.

    Raises:
        BadCheckpoint: a line can't be read.
    """
    path = Path(name)
    if not path.is_dir():
        if path.name not in (FILE_NAME, HELD_OUT):
            return None
        path = path.parent
    file = path / METRICS
    if not file.is_file():
        return None
    records = []
    try:
        lines = read_text(file, at_most=JSON_BYTES).splitlines()
    except ValueError as error:
        raise BadCheckpoint("the run's metrics can't be read", where=file, found=error) from error
    for number, line in enumerate(lines, 1):
        try:
            record = parse_json(line)
            if not 0 <= record["epoch"] <= MOST_EPOCHS:
                raise ValueError("an impossible epoch")
            records.append({**record, "epoch": int(record["epoch"])})
        except (ValueError, KeyError, TypeError) as error:
            raise BadCheckpoint(
                "a line of the run's metrics can't be read",
                where=f"{file}, line {number}",
                expected="a JSON object with an epoch",
                found=line[:40],
                hint="the run is damaged, or still writing",
            ) from error
    return records or None


def panels_of(
    a: Sequence[list[dict[str, Any]]], b: Sequence[list[dict[str, Any]]], names: tuple[str, str]
) -> list[Panel]:
    """The panels that the histories of A and B, called `names`, have anything for."""
    everything = [_flat(record) for history in (*a, *b) for record in history]
    present = {key for record in everything for key in record}
    keys = {key: title for key, title in LOSSES.items() if key in present}
    if all(record.get("loss") == record.get("action_loss") for record in everything):
        keys.pop("loss", None)  # the action's is the only term
    for part, title in SCORED.items():
        metrics = ["action/top1", "action/top5", "action/many_shot_recall@5", "action/recall@5"]
        if f"{part}/{metrics[2]}" in present:
            metrics.pop()
        for name in metrics:
            keys[f"{part}/{name}"] = f"{metric_label(name)}, {title}, %"
    panels = [
        Panel(title=title, a=_curves(a, key), b=_curves(b, key), names=names)
        for key, title in keys.items()
    ]
    return [panel for panel in panels if panel.a or panel.b]


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean at each epoch that all curves have."""
    if not curves:
        return {}
    common = sorted(set(curves[0]).intersection(*curves[1:]))
    return {epoch: sum(c[epoch] for c in curves) / len(curves) for epoch in common}


def draw(panel: Panel, name: str) -> str:
    """A panel as SVG: A dashed, B solid; thin for each run, thick for the mean."""
    curves = [*panel.a, *panel.b]
    epochs = [epoch for curve in curves for epoch in curve]
    values = [value for curve in curves for value in curve.values()]
    first, last = min(epochs), max(epochs)
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    low, high = low - margin, high + margin

    def place(epoch: int, value: float) -> tuple[float, float]:
        along = (epoch - first) / (last - first) if last > first else 0.5
        up = (value - low) / (high - low)
        return LEFT + along * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)

    drawing = Drawing(name, WIDTH, HEIGHT, title=panel.title, description=panel.summary())
    for value in ticks(low, high, 5):
        y = place(first, value)[1]
        drawing.line([(LEFT, y), (RIGHT, y)], "grid")
        drawing.text(LEFT - 5, y + 4, f"{value:.4g}", "end soft")
    marks = {first, last}
    if last > first:
        marks |= {int(t) for t in ticks(first, last) if t == int(t)}
    for epoch in sorted(marks):
        crowded = epoch not in (first, last) and min(epoch - first, last - epoch) < (
            (last - first) / 10
        )
        if not crowded:
            drawing.text(place(epoch, low)[0], BOTTOM + 15, str(epoch), "mid soft")
    drawing.text((LEFT + RIGHT) / 2, HEIGHT - 4, "epoch", "mid soft")
    for side, name, own, at in zip("ab", panel.names, (panel.a, panel.b), KEYS, strict=True):
        if own:
            drawing.line([(at, KEY_Y - 4), (at + 22, KEY_Y - 4)], f"sample {side}")
            drawing.text(at + 27, KEY_Y, shorten(name, 18), side)
        for curve in own if len(own) > 1 else ():
            _line(drawing, [place(*point) for point in curve.items()], f"thin {side}")
        points = [place(*point) for point in mean_curve(own).items()]
        if points:
            _line(drawing, points, f"thick {side}")
    return str(drawing)


def _line(drawing: Drawing, points: Sequence[tuple[float, float]], style: str) -> None:
    if len(points) == 1:  # one epoch: a short stroke, for a point would not be seen
        x, y = points[0]
        points = [(x - 4, y), (x + 4, y)]
    drawing.line(points, style)


def _curves(histories: Sequence[list[dict[str, Any]]], key: str) -> list[Curve]:
    curves = []
    for history in histories:
        flat = {record["epoch"]: _flat(record).get(key) for record in history}
        curve = {epoch: value for epoch, value in sorted(flat.items()) if value is not None}
        if curve:
            curves.append(curve)
    return curves


def _flat(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's numbers that can be drawn as `loss`, `validation/action/top1`, ..."""
    flat = {key: value for key, value in record.items() if key not in SCORED}
    for part in SCORED:
        own = record.get(part)
        if isinstance(own, Mapping):
            flat |= {f"{part}/{key}": value for key, value in own.items()}
    return {k: v for k, v in flat.items() if isinstance(v, int | float) and abs(v) < LARGEST}
