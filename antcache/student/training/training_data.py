"""What a run learns from, taken from the store and checked: windows, labels and soft targets.

Promise: whatever does not fit (features, soft targets, classes) is refused here, before anything is
trained or written, and what is passed over is counted, named and logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.annotations import Protocol, Segments, Taxonomy
from antcache.annotations.parity import of_another_form
from antcache.errors import BadConfig, MissingTarget
from antcache.kernels import DenseTargets, Targets, TopKTargets
from antcache.progress import Progress, silent
from antcache.store import SoftTargets, Store, Stream
from antcache.store.reading.mapped import MappedArray
from antcache.store.soft_targets import training_unknown
from antcache.student.config import StudentConfig
from antcache.student.heads.head import ModelShape
from antcache.student.heads.table import check_tokens
from antcache.student.training import fingerprints
from antcache.student.training.objective_config import ATTENTION
from antcache.student.training.weights import Weight, describe
from antcache.text import listed
from antcache.windows.ahead import refuse_future
from antcache.windows.choices import Choices
from antcache.windows.dataset import WindowFeatures, Windows
from antcache.windows.later import later_actions
from antcache.windows.reading.lazy import LazyFeatures
from antcache.windows.reading.memory import PACK_SHARE, free_bytes
from antcache.windows.reading.pack import PackedFeatures
from antcache.windows.split import SplitWindows, split_windows
from antcache.windows.target_rows import TargetRows
from antcache.windows.teacher_targets import TeacherTargets, stored_shares

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The windows that are trained on and scored, and where they come from.

    Attributes:
        taxonomy: the classes.
        streams: the features, side by side in this order.
        protocol: the windows.
        shape: what a student for it has to fit.
        train: windows that are trained on, with their segments' choices.
        validation: windows that are scored.
        segments: the segments of the validation windows, in their order.
        dropped: split -> reason -> uids of the segments without a window.
        counts: windows, padded windows, and soft targets found and masked, JSON-ready; also
            `sees_ahead_s` by stream, of features that have seen the future.
        fingerprints: hashes by which a resumed run knows its data.
    """

    taxonomy: Taxonomy
    streams: tuple[Stream, ...]
    protocol: Protocol
    shape: ModelShape
    train: Windows
    validation: Windows
    segments: Segments
    dropped: Mapping[str, Mapping[str, tuple[str, ...]]]
    counts: dict[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)


def load_training_data(
    store: Store, config: StudentConfig, device: torch.device, progress: Progress = silent
) -> TrainingData:
    """Read the windows of both splits, and the soft targets of the training windows.

    Raises:
        MissingKey: the store lacks a split, the stream or the soft targets.
        MissingFeature: features of labelled segments are missing, and that is not allowed.
        MissingTarget: training segments have no soft target, and that is not allowed.
        BadConfig: the stream is not named or has seen the future, no window is left, the windows
            do not fit, or a tail is asked of dense soft targets.
    """
    taxonomy = store.taxonomy
    streams = [store.stream(name) for name in config.data.stream or (store.only_stream(),)]
    ahead = refuse_future(streams, allowed=config.data.allow_future)
    protocol = config.window.over(store.protocol)
    soft = {name: store.targets(name) for name in config.distillation.targets}
    shape = ModelShape.of(taxonomy, streams, protocol, num_teachers=len(soft))
    check_tokens(config.model, shape.tokens)  # before anything large is read
    shape.check_verb_noun(config.losses.verb_noun_weight)
    splits = _splits(store, streams, protocol, config)
    trained, validation = (splits[name] for name in _names(config))
    counts: dict[str, Any] = {}
    known_by = _known_by(taxonomy, streams, splits, config)
    for name, found in splits.items():
        counts[name] = {"windows": len(found), "padded": found.num_padded}
        if len(found) > len(found.segments):
            counts[name]["segments"] = len(found.segments)
    teachers: TeacherTargets | None = None
    if soft:
        lent = lent_by(store, config)
        teachers, counts["targets"] = _teachers(store, soft, trained.segments.uid, config, lent)
        say_weight(config, teachers, len(taxonomy.actions))
        known_by |= fingerprints.of_targets(soft.values()) | fingerprints.of_shares(lent)
        shape = replace(shape, teacher_dims=teachers.dims)
        # A segment's target is that of all its windows.
        teachers = replace(teachers, row=teachers.row[torch.from_numpy(trained.segment)])
    later: Tensor | None = None
    if config.model.slots is not None:
        later = _later(store, config, trained.labels.uid, config.model.slots - 1)
        known_by |= fingerprints.of_later(later)
    packed = _packed(config, splits.values(), device)
    windows: dict[str, Windows] = {}
    for name, found in splits.items():
        features: WindowFeatures
        if packed:
            label = f"{name} windows"
            features = PackedFeatures.gather(found.streams, device, label=label, progress=progress)
        else:
            features = LazyFeatures.of(found.streams, device)
        choices = Choices.of(found.drawn, found.own)
        taught, after = (teachers, later) if found is trained else (None, None)
        windows[name] = Windows(found.labels, features, taught, choices, after)
        log.info("%s: %.1f MB on %s", name, windows[name].num_bytes / 1e6, device)
    train, scored = (windows[name] for name in _names(config))
    if ahead:
        counts["sees_ahead_s"] = ahead
    return TrainingData(
        taxonomy=taxonomy,
        streams=tuple(streams),
        protocol=protocol,
        shape=shape,
        train=train,
        validation=scored,
        segments=validation.segments,
        dropped={name: found.dropped for name, found in splits.items()},
        counts=counts,
        fingerprints=known_by,
    )


