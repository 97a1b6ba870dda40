"""What a run learns from, taken from the store and checked: windows, labels and soft targets.

Promise: whatever does not fit (features, soft targets, classes) is refused here, before anything is
trained or written, and what is passed over is counted, named and logged.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments, Taxonomy, protocol_for
from antcache.errors import BadConfig, FingerprintMismatch, MissingTarget
from antcache.kernels import Targets
from antcache.progress import Progress, silent
from antcache.store import Features, SoftTargets, Store, Stream
from antcache.store.format import checksums, fingerprint
from antcache.store.mapped import MappedArray
from antcache.student.config import StudentConfig
from antcache.student.memory import PACK_SHARE, free_bytes
from antcache.student.pack import WindowPack, Windows, select_targets
from antcache.student.stream import WindowStream
from antcache.student.windows import WindowIndex, stream_features

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The windows that are trained on and scored, and where they come from.

    Attributes:
        taxonomy: the classes.
        stream: the features.
        protocol: the windows.
        train: windows that are trained on.
        validation: windows that are scored.
        segments: the segments of the validation windows, in their order.
        dropped: split -> reason -> uids of the segments without a window.
        counts: windows, padded windows, and soft targets found and masked, JSON-ready.
        fingerprints: hashes by which a resumed run knows its data.
    """

    taxonomy: Taxonomy
    stream: Stream
    protocol: Protocol
    train: Windows
    validation: Windows
    segments: Segments
    dropped: Mapping[str, Mapping[str, tuple[str, ...]]]
    counts: dict[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)


def load_problem(
    store: Store, config: StudentConfig, device: torch.device, progress: Progress = silent
) -> Problem:
    """Read the windows of both splits, and the soft targets of the training windows.

    Raises:
        MissingKey: the store lacks a split, the stream or the soft targets.
        MissingFeature: features of labelled segments are missing, and that is not allowed.
        MissingTarget: training segments have no soft target, and that is not allowed.
        FingerprintMismatch: the soft targets are for other classes.
        BadConfig: the stream is not named, no window is left, or the windows do not fit.
    """
    taxonomy = store.taxonomy
    stream = store.stream(config.stream or _only_stream(store))
    protocol = config.protocol or protocol_for(taxonomy.dataset)
    soft = None if config.targets is None else _soft_targets(store, config.targets, taxonomy)
    indices: dict[str, WindowIndex] = {}
    windows: dict[str, Windows] = {}
    counts: dict[str, Any] = {}
    fingerprints = {"taxonomy": taxonomy.fingerprint, "stream fingerprint": stream.fingerprint}
    labels = {split: store.labels(split) for split in (config.train_split, config.validation_split)}
    features = {split: stream_features(store, stream.name, s) for split, s in labels.items()}
    for split, segments in labels.items():
        where = f"{store.path}: features/{stream.name}, split {split}"
        index = WindowIndex.build(
            features[split],
            segments,
            protocol,
            targets=soft if split == config.train_split else None,
            allow_missing=config.allow_missing,
            where=where,
        )
        if not len(index):
            raise BadConfig("no segment has a window", where=where, found=_counted(index.dropped))
        indices[split] = index
        counts[split] = {"windows": len(index), "padded": index.num_padded}
        log.info("%s: %d windows (%d padded)", split, len(index), index.num_padded)
        if index.dropped:
            counted = _counted(index.dropped)
            log.info("%s: %d segments dropped: %s", split, len(segments) - len(index), counted)
    targets: Targets | None = None
    place: NDArray[np.int64] | None = None
    if soft is not None:
        index = indices[config.train_split]
        counts["targets"] = _check_coverage(soft, index, config, f"{store.path}: {config.targets}")
        targets, place = select_targets(soft, index.target, top_k=config.top_k, tail=config.tail)
        fingerprints["soft targets"] = fingerprint(checksums(soft.arrays()))
    packed = _packed(config, stream, indices, features, device)
    for split, index in indices.items():
        training = split == config.train_split
        kind: dict[str, Any] = {"dim": stream.dim, "dtype": stream.dtype, "device": device}
        if training:
            kind |= {"targets": targets, "target": place}
        if packed:
            windows[split] = WindowPack.gather(
                features[split], index, **kind, label=f"{split} windows", progress=progress
            )
        else:
            windows[split] = WindowStream.of(features[split], index, **kind)
        log.info("%s: %.1f MB on %s", split, windows[split].num_bytes / 1e6, device)
        arrays = {"rows": index.rows, "uid": index.uid, "action": index.action}
        fingerprints[f"{split} windows"] = fingerprint(checksums(arrays))
    validation = indices[config.validation_split]
    return Problem(
        taxonomy=taxonomy,
        stream=stream,
        protocol=protocol,
        train=windows[config.train_split],
        validation=windows[config.validation_split],
        segments=labels[config.validation_split][validation.segment],
        dropped={split: index.dropped for split, index in indices.items()},
        counts=counts,
        fingerprints=fingerprints,
    )


