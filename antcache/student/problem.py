"""What a run learns from, taken from the store and checked: windows, labels and soft targets.

Promise: whatever does not fit (features, soft targets, classes) is refused here, before anything is
trained or written, and what is passed over is counted, named and logged.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments, Taxonomy
from antcache.annotations.parity import of_another_form
from antcache.errors import BadConfig, MissingTarget
from antcache.kernels import DenseTargets, Targets, TopKTargets
from antcache.progress import Progress, silent
from antcache.store import SoftTargets, Store, Stream
from antcache.store.format import checksums, fingerprint
from antcache.store.mapped import MappedArray
from antcache.store.soft_targets import training_unknown
from antcache.student.config import StudentConfig
from antcache.student.head import Sizes
from antcache.student.memory import PACK_SHARE, free_bytes
from antcache.student.objective_config import ATTENTION
from antcache.student.pack import StreamWindows, WindowPack, Windows
from antcache.student.stream import JoinedStream
from antcache.student.teachers import Teachers, select, stored_shares
from antcache.student.weights import Weight, describe
from antcache.student.windows import WindowIndex, join, stream_features

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The windows that are trained on and scored, and where they come from.

    Attributes:
        taxonomy: the classes.
        streams: the features, side by side in this order.
        protocol: the windows.
        sizes: what a student for it has to fit.
        train: windows that are trained on.
        validation: windows that are scored.
        segments: the segments of the validation windows, in their order.
        dropped: split -> reason -> uids of the segments without a window.
        counts: windows, padded windows, and soft targets found and masked, JSON-ready.
        fingerprints: hashes by which a resumed run knows its data.
    """

    taxonomy: Taxonomy
    streams: tuple[Stream, ...]
    protocol: Protocol
    sizes: Sizes
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
        BadConfig: the stream is not named, no window is left, the windows do not fit, or a tail is
            asked of dense soft targets.
    """
    taxonomy = store.taxonomy
    streams = [store.stream(name) for name in config.data.stream or (_only_stream(store),)]
    protocol = config.window.protocol(taxonomy.dataset)
    soft = {name: store.targets(name) for name in config.distillation.targets}
    parts: dict[str, list[StreamWindows]] = {}
    counts: dict[str, Any] = {}
    fingerprints = {
        "taxonomy": taxonomy.fingerprint,
        "stream fingerprint": ",".join(stream.fingerprint for stream in streams),
    }
    splits = (config.data.train_split, config.data.validation_split)
    labels = {split: store.labels(split) for split in splits}
    for split, segments in labels.items():
        if warning := of_another_form(protocol.parity, taxonomy.dataset, segments.start_s):
            log.warning("%s: %s", split, warning)
        parts[split] = _windows(store, streams, split, segments, protocol, config)
        index = parts[split][0].index
        counts[split] = {"windows": len(index), "padded": index.num_padded}
    teachers: Teachers | None = None
    place: NDArray[np.int64] | None = None
    if soft:
        for name, targets in soft.items():
            if unknown := training_unknown(targets.attributes, store.splits()):
                log.warning("targets/%s: %s", name, unknown)
        uid = parts[config.data.train_split][0].index.uid
        counts["targets"] = _check_coverage(store, soft, uid, config)
        teachers, place = _teachers(store, soft, uid, config)
        say_weight(config, teachers, len(taxonomy.actions))
        arrays = [checksums(targets.arrays()) for targets in soft.values()]
        fingerprints["soft targets"] = ",".join(fingerprint(sums) for sums in arrays)
    packed = _packed(config, parts, device)
    windows: dict[str, Windows] = {}
    for split, own in parts.items():
        training = split == config.data.train_split
        taught: dict[str, Any] = {"targets": teachers, "target": place} if training else {}
        if packed:
            windows[split] = WindowPack.gather_streams(
                own, device=device, **taught, label=f"{split} windows", progress=progress
            )
        else:
            windows[split] = JoinedStream.of_streams(own, device=device, **taught)
        log.info("%s: %.1f MB on %s", split, windows[split].num_bytes / 1e6, device)
        fingerprints[f"{split} windows"] = _fingerprint(own)
    index = parts[config.data.validation_split][0].index
    return Problem(
        taxonomy=taxonomy,
        streams=tuple(streams),
        protocol=protocol,
        sizes=Sizes(
            dims=tuple(stream.dim for stream in streams),
            num_classes=len(taxonomy.actions),
            num_frames=protocol.num_frames,
            steps_ahead=math.ceil(round(protocol.gap_s * protocol.rate, 6)),
            num_verbs=len(taxonomy.verbs),
            num_nouns=len(taxonomy.nouns),
            num_teachers=len(soft),
            teacher_dims=() if teachers is None else teachers.dims,
        ),
        train=windows[config.data.train_split],
        validation=windows[config.data.validation_split],
        segments=labels[config.data.validation_split][index.segment],
        dropped={split: own[0].index.dropped for split, own in parts.items()},
        counts=counts,
        fingerprints=fingerprints,
    )


def _windows(
    store: Store,
    streams: Sequence[Stream],
    split: str,
    segments: Segments,
    protocol: Protocol,
    config: StudentConfig,
) -> list[StreamWindows]:
    """The windows of a split that every stream has, in each stream."""
    features = {stream.name: stream_features(store, stream.name, segments) for stream in streams}
    indices = join(
        {
            name: WindowIndex.build(
                videos,
                segments,
                protocol,
                allow_missing=config.data.allow_missing,
                where=f"{store.path}: features/{name}, split {split}",
            )
            for name, videos in features.items()
        }
    )
    index = next(iter(indices.values()))
    where = f"{store.path}: features/{','.join(indices)}, split {split}"
    if not len(index):
        raise BadConfig("no segment has a window", where=where, found=_counted(index.dropped))
    log.info("%s: %d windows (%d padded)", split, len(index), index.num_padded)
    if index.dropped:
        counted = _counted(index.dropped)
        log.info("%s: %d segments dropped: %s", split, len(segments) - len(index), counted)
    return [
        StreamWindows(
            features=features[stream.name],
            index=indices[stream.name],
            dim=stream.dim,
            dtype=stream.dtype,
        )
        for stream in streams
    ]


def _fingerprint(parts: Sequence[StreamWindows]) -> str:
    """Hash of which windows these are; the second stream's rows and further ones count too."""
    index = parts[0].index
    arrays = {"rows": index.rows, "uid": index.uid, "action": index.action}
    arrays |= {f"rows {i}": part.index.rows for i, part in enumerate(parts) if i}
    return fingerprint(checksums(arrays))


