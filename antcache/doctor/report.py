"""What the doctor says: numbers for every stream, split and teacher, and what follows from them.

Promise: JSON-ready through `to_dict`; a finding is `missing` exactly if something that a window of
the protocol needs is not there or can't be used. Everything else is a note.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: one word, the same for the same finding, e.g. `short_features`.
        missing: whether a window lacks what it needs; false for a note.
        where: the stream, split or soft targets that it is about.
        text: what it is, with numbers and the worst videos.
        videos: all videos that it is about, worst first.
    """

    kind: str
    missing: bool
    where: str
    text: str
    videos: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VideoNeed:
    """What the windows of one video need, and what the stream has.

    Attributes:
        video: its name.
        present: whether the stream has it and it can be read.
        segments: segments that the protocol makes windows of.
        lacking: reason -> segments whose window lacks features.
        needs_s: time of the last frame that a window looks at.
        has_s: time of the last row; None without a row.
        needs_rows: rows that a video must have to reach `needs_s`; None where times are listed.
        has_rows: rows that it has.
        widest_s: longest time between two rows; None without two rows.
    """

    video: str
    present: bool
    segments: int
    lacking: dict[str, int]
    needs_s: float
    has_s: float | None
    needs_rows: int | None
    has_rows: int
    widest_s: float | None


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """The windows of one split from one stream.

    Attributes:
        stream: name of the stream.
        split: name of the split.
        window: which windows, where the stream keeps rows for some only: `1 s before the action`;
            else empty.
        anchor: their anchor there; else None.
        gap_s: their gap there; else None.
        segments: segments of the split.
        windows: those that have a window.
        padded: windows that begin before everything seen.
        dropped: reason -> segments without a window.
        lacking: uids of the segments whose window lacks features.
        rows_needed: different rows that the windows look at.
        videos: what each video must have and has; those that lack most come first.
    """

    stream: str
    split: str
    window: str
    anchor: float | None
    gap_s: float | None
    segments: int
    windows: int
    padded: int
    dropped: dict[str, int]
    lacking: tuple[str, ...]
    rows_needed: int
    videos: tuple[VideoNeed, ...]

    @property
    def where(self) -> str:
        """Which windows these are, in words."""
        return ", ".join(filter(None, (self.stream, self.split, self.window)))


def by_anchor(reports: Iterable[SplitReport]) -> list[list[SplitReport]]:
    """Reports put together that differ in their gap alone."""
    found: dict[tuple[str, str, float | None], list[SplitReport]] = {}
    for report in reports:
        found.setdefault((report.stream, report.split, report.anchor), []).append(report)
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class StreamReport:
    """The rows of one stream, of the videos that the splits name.

    Attributes:
        stream: name of the stream.
        videos: annotated videos that it has.
        absent: annotated videos that it lacks, or that can't be read.
        others: videos that no split names.
        rows: rows of the annotated videos.
        scanned: whether the rows were read; without it, the four below are None.
        non_finite: rows with a value that is infinite or not a number.
        zero: rows with no value but 0.
        repeated: rows that equal the row before them and are not zero.
        longest_run_s: how long the longest run of equal rows lasts.
    """

    stream: str
    videos: int
    absent: int
    others: int
    rows: int
    scanned: bool
    non_finite: int | None = None
    zero: int | None = None
    repeated: int | None = None
    longest_run_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class TargetReport:
    """The soft targets of one split from one teacher.

    Attributes:
        name: name of the soft targets.
        split: name of the split.
        segments: segments that the protocol makes windows of.
        found: those with a soft target.
        absent: those that the soft targets do not contain.
        not_valid: those about which the teacher has nothing to say.
    """

    name: str
    split: str
    segments: int
    found: int
    absent: int
    not_valid: int


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """Everything that was looked at.

    Attributes:
        store: the store.
        dataset: whose annotations were used.
        labels: where they come from.
        protocol: the windows.
        windows: one report per stream and split.
        streams: one report per stream.
        targets: one report per set of soft targets and split.
        findings: what is missing, then the notes.
    """

    store: str
    dataset: str
    labels: str
    protocol: dict[str, Any]
    windows: tuple[SplitReport, ...]
    streams: tuple[StreamReport, ...]
    targets: tuple[TargetReport, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the store can serve the protocol."""
        return not any(finding.missing for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"ok": self.ok, **asdict(self)}