def look_at_windows(store: Store, config: StudentConfig) -> dict[str, str]:
    """The fingerprints of all that `load_training_data` reads but the soft targets.

    No feature is read: where the windows lie is known without.

    Raises:
        MissingKey, MissingFeature, BadConfig: see `load_training_data`.
    """
    streams = [store.stream(name) for name in config.data.stream or (store.only_stream(),)]
    splits = _splits(store, streams, config.window.over(store.protocol), config)
    known_by = _known_by(store.taxonomy, streams, splits, config)
    if config.model.slots is not None:
        uid = splits[config.data.train_split].labels.uid
        known_by |= fingerprints.of_later(_later(store, config, uid, config.model.slots - 1))
    return known_by


def _known_by(
    taxonomy: Taxonomy,
    streams: Sequence[Stream],
    splits: Mapping[str, SplitWindows],
    config: StudentConfig,
) -> dict[str, str]:
    """The fingerprints of classes, features and windows."""
    frames = config.losses.past_weight > 0
    return fingerprints.of_store(taxonomy, streams) | fingerprints.of_windows(splits, frames=frames)


def lent_by(store: Store, config: StudentConfig) -> tuple[list[float], list[float]] | None:
    """Weights and temperatures that an ensemble lends to its members; None where none is asked.

    Raises:
        MissingKey: the store lacks the ensemble.
        BadConfig: see `stored_shares`.
    """
    name = config.distillation.target_weights
    if not isinstance(name, str) or name == ATTENTION:
        return None
    return stored_shares(name, store.targets(name), config.distillation.targets)


def _names(config: StudentConfig) -> tuple[str, str]:
    """What the windows that are trained on and those that are scored are called: by their splits.

    Of one split they are the same ones, unless gaps or anchors are drawn for training.
    """
    data = config.data
    others = data.train_split == data.validation_split and (data.gaps or data.anchors)
    return data.train_split, data.validation_split + (" (scored)" if others else "")


def _splits(
    store: Store, streams: Sequence[Stream], protocol: Protocol, config: StudentConfig
) -> dict[str, SplitWindows]:
    """The windows that are trained on, and those that are scored, by their names."""
    data, drawn = config.data, config.data.drawn(protocol)
    found: dict[str, SplitWindows] = {}
    for name, split in zip(_names(config), (data.train_split, data.validation_split), strict=True):
        if name in found:
            continue
        segments, trained = store.labels(split), not found
        if warning := of_another_form(protocol.parity, store.taxonomy.dataset, segments.start_s):
            log.warning("%s: %s", name, warning)
        found[name] = split_windows(
            store,
            streams,
            name,
            segments,
            protocol,
            drawn=drawn if trained else (),
            # Videos that are held out are scored as those of the validation split are.
            scored=not (trained and drawn) or bool(config.selection.held_out),
            allow_missing=data.allow_missing,
        )
    return found