def _teachers(
    store: Store, soft: Mapping[str, SoftTargets], uid: NDArray[np.str_], config: StudentConfig
) -> tuple[Teachers, NDArray[np.int64]]:
    """What the teachers say about the training windows `uid` (N,), weighed as configured."""
    name = config.distillation.target_weights
    share: Sequence[float] | None = name if isinstance(name, tuple) else None
    temperatures: Sequence[float] | None = None
    if isinstance(name, str) and name != ATTENTION:
        share, temperatures = stored_shares(name, store.targets(name), config.distillation.targets)
        log.info("weights %s, temperatures %s of the ensemble %s", share, temperatures, name)
    teachers, place = select(
        soft,
        uid,
        top_k=config.distillation.top_k,
        tail=config.distillation.tail,
        features=config.distillation.align != "none",
        share=share,
        temperatures=temperatures,
    )
    if config.distillation.tail and isinstance(teachers.targets, DenseTargets):
        raise BadConfig(
            "tail has no effect on dense soft targets",
            where=f"targets/{','.join(config.distillation.targets)}",
            hint="cut them to their k best: `top_k`",
        )
    if teachers.has_feature is not None and not bool(teachers.has_feature.all()):
        log.warning(
            "%d of %d windows with soft targets have no feature of the teacher and are not aligned",
            int((~teachers.has_feature).sum()),
            len(teachers.has_feature),
        )
    return teachers, place


