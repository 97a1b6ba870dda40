"""What windows need of a stream, video by video, and what of it there is.

Promise: windows are those of `WindowIndex`, and a reason is given for each that is lacking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from antcache.annotations import Protocol, Segments, sample_windows
from antcache.doctor.report import Finding, SplitReport, VideoNeed
from antcache.doctor.rows import last_s
from antcache.doctor.streams import ExaminedStream
from antcache.store import Features
from antcache.text import listed
from antcache.timebase import frames_to_seconds, rows_at
from antcache.windows.frame_labels import by_video
from antcache.windows.index import BEFORE_FEATURES, GAP_IN_FEATURES, MISSING, WindowIndex


def examine_windows(
    examined: ExaminedStream, split: str, segments: Segments, index: WindowIndex, protocol: Protocol
) -> SplitReport:
    """Windows, and what each video must have and has."""
    sampled = sample_windows(segments.start_s, protocol, segments.stop_s)
    lacking = {why: np.isin(segments.uid, index.dropped.get(why, ())) for why in MISSING}
    needs = []
    for video, members in by_video(segments.video):
        kept = members[sampled.kept[members]]
        if not len(kept):
            continue
        needs_s = float(frames_to_seconds(sampled.frames[kept].max()))
        own = examined.features.get(video)
        even = own is None or own.times is None
        fps, start_s = (examined.stream.fps, 0.0) if own is None else (own.fps, own.start_s)
        needs.append(
            VideoNeed(
                video=video,
                present=own is not None,
                segments=len(kept),
                lacking={why: int(n) for why in MISSING if (n := lacking[why][members].sum())},
                needs_s=needs_s,
                has_s=None if own is None or not own.num_rows else last_s(own),
                needs_rows=int(rows_at(needs_s, fps, start_s)) + 1 if even else None,
                has_rows=0 if own is None else own.num_rows,
                widest_s=None if own is None else _widest(own),
            )
        )
    return SplitReport(
        stream=examined.stream.name,
        split=split,
        segments=len(segments),
        windows=len(index),
        padded=index.num_padded,
        dropped={why: len(uids) for why, uids in index.dropped.items()},
        rows_needed=sum(len(np.unique(index.rows[own])) for _, own in by_video(index.labels.video)),
        videos=tuple(sorted(needs, key=lambda need: (-sum(need.lacking.values()), need.video))),
    )


def _widest(features: Features) -> float | None:
    """Longest time between two rows."""
    if features.num_rows < 2:
        return None
    return 1 / features.fps if features.times is None else float(np.diff(features.times).max())


def check_windows(report: SplitReport, damaged: Mapping[str, str]) -> Iterator[Finding]:
    """What windows lack, by reason."""
    where = f"{report.stream}, {report.split}"
    for why in MISSING:
        worst = sorted(
            (need for need in report.videos if why in need.lacking),
            key=lambda need: -need.lacking[why],
        )
        if not worst:
            continue
        yield Finding(
            kind=why,
            missing=True,
            where=where,
            text=f"{report.dropped[why]} of {report.segments} segments, in {len(worst)} videos: "
            + listed([_lack(need, why, damaged) for need in worst]),
            videos=tuple(need.video for need in worst),
        )
    if report.dropped.get(BEFORE_FEATURES):
        yield Finding(
            kind=BEFORE_FEATURES,
            missing=False,
            where=where,
            text=f"{report.dropped[BEFORE_FEATURES]} segments have no window, because all of it "
            "lies before their video's first row",
        )
    if not report.windows:
        yield Finding(kind="no_windows", missing=True, where=where, text="no segment has a window")


def _lack(need: VideoNeed, why: str, damaged: Mapping[str, str]) -> str:
    """What one video lacks, in a few words."""
    text = f"{need.video} ({need.lacking[why]}: "
    if why == GAP_IN_FEATURES and need.widest_s is not None:
        return f"{text}up to {need.widest_s:.2f} s between rows)"
    row = "" if need.needs_rows is None else f", row {need.needs_rows - 1}"
    text += f"needs up to {need.needs_s:.1f} s{row}, "
    if need.has_s is not None:
        return f"{text}has up to {need.has_s:.1f} s, row {need.has_rows - 1})"
    if need.video in damaged:
        return f"{text}can't be read)"
    return f"{text}{'has no rows' if need.present else 'is absent'})"


def check_used(examined: ExaminedStream, split: str, index: WindowIndex) -> Iterator[Finding]:
    """Windows that look at rows with values that are not finite."""
    windows: dict[str, int] = {}
    for video, members in by_video(index.labels.video):
        if examined.scans is not None and len(examined.scans[video].non_finite):
            bad = np.isin(index.rows[members], examined.scans[video].non_finite).any(axis=1)
            if bad.any():
                windows[video] = int(bad.sum())
    if windows:
        worst = sorted(windows, key=lambda v: -windows[v])
        yield Finding(
            kind="non_finite",
            missing=True,
            where=f"{examined.stream.name}, {split}",
            text=f"{sum(windows.values())} of {len(index)} windows look at rows with values that "
            "are infinite or not numbers: " + listed([f"{v} ({windows[v]})" for v in worst]),
            videos=tuple(worst),
        )