def _later(store: Store, config: StudentConfig, uid: NDArray[np.str_], count: int) -> Tensor:
    """The labels (N, L) of the actions after those that the training windows `uid` (N,) are of.

    Raises:
        BadConfig: there is none.
    """
    later = later_actions(store.labels(config.data.train_split), uid, count)
    there = later >= 0
    if not there.any():
        raise BadConfig(
            "`slots` have nothing to learn: no training segment has another after it in its video",
            where=f"{store.path}: labels/{config.data.train_split}",
            hint="leave it out",
        )
    log.info("later actions: %d of %d windows have all %d", there.all(1).sum(), len(uid), count)
    return torch.from_numpy(later)


def _teachers(
    store: Store,
    soft: Mapping[str, SoftTargets],
    uid: NDArray[np.str_],
    config: StudentConfig,
    lent: tuple[list[float], list[float]] | None,
) -> tuple[TeacherTargets, dict[str, int]]:
    """What the teachers say about the training windows `uid` (N,), weighed as configured, or as is
    `lent` to them.

    Also how many of the windows have soft targets; see `_check_coverage`.
    """
    for each, targets in soft.items():
        if unknown := training_unknown(targets.attributes, store.splits()):
            log.warning("targets/%s: %s", each, unknown)
    where = TargetRows.of([(targets.uid, targets.valid) for targets in soft.values()], uid)
    counts = _check_coverage(store, where, uid, config)
    share: Sequence[float] | None = None
    temperatures: Sequence[float] | None = None
    if isinstance(config.distillation.target_weights, tuple):
        share = config.distillation.target_weights
    elif lent is not None:
        share, temperatures = lent
        name = config.distillation.target_weights
        log.info("weights %s, temperatures %s of the ensemble %s", share, temperatures, name)
    teachers = TeacherTargets.of(
        soft,
        where,
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
    return teachers, counts


def say_weight(config: StudentConfig, teachers: TeacherTargets, num_classes: int) -> None:
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
    if not isinstance(targets, TopKTargets) or targets.num_teachers == 1:
        return None
    named = targets.index.transpose(0, 1).flatten(1).sort(dim=1).values  # (R, M * K)
    count = 1 + (named.diff(dim=1) != 0).sum(dim=1)
    return int(count.min()), int(count.max())


def _packed(config: StudentConfig, splits: Iterable[SplitWindows], device: torch.device) -> bool:
    """Whether the windows are gathered on the device, or else read lazily; says why in the log."""
    splits = list(splits)
    needed = sum(split.num_bytes for split in splits)
    free = free_bytes(device)
    fit = free is None or needed <= PACK_SHARE * free
    packed = fit if config.runtime.windows == "auto" else config.runtime.windows == "pack"
    log.info(
        "windows: %.2f GB; %s free on %s; %s (windows = %s)",
        needed / 1e9,
        "unknown" if free is None else f"{free / 1e9:.2f} GB",
        device,
        "packed on the device" if packed else "read from the store, batch by batch",
        config.runtime.windows,
    )
    read = [f for split in splits for s in split.streams for f in s.features.values() if f.num_rows]
    if not packed and not all(isinstance(f.rows, MappedArray) for f in read):
        log.warning(
            "the rows are compressed, remote or not to be mapped: each batch decodes the chunks "
            "that it touches, which is slow; convert the store to an uncompressed local one"
        )
    return packed


def _check_coverage(
    store: Store, found: TargetRows, uid: NDArray[np.str_], config: StudentConfig
) -> dict[str, int]:
    """How many training windows `uid` have a target of every teacher; absent ones are an error.

    A segment that a set contains but calls not valid is the teacher's own mask: counted, and never
    an error unless no segment is left.
    """
    where = f"{store.path}: {','.join(config.distillation.targets)}"
    absent, counts = found.absent, found.counts()
    if not found.has.any():
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
            found=f"none for {listed(uid[absent].tolist())}",
            hint="write targets for them, or mask them: `allow_missing_targets`",
        )
    if not found.has.all():
        log.warning(
            "%d of %d training windows have no soft target and are masked "
            "(%d absent from the set, %d without a valid one)",
            (~found.has).sum(),
            len(uid),
            counts["absent"],
            counts["not_valid"],
        )
    return counts
