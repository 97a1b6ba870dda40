"""What windows need of a stream, video by video, and what of it there is.

Promise: windows are those of `WindowIndex`, and a reason is given for each that is lacking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from antcache.annotations import Protocol, Segments, sample_windows
from antcache.annotations.protocols import before, gaps_name
from antcache.doctor.report import Finding, SplitReport, VideoNeed
from antcache.doctor.rows import last_s
from antcache.doctor.streams import ExaminedStream, window_name
from antcache.store import Features
from antcache.text import listed
from antcache.timebase import frames_to_seconds, rows_at
from antcache.windows.frame_labels import by_video
from antcache.windows.index import (
    BEFORE_FEATURES,
    GAP_IN_FEATURES,
    MISSING,
    NOT_KEPT,
    WindowIndex,
)


def examine_windows(
    examined: ExaminedStream, split: str, segments: Segments, index: WindowIndex, protocol: Protocol
) -> SplitReport:
    """Windows, and what each video must have and has."""
    sampled = sample_windows(segments.start_s, protocol, segments.stop_s)
    lacking = {why: np.isin(segments.uid, index.dropped.get(why, ())) for why in MISSING}
    kept_only, needs = examined.stream.at is not None, []
    for video, members in by_video(segments.video):
        kept = members[sampled.kept[members]]
        if not len(kept):
            continue
        needs_s = float(frames_to_seconds(sampled.frames[kept].max()))
        own = examined.features.get(video)
        even = examined.stream.at is None and (own is None or own.times is None)
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
        window=window_name(protocol) if kept_only else "",
        anchor=protocol.anchor if kept_only else None,
        gap_s=protocol.gap_s if kept_only else None,
        segments=len(segments),
        windows=len(index),
        padded=index.num_padded,
        dropped={why: len(uids) for why, uids in index.dropped.items()},
        lacking=tuple(uid for why in MISSING for uid in index.dropped.get(why, ())),
        rows_needed=sum(len(np.unique(index.rows[own])) for _, own in by_video(index.labels.video)),
        videos=tuple(sorted(needs, key=lambda need: (-sum(need.lacking.values()), need.video))),
    )


def _widest(features: Features) -> float | None:
    """Longest time between two rows."""
    if features.num_rows < 2:
        return None
    return 1 / features.fps if features.times is None else float(np.diff(features.times).max())


def check_windows(reports: Sequence[SplitReport], damaged: Mapping[str, str]) -> Iterator[Finding]:
    """What the windows of a split lack, by reason; of those of several gaps in one finding."""
    for why in MISSING:
        found = [report for report in reports if report.dropped.get(why)]
        worst: dict[str, VideoNeed] = {}
        for need in (need for report in found for need in report.videos if why in need.lacking):
            known = worst.get(need.video)
            if known is None or need.lacking[why] > known.lacking[why]:
                worst[need.video] = need
        needs = sorted(worst.values(), key=lambda need: -need.lacking[why])
        if needs:
            yield Finding(
                kind=why,
                missing=True,
                where=where_of(found),
                text=f"{span([report.dropped[why] for report in found])} of {found[0].segments} "
                f"segments, in {len(needs)} videos: "
                + listed([_lack(need, why, damaged) for need in needs]),
                videos=tuple(need.video for need in needs),
            )
    if early := [report for report in reports if report.dropped.get(BEFORE_FEATURES)]:
        yield Finding(
            kind=BEFORE_FEATURES,
            missing=False,
            where=where_of(early),
            text=f"{span([report.dropped[BEFORE_FEATURES] for report in early])} segments have no "
            "window, because all of it lies before their video's first row",
        )
    if none := [report for report in reports if not report.windows]:
        text = "no segment has a window"
        yield Finding(kind="no_windows", missing=True, where=where_of(none), text=text)


def where_of(reports: Sequence[SplitReport]) -> str:
    """Which windows these are, of one split and anchor, in words."""
    first, gaps = reports[0], [report.gap_s for report in reports if report.gap_s is not None]
    if len(gaps) < 2 or first.anchor is None:
        return first.where
    return f"{first.stream}, {first.split}, {gaps_name(gaps)} before {before(first.anchor)}"


def span(counts: Sequence[int]) -> str:
    """Counts as one, or from the smallest to the largest."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _lack(need: VideoNeed, why: str, damaged: Mapping[str, str]) -> str:
    """What one video lacks, in a few words."""
    if why == NOT_KEPT:
        return f"{need.video} ({need.lacking[why]})"
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


def check_used(
    examined: ExaminedStream, report: SplitReport, index: WindowIndex
) -> Iterator[Finding]:
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
            where=report.where,
            text=f"{sum(windows.values())} of {len(index)} windows look at rows with values that "
            "are infinite or not numbers: " + listed([f"{v} ({windows[v]})" for v in worst]),
            videos=tuple(worst),
        )
