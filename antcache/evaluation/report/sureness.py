"""Reliability curves: how often the guesses of each confidence are right.

Promise: every bin of both sides that holds a segment is a point, at its own mean confidence; the
larger, the more segments. Values are drawn as they are, without smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from antcache.evaluation.calibration import ReliabilityBin
from antcache.evaluation.comparing.compare import Comparison
from antcache.evaluation.comparing.sureness import SideCalibration
from antcache.evaluation.report.svg import Drawing, shorten

WIDTH, HEIGHT = 360.0, 336.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 352.0, 30.0, 292.0
KEYS, KEY_Y = (44.0, 204.0), 12.0
SMALLEST, LARGEST = 3.0, 11.0  # sides of a point


def rows(found: Comparison) -> list[tuple[str, list[str]]]:
    """The figures of both sides: what each is called, and its value of A and of B."""

    def both(pattern: str, name: str) -> list[str]:
        values = [None if side is None else getattr(side, name) for side in found.calibration]
        return ["none" if value is None else pattern.format(value) for value in values]

    return [
        ("expected calibration error, %", both("{:.2f}", "ece")),
        ("mean confidence, %", both("{:.2f}", "confidence")),
        ("top-1, %", both("{:.2f}", "top1")),
        ("negative log-likelihood, nats", both("{:.3f}", "nll")),
        ("segments with a prediction", both("{:,}", "n")),
    ]


def bins(
    found: Comparison,
) -> list[tuple[float, float, tuple[ReliabilityBin | None, ReliabilityBin | None]]]:
    """(low, high, (bin of A, bin of B)) of each stretch of confidence that holds a segment."""
    sides = [{} if c is None else {b.low: b for b in c.bins} for c in found.calibration]
    edges = {b.low: b.high for own in sides for b in own.values()}
    return [(low, edges[low], (sides[0].get(low), sides[1].get(low))) for low in sorted(edges)]


def draw(found: Comparison) -> str:
    """Both curves as SVG, A dashed and B solid; empty if neither side predicts a segment."""
    sides = list(zip("ab", found.names, found.calibration, strict=True))
    if all(own is None for *_, own in sides):
        return ""
    drawing = Drawing(
        "reliability",
        WIDTH,
        HEIGHT,
        title="Share of right guesses by confidence",
        description=" ".join(_words(name, own) for _, name, own in sides),
    )

    def place(confidence: float, correct: float) -> tuple[float, float]:
        along = LEFT + confidence / 100 * (RIGHT - LEFT)
        return along, BOTTOM - correct / 100 * (BOTTOM - TOP)

    for value in range(0, 101, 20):
        x, y = place(value, value)
        drawing.line([(LEFT, y), (RIGHT, y)], "grid")
        drawing.text(LEFT - 5, y + 4, str(value), "end soft")
        drawing.text(x, BOTTOM + 15, str(value), "mid soft")
    drawing.line([place(0, 0), place(100, 100)], "even", "as often right as sure")
    drawing.text((LEFT + RIGHT) / 2, BOTTOM + 32, "confidence, %; right, % upwards", "mid soft")
    for (side, name, own), at in zip(sides, KEYS, strict=True):
        if own is None:
            continue
        drawing.line([(at, KEY_Y - 4), (at + 22, KEY_Y - 4)], f"sample {side}")
        drawing.text(at + 27, KEY_Y, shorten(name, 18), side)
        points = [place(b.confidence, b.correct) for b in own.bins]
        if len(points) > 1:
            drawing.line(points, f"thick {side}")
        for (x, y), each in zip(points, own.bins, strict=True):
            size = SMALLEST + (LARGEST - SMALLEST) * (each.n / own.n) ** 0.5
            drawing.rect(x - size / 2, y - size / 2, size, size, f"point {side}", _said(name, each))
    return str(drawing)


def _said(name: str, own: ReliabilityBin) -> str:
    return f"{name}: {own.confidence:.1f} % sure, {own.correct:.1f} % right, {own.n:,} segments"


def _words(name: str, own: SideCalibration | None) -> str:
    if own is None:
        return f"{name} predicts none of the segments."
    parts: Sequence[str] = [f"{b.correct:.0f} % at {b.confidence:.0f} %" for b in own.bins]
    return f"{name} is right in {', '.join(parts)} confidence."
