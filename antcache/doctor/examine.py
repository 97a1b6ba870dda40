"""Whether a store can serve a protocol: what is missing, and what is odd.

Promise: windows are those that training would take, from `WindowIndex`; nothing is written, and
what is damaged or absent is reported instead of ending the examination. Checksums are for `antcache
store verify`; here rows are looked at for what they say. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from antcache.annotations import (
    Dataset,
    Protocol,
    Segments,
    Taxonomy,
    protocol_for,
    sample_windows,
)
from antcache.doctor.report import (
    DoctorReport,
    Finding,
    SplitReport,
    StreamReport,
    TargetReport,
    VideoNeed,
    listed,
)
from antcache.doctor.rows import (
    RowScan,
    check_rate,
    check_times,
    check_values,
    last_s,
    scan_rows,
)
from antcache.doctor.targets import examine_targets
from antcache.errors import DamagedStore, FingerprintMismatch, MissingKey
from antcache.progress import Progress, silent
from antcache.store import Features, Store, Stream
from antcache.timebase import frames_to_seconds, rows_at
from antcache.windows.frame_labels import by_video
from antcache.windows.index import (
    BEFORE_FEATURES,
    GAP_IN_FEATURES,
    MISSING,
    WindowIndex,
    stream_features,
)


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """What is looked at.

    Attributes:
        streams: feature streams; None: all of the store.
        splits: splits of the annotations; None: all.
        targets: soft targets; None: all of the store.
        protocol: windows; None: the dataset's own.
        train_split: the split whose segments must have soft targets.
        quick: do not read the rows.
    """

    streams: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    protocol: Protocol | None = None
    train_split: str = "train"
    quick: bool = False


def examine(
    store: Store,
    config: DoctorConfig | None = None,
    *,
    annotations: Dataset | None = None,
    progress: Progress = silent,
) -> DoctorReport:
    """Look for everything that the windows of a protocol need.

    Args:
        store: the store.
        config: which part of it.
        annotations: segments and classes; None: the store's own labels.
        progress: called with "MB" of rows read.

    Raises:
        MissingKey: there are no labels, or no such split, stream or soft targets.
        FingerprintMismatch: the annotations are those of another dataset than the store.
    """
    config = config or DoctorConfig()
    taxonomy, splits, source = _labels(store, config, annotations)
    protocol = config.protocol or protocol_for(taxonomy.dataset)
    names = store.streams() if config.streams is None else config.streams
    patients = [_Patient.of(store, name, splits) for name in names]
    findings = [*_check_labels(store, annotations)]
    if not names:
        text = "the store has no features; antcache extract writes them"
        findings.append(Finding(kind="no_streams", missing=True, where=str(store.path), text=text))
    total = 0 if config.quick else sum(p.num_bytes for p in patients)
    read = 0

    def count(num_bytes: int) -> None:
        nonlocal read
        read += num_bytes
        progress("MB", read / 1e6, total / 1e6)

    windows: list[SplitReport] = []
    for patient in patients:
        if not config.quick:
            patient.scan(count)
        findings += patient.check(protocol)
        for split, segments in splits.items():
            index = WindowIndex.build(
                patient.features, segments, protocol, allow_missing=True, where=split
            )
            windows.append(_windows(patient, split, segments, index, protocol))
            findings += _check_windows(windows[-1], patient.damaged)
            findings += _check_used(patient, split, index)
    targets: list[TargetReport] = []
    for name in store.target_names() if config.targets is None else config.targets:
        reports, found = examine_targets(
            store, name, taxonomy, splits, protocol, config.train_split
        )
        targets += reports
        findings += found
    return DoctorReport(
        store=str(store.path),
        dataset=taxonomy.dataset,
        labels=source,
        protocol=asdict(protocol),
        windows=tuple(windows),
        streams=tuple(patient.report() for patient in patients),
        targets=tuple(targets),
        findings=tuple(sorted(findings, key=lambda finding: not finding.missing)),
    )


def _labels(
    store: Store, config: DoctorConfig, annotations: Dataset | None
) -> tuple[Taxonomy, dict[str, Segments], str]:
    """Classes, segments by split, and where they come from."""
    if annotations is None:
        if not store.splits():
            raise MissingKey(
                "the store has no labels",
                where=store.path,
                hint="name annotations with --annotations SET DIR, or antcache annotations import",
            )
        taxonomy, there, source = store.taxonomy, store.splits(), "the store"
    else:
        taxonomy, there, source = annotations.taxonomy, list(annotations.splits), annotations.source
        if store.dataset not in (None, annotations.name):
            raise FingerprintMismatch(
                "the store belongs to another dataset",
                where=store.path,
                expected=annotations.name,
                found=store.dataset,
            )
    unknown = sorted(set(config.splits or ()).difference(there))
    if unknown:
        raise MissingKey(f"no split {unknown[0]!r}", where=source, found=", ".join(there))
    names = there if config.splits is None else config.splits
    if annotations is None:
        return taxonomy, {name: store.labels(name) for name in names}, source
    return taxonomy, {name: annotations.splits[name] for name in names}, source


def _check_labels(store: Store, annotations: Dataset | None) -> Iterator[Finding]:
    """Whether the annotations could be put into the store."""
    if annotations is None or not store.splits():
        return
    ours, theirs = store.taxonomy.fingerprint, annotations.taxonomy.fingerprint
    if ours != theirs:
        yield Finding(
            kind="other_taxonomy",
            missing=True,
            where="labels",
            text=f"the store's labels have other classes ({ours}) than the annotations "
            f"({theirs}); use one store per taxonomy",
        )


@dataclass(kw_only=True)
class _Patient:
    """One stream, as far as the splits need it."""

    stream: Stream
    wanted: tuple[str, ...]
    others: int
    features: dict[str, Features]
    damaged: dict[str, str]
    last_stop: dict[str, float]
    scans: dict[str, RowScan] | None = None

    @classmethod
    def of(cls, store: Store, name: str, splits: Mapping[str, Segments]) -> _Patient:
        stream = store.stream(name)
        last_stop: dict[str, float] = {}
        for segments in splits.values():
            for video, members in by_video(segments.video):
                stop = float(segments.stop_s[members].max())
                last_stop[video] = max(stop, last_stop.get(video, 0.0))
        features, damaged = _open(store, stream, splits)
        return cls(
            stream=stream,
            wanted=tuple(sorted(last_stop)),
            others=len(set(store.videos(name)).difference(last_stop)),
            features=features,
            damaged=damaged,
            last_stop=last_stop,
        )

    @property
    def num_bytes(self) -> int:
        rows = sum(f.num_rows for f in self.features.values())
        return rows * self.stream.dim * np.dtype(self.stream.dtype).itemsize

    def scan(self, count: Callable[[int], None]) -> None:
        """Read every row; a video that can't be read counts as absent from then on."""
        self.scans = {}
        for video, features in list(self.features.items()):
            try:
                self.scans[video] = scan_rows(features, count)
            except DamagedStore as error:
                self.damaged[video] = str(error)
                del self.features[video]

    def check(self, protocol: Protocol) -> Iterator[Finding]:
        """All that concerns the stream whatever the split."""
        if self.damaged:
            yield Finding(
                kind="damaged",
                missing=True,
                where=self.stream.name,
                text=f"{len(self.damaged)} videos can't be read: {listed(list(self.damaged))}; "
                f"{next(iter(self.damaged.values()))}",
                videos=tuple(self.damaged),
            )
        yield from check_rate(self.stream, protocol)
        yield from check_times(self.stream, self.features, self.last_stop)
        yield from check_values(self.stream.name, self.features, self.scans or {})

    def report(self) -> StreamReport:
        """The stream in numbers."""
        scans = None if self.scans is None else self.scans.items()
        runs = [s.run / self.features[v].fps for v, s in scans] if scans is not None else []
        return StreamReport(
            stream=self.stream.name,
            videos=len(self.features),
            absent=len(self.wanted) - len(self.features),
            others=self.others,
            rows=sum(f.num_rows for f in self.features.values()),
            scanned=scans is not None,
            non_finite=None if scans is None else sum(len(s.non_finite) for _, s in scans),
            zero=None if scans is None else sum(len(s.zero) for _, s in scans),
            repeated=None if scans is None else sum(s.repeated for _, s in scans),
            longest_run_s=None if scans is None else max(runs, default=0.0),
        )


