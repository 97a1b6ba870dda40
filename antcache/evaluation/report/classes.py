"""Which classes gain and which lose, as bars with their names, segments and values.

Promise: bars of both drawings share one scale; every bar's value stands beside it. A bar counts
segments, and not points of recall, in which classes of one segment would come first.
"""

from __future__ import annotations

from collections.abc import Sequence

from antcache.annotations.taxonomy import KINDS
from antcache.evaluation.comparing.compare import ClassChange, Comparison
from antcache.evaluation.report.svg import Drawing, shorten
from antcache.evaluation.report.words import signed

WIDTH, ROW = 360.0, 30.0
LONGEST = 34  # characters of a name that fit above a bar


def counts(found: Comparison) -> list[tuple[str, int, int, int]]:
    """For each kind of class there is: its name, and how many gain, lose and stay as they are."""
    rows = []
    for kind in KINDS:
        total = sum(change.kind == kind for change in found.classes)
        gained, lost = len(found.gained(kind)), len(found.lost(kind))
        if total:
            rows.append((kind, gained, lost, total - gained - lost))
    return rows


def segments(change: ClassChange) -> float:
    """By how many segments with the truth among the 5 best B has more than A."""
    return change.gain * change.n / 100.0


def largest(changes: Sequence[ClassChange], count: int) -> list[ClassChange]:
    """The `count` changes of most segments, for a class of one segment changes by chance."""
    return sorted(changes, key=lambda c: (-abs(segments(c)), c.n, c.id))[:count]


def draw(
    changes: Sequence[ClassChange], name: str, title: str, names: tuple[str, str], *, scale: float
) -> str:
    """Bars of the changes, one below the other.

    Args:
        changes: at least one.
        name: unique on the page.
        title: of the drawing.
        names: of A and B.
        scale: segments of a bar over the whole width.
    """
    words = "; ".join(f"{c.name} {signed(segments(c), 1)} of {c.n}" for c in changes)
    drawing = Drawing(
        name, WIDTH, ROW * len(changes) + 4, title=title, description=f"Segments: {words}."
    )
    for row, change in enumerate(changes):
        y = row * ROW
        drawing.text(0, y + 13, shorten(change.name, LONGEST))
        drawing.text(WIDTH, y + 13, f"{signed(segments(change), 1)} of {change.n}", "end")
        drawing.rect(0, y + 18, WIDTH, 7, "track")
        length = max(1.0, WIDTH * abs(segments(change)) / scale)
        about = f"{change.name}: {names[0]} {change.a:.1f} %, {names[1]} {change.b:.1f} %, "
        about += f"{change.n} segments"
        drawing.rect(0, y + 18, length, 7, "gain" if change.gain > 0 else "loss", about)
    return str(drawing)
