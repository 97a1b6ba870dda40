"""How far a pass is, for whoever watches it.

Promise: counts never pass the totals that are shown with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from antcache.progress import Progress


@dataclass(kw_only=True)
class ExtractionTally:
    """Videos and rows done, rows expected as far as videos state their lengths, and times of rows
    that lay outside of their videos."""

    progress: Progress
    expected: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    videos: int = 0
    too_early: int = 0
    too_late: int = 0

    def show(self) -> None:
        """Report the videos."""
        self.progress("videos", self.videos, len(self.expected))

    def add(self, rows: int) -> None:
        """Count more rows, and report them."""
        self.rows += rows
        self.progress("rows", self.rows, max(self.rows, round(sum(self.expected.values()))))

    def ended(self, video: str, rows: int) -> None:
        """Count a video, of which so many rows were expected in the end, and report it."""
        self.expected[video] = rows
        self.videos += 1
        self.show()

    def outside(self, early: int, late: int) -> None:
        """Count times before the first frame of a video, and after its last."""
        self.too_early += early
        self.too_late += late