def _packed(
    config: StudentConfig,
    stream: Stream,
    indices: Mapping[str, WindowIndex],
    features: Mapping[str, Mapping[str, Features]],
    device: torch.device,
) -> bool:
    """Whether the windows are gathered on the device, or else streamed; the reason is logged."""
    row_bytes = stream.dim * np.dtype(stream.dtype).itemsize
    needed = sum(index.rows.size for index in indices.values()) * row_bytes
    free = free_bytes(device)
    fit = free is None or needed <= PACK_SHARE * free
    packed = fit if config.windows == "auto" else config.windows == "pack"
    log.info(
        "windows: %.2f GB; %s free on %s; %s (windows = %s)",
        needed / 1e9,
        "unknown" if free is None else f"{free / 1e9:.2f} GB",
        device,
        "packed on the device" if packed else "streamed from the store, batch by batch",
        config.windows,
    )
    lazy = [f for videos in features.values() for f in videos.values() if f.num_rows]
    if not packed and not all(isinstance(f.rows, MappedArray) for f in lazy):
        log.warning(
            "the rows are compressed, remote or not to be mapped: each batch decodes the chunks "
            "that it touches, which is slow; convert the store to an uncompressed local one"
        )
    return packed


def _only_stream(store: Store) -> str:
    streams = store.streams()
    if len(streams) != 1:
        raise BadConfig(
            "which stream?" if streams else "the store has no features",
            where=store.path,
            found=", ".join(streams) or "none",
            hint="name one with --stream" if streams else "antcache extract writes them",
        )
    return streams[0]


def _soft_targets(store: Store, name: str, taxonomy: Taxonomy) -> SoftTargets:
    """The soft targets `name`, if they are for the classes of `taxonomy`."""
    soft = store.targets(name)
    where = f"{store.path}: targets/{name}"
    theirs, classes = soft.attributes.get("taxonomy"), len(taxonomy.actions)
    if theirs != taxonomy.fingerprint:
        raise FingerprintMismatch(
            "soft targets for another taxonomy",
            where=where,
            expected=taxonomy.fingerprint,
            found=theirs,
            hint="write them again with antcache teacher",
        )
    if soft.logits is not None:
        wrong = soft.logits.shape[1] != classes
    else:
        assert soft.index is not None
        wrong = bool(soft.index.size) and int(soft.index.max()) >= classes
    if wrong:
        raise FingerprintMismatch(
            "soft targets over another number of classes", where=where, expected=classes
        )
    return soft


def _check_coverage(
    soft: SoftTargets, index: WindowIndex, config: StudentConfig, where: str
) -> dict[str, int]:
    """How many training windows have a soft target; windows that the set lacks are an error.

    A segment that the set contains but calls not valid is the teacher's own mask: counted, and
    never an error unless no segment is left.
    """
    has = index.target >= 0
    absent = ~np.isin(index.uid, soft.uid)
    first = ", ".join(index.uid[absent][:5].tolist())
    if not has.any():
        raise MissingTarget(
            "no training segment has a soft target",
            where=where,
            expected=f"targets for segments of {config.train_split!r}",
            hint="antcache teacher writes them",
        )
    if absent.any() and not config.allow_missing_targets:
        raise MissingTarget(
            f"{absent.sum()} of {len(index)} training segments are not in the soft targets",
            where=where,
            found=f"none for {first}{', ...' if absent.sum() > 5 else ''}",
            hint="write targets for them, or mask them with --allow-missing-targets",
        )
    counts = {
        "found": int(has.sum()),
        "absent": int(absent.sum()),
        "not_valid": int((~has & ~absent).sum()),
    }
    if not has.all():
        log.warning(
            "%d of %d training windows have no soft target and are masked "
            "(%d absent from the set, %d without a valid one)",
            (~has).sum(),
            len(index),
            counts["absent"],
            counts["not_valid"],
        )
    return counts


def _counted(dropped: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{why} {len(uids)}" for why, uids in dropped.items())