def say_weight(config: StudentConfig, teachers: Teachers, num_classes: int) -> None:
    """Log what the weight of the distillation comes to with these teachers."""
    targets = teachers.targets
    k = targets.index.shape[-1] if isinstance(targets, TopKTargets) else None
    said = config.distillation
    own = Weight(ours=said.weight, temperature=said.temperature, classes=num_classes, k=k)
    # With attention each teacher has a KL of its own, over its own classes.
    union = None if config.distillation.target_weights == ATTENTION else _union(targets)
    weight, *changed = describe(own, union)
    log.info("distillation: %s", weight)
    for sentence in changed:
        log.warning("distillation: %s", sentence)


def _union(targets: Targets) -> tuple[int, int] | None:
    """Fewest and most classes in a row of several teachers' k best; None of one, or dense ones."""
    if not isinstance(targets, TopKTargets) or targets.num_teachers is None:
        return None
    named = targets.index.transpose(0, 1).flatten(1).sort(dim=1).values  # (R, M * K)
    count = 1 + (named.diff(dim=1) != 0).sum(dim=1)
    return int(count.min()), int(count.max())


def _packed(
    config: StudentConfig, parts: Mapping[str, Sequence[StreamWindows]], device: torch.device
) -> bool:
    """Whether the windows are gathered on the device, or else streamed; the reason is logged."""
    everything = [part for split in parts.values() for part in split]
    widest = max(np.dtype(part.dtype).itemsize for part in everything)
    needed = sum(part.index.rows.size * part.dim for part in everything) * widest
    free = free_bytes(device)
    fit = free is None or needed <= PACK_SHARE * free
    packed = fit if config.runtime.windows == "auto" else config.runtime.windows == "pack"
    log.info(
        "windows: %.2f GB; %s free on %s; %s (windows = %s)",
        needed / 1e9,
        "unknown" if free is None else f"{free / 1e9:.2f} GB",
        device,
        "packed on the device" if packed else "streamed from the store, batch by batch",
        config.runtime.windows,
    )
    lazy = [f for part in everything for f in part.features.values() if f.num_rows]
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
            hint="name one: `stream`" if streams else "antcache extract writes them",
        )
    return streams[0]


def _check_coverage(
    store: Store, soft: Mapping[str, SoftTargets], uid: NDArray[np.str_], config: StudentConfig
) -> dict[str, int]:
    """How many training windows `uid` have a target of every teacher; absent ones are an error.

    A segment that a set contains but calls not valid is the teacher's own mask: counted, and never
    an error unless no segment is left.
    """
    where = f"{store.path}: {','.join(config.distillation.targets)}"
    has = np.all([targets.rows_for(uid) >= 0 for targets in soft.values()], axis=0)
    absent = np.any([~np.isin(uid, targets.uid) for targets in soft.values()], axis=0)
    first = ", ".join(uid[absent][:5].tolist())
    if not has.any():
        raise MissingTarget(
            "no training segment has a soft target",
            where=where,
            expected=f"targets for segments of {config.data.train_split!r}",
            hint="antcache teacher writes them",
        )
    if absent.any() and not config.distillation.allow_missing_targets:
        raise MissingTarget(
            f"{absent.sum()} of {len(uid)} training segments are not in the soft targets",
            where=where,
            found=f"none for {first}{', ...' if absent.sum() > 5 else ''}",
            hint="write targets for them, or mask them: `allow_missing_targets`",
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
            len(uid),
            counts["absent"],
            counts["not_valid"],
        )
    return counts


def _counted(dropped: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{why} {len(uids)}" for why, uids in dropped.items())