def _open(
    store: Store, stream: Stream, splits: Mapping[str, Segments]
) -> tuple[dict[str, Features], dict[str, str]]:
    """Features of the annotated videos, and why some of them can't be opened."""
    features: dict[str, Features] = {}
    damaged: dict[str, str] = {}
    for segments in splits.values():
        try:
            features |= stream_features(store, stream.name, segments)
            continue
        except DamagedStore:  # at least one; which, is found out one by one
            pass
        for video in set(segments.videos).intersection(store.videos(stream.name)):
            try:
                features[video] = store.features(stream.name, video)
            except DamagedStore as error:
                damaged[video] = str(error)
    return dict(sorted(features.items())), dict(sorted(damaged.items()))


def _windows(
    patient: _Patient, split: str, segments: Segments, index: WindowIndex, protocol: Protocol
) -> SplitReport:
    """Windows, and what each video must have and has."""
    sampled = sample_windows(segments.start_s, protocol)
    lacking = {why: np.isin(segments.uid, index.dropped.get(why, ())) for why in MISSING}
    needs = []
    for video, members in by_video(segments.video):
        kept = members[sampled.kept[members]]
        if not len(kept):
            continue
        needs_s = float(frames_to_seconds(sampled.frames[kept].max()))
        own = patient.features.get(video)
        even = own is None or own.times is None
        fps, start_s = (patient.stream.fps, 0.0) if own is None else (own.fps, own.start_s)
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
        stream=patient.stream.name,
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


def _check_windows(report: SplitReport, damaged: Mapping[str, str]) -> Iterator[Finding]:
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


def _check_used(patient: _Patient, split: str, index: WindowIndex) -> Iterator[Finding]:
    """Windows that look at rows with values that are not finite."""
    windows: dict[str, int] = {}
    for video, members in by_video(index.labels.video):
        if patient.scans is not None and len(patient.scans[video].non_finite):
            bad = np.isin(index.rows[members], patient.scans[video].non_finite).any(axis=1)
            if bad.any():
                windows[video] = int(bad.sum())
    if windows:
        worst = sorted(windows, key=lambda v: -windows[v])
        yield Finding(
            kind="non_finite",
            missing=True,
            where=f"{patient.stream.name}, {split}",
            text=f"{sum(windows.values())} of {len(index)} windows look at rows with values that "
            "are infinite or not numbers: " + listed([f"{v} ({windows[v]})" for v in worst]),
            videos=tuple(worst),
        )
