"""Whether a store can serve a protocol: what is missing, and what is odd.

Promise: windows are those that training would take, from `WindowIndex`; nothing is written, and
what is damaged or absent is reported instead of ending the examination. Checksums are for `antcache
store verify`; here rows are looked at for what they say. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product

from antcache.annotations import Dataset, Protocol, Segments, Taxonomy
from antcache.doctor.needs import check_used, check_windows, examine_windows
from antcache.doctor.report import DoctorReport, Finding, SplitReport, TargetReport, by_anchor
from antcache.doctor.rows import check_future
from antcache.doctor.streams import ExaminedStream
from antcache.doctor.targets import examine_targets
from antcache.errors import FingerprintMismatch, MissingKey
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.windows.index import WindowIndex


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
    usual = store.protocol if annotations is None else annotations.windows
    protocol = config.protocol or usual
    names = store.streams() if config.streams is None else config.streams
    examined = [ExaminedStream.of(store, name, splits) for name in names]
    findings = [*_check_labels(store, annotations)]
    if not names:
        text = "the store has no features; antcache extract writes them"
        findings.append(Finding(kind="no_streams", missing=True, where=str(store.path), text=text))
    findings += [found for one in examined for found in check_future(one.stream)]
    total = 0 if config.quick else sum(p.num_bytes for p in examined)
    read = 0

    def count(num_bytes: int) -> None:
        nonlocal read
        read += num_bytes
        progress("MB", read / 1e6, total / 1e6)

    windows: list[SplitReport] = []
    for one in examined:
        if not config.quick:
            one.scan(count)
        findings += one.check(protocol)
        used: list[Finding] = []
        for own, (split, segments) in product(one.protocols(protocol), splits.items()):
            index = WindowIndex.build(one.features, segments, own, allow_missing=True, where=split)
            windows.append(examine_windows(one, split, segments, index, own))
            used += check_used(one, windows[-1], index)
        for together in by_anchor(w for w in windows if w.stream == one.stream.name):
            findings += check_windows(together, one.damaged)
        findings += used
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
        streams=tuple(one.report() for one in examined),
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
