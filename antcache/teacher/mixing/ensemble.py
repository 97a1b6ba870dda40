"""Joint soft targets: several teachers of a store, mixed into one set of targets.

Promise: what is learned is learned from training segments whose targets are cross-fitted in every
member, and each training segment is mixed by a mixture that was learned without its video; all
other splits are mixed by the one learned on the whole training split. A segment has a joint target
where every member has one. Members that don't belong together are refused, not patched up.

The attributes hold what a student needs to be taught by the members side by side instead:
`members`, `weights` and `temperatures`, to be used as `antcache.kernels.distillation_loss` mixes
several teachers (logits divided by their temperatures, `teacher_weight=weights`). With attention
the weights differ by segment: `Mixture.row_weights` of the kept mixture gives them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache import __version__
from antcache.annotations.protocols import anchor_name
from antcache.errors import BadConfig, FingerprintMismatch, MissingTarget
from antcache.progress import Progress, silent
from antcache.store import SoftTargets, Store
from antcache.store.format import CHECKSUMS
from antcache.teacher.histories import Timeline
from antcache.teacher.keeping import cut_to_top_k, place_for
from antcache.teacher.mixing.fit import MixConfig
from antcache.teacher.mixing.mixture import LEARNED, OUTPUT, Mixture, save_mixture
from antcache.teacher.mixing.nested import Learned, learn

log = logging.getLogger(__name__)

CHECKED_ROWS = 4096  # of N x C at a time


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig(MixConfig):
    """Which soft targets are mixed, and how."""

    members: tuple[str, ...]
    """Names of at least two sets of soft targets in the store."""
    train_split: str = "train"
    """The split that the members were trained on, and the mixture is learned on."""
    mixed_histories: bool = False
    """Mix teachers that were told of different earlier segments."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.members) < 2 or len(set(self.members)) < len(self.members):
            found = ", ".join(self.members) or "none"
            raise BadConfig("an ensemble needs two and more different members", found=found)


def ensemble(
    store: Store,
    name: str,
    config: EnsembleConfig,
    folder: Path,
    *,
    top_k: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> SoftTargets:
    """Mix soft targets of `store`, keep the mixture in `folder`, write joint targets as `name`.

    What has been mixed so before is not mixed again, unless `overwrite` asks for it.

    Raises:
        AlreadyExists: the mixture or the targets are there and `overwrite` is false, or another
            process is mixing them.
        WriteFailed: the disk refused.
        BadConfig, MissingKey, MissingTarget, FingerprintMismatch: see `make_ensemble`.
    """
    if name in config.members:
        raise BadConfig("the joint targets can't replace a member", found=name)
    members = {
        member: store.backend.open(f"targets/{member}")[1][CHECKSUMS]
        for member in config.members
        if member in store.target_names()
    }
    command = {**asdict(config), "targets": members}
    with place_for(store, name, folder, OUTPUT, command, top_k=top_k, overwrite=overwrite) as place:
        if place.done is not None:
            return place.done
        mixture, targets = make_ensemble(store, config, progress=progress)
        kept = cut_to_top_k(targets, top_k)
        save_mixture(
            mixture,
            folder,
            about=targets.attributes,
            overwrite=place.replaces_folder,
            beside=place.made_file(kept),
        )
        place.publish(kept)
    return kept


def make_ensemble(
    store: Store, config: EnsembleConfig, *, progress: Progress = silent
) -> tuple[Mixture, SoftTargets]:
    """The mixture, and its dense targets (log-probabilities) of every segment of the store.

    Holds the M members' logits (N, C) in memory, and little more than as much again as one of them.

    Raises:
        MissingKey: the store lacks a member or the training split.
        BadConfig: a member is cut to its k best, is in-sample where something is learned from it,
            has another history than the others, or there are fewer videos than folds.
        FingerprintMismatch: a member is for another taxonomy, or for segments not in the store.
        MissingTarget: there is no training segment for which every member has a target.
    """
    timeline = Timeline.of_store(store)
    train = timeline.in_split(config.train_split)
    logits: list[NDArray[np.float32]] = []
    about: dict[str, dict[str, Any]] = {}
    valid = np.ones(len(train), dtype=bool)
    absent: dict[str, int] = {}
    for name in config.members:
        values, rows, about[name] = _member(store, name, timeline, config)
        logits.append(values)
        absent[name] = int((rows < 0).sum())
        valid &= rows >= 0
    told = _agreed(about, config)
    if not (train & valid).any():
        raise MissingTarget(
            "no training segment has a target of every member",
            found=", ".join(f"{n} lacks {count}" for n, count in absent.items()),
        )
    held_out = np.flatnonzero(train & valid)
    learned = learn(
        logits,
        timeline.segments.action,
        timeline.video_ids,
        config.members,
        config,
        rows=held_out,
        classes=timeline.taxonomy.many_shot_actions,
        progress=progress,
    )
    joint = np.full(logits[0].shape, np.nan, dtype=np.float32)
    joint[held_out] = learned.held_out
    rest = np.flatnonzero(valid & ~train)
    joint[rest] = learned.mixture.mix(logits, rest)
    log.info("%s of %s: weights %s", config.mix, config.members, learned.mixture.weights)
    return learned.mixture, SoftTargets(
        uid=timeline.segments.uid,
        valid=valid,
        logits=joint,
        moment=timeline.segments.moments(),
        attributes={
            "kind": "ensemble",
            **_attributes(learned, config, about),
            "absent": absent,
            **told,
            "taxonomy": timeline.taxonomy.fingerprint,
            "form": "dense",
            "antcache": __version__,
        },
    )


def _member(
    store: Store, name: str, timeline: Timeline, config: EnsembleConfig
) -> tuple[NDArray[np.float32], NDArray[np.int64], dict[str, Any]]:
    """Logits (N, C) in the order of the timeline, row in the store (N,) or -1, and attributes."""
    targets, where = store.targets(name), f"{store.path}: targets/{name}"
    about, classes = targets.attributes, len(timeline.taxonomy.actions)
    if about.get("taxonomy") != timeline.taxonomy.fingerprint:
        raise FingerprintMismatch(
            "soft targets for another taxonomy",
            where=where,
            expected=timeline.taxonomy.fingerprint,
            found=about.get("taxonomy"),
        )
    if targets.logits is None:
        raise BadConfig(
            "targets cut to their k best can't be mixed: what they give to the other classes is "
            "not known class by class",
            where=where,
            expected="dense targets",
            found=about.get("form", "top-k"),
            hint="write the member without --top-k; the joint targets can be cut",
        )
    if targets.logits.shape[1] != classes:
        raise FingerprintMismatch(
            "another number of classes",
            where=where,
            expected=classes,
            found=targets.logits.shape[1],
        )
    unknown = ~np.isin(targets.uid, timeline.segments.uid)
    if unknown.any():
        raise FingerprintMismatch(
            "soft targets of segments that the store does not have",
            where=where,
            found=f"{int(unknown.sum())}, the first one {targets.uid[unknown][0]}",
            hint="train the member on the labels that the store holds now",
        )
    if config.needs_held_out and not (_folds(about) or 0) > 0:
        raise BadConfig(
            f"{config.mix if config.mix in LEARNED else 'a tuned balance'} is learned from targets "
            "of videos that the teacher has not seen, and this one's are not known to be",
            where=where,
            expected="folds, 2 and more",
            found=f"{about.get('folds', 'unknown')} (in-sample)",
            hint="train it with --folds 5, or take --mix mean",
        )
    rows = targets.rows_for(timeline.segments.uid)
    logits = targets.logits
    if not np.array_equal(rows, np.arange(len(logits))):
        logits = logits[rows]  # rows of -1 hold whatever the last one does, and are never looked at
    for start in range(0, len(rows), CHECKED_ROWS):
        part = slice(start, start + CHECKED_ROWS)
        bad = ~np.isfinite(logits[part]).all(axis=1) & (rows[part] >= 0)
        if bad.any():
            raise BadConfig(
                "a target that is called valid holds numbers that are not finite",
                where=where,
                expected="a finite logit of every class: an ensemble has no rule for -inf",
                found=f"segment {timeline.segments.uid[part][bad][0]}",
            )
    return logits, rows, about


def _folds(about: Mapping[str, Any]) -> int | None:
    """Folds that the training segments are cross-fitted on; 0: in-sample; None: not known."""
    folds = about.get("folds")
    return folds if isinstance(folds, int) else None


def _agreed(about: Mapping[str, Mapping[str, Any]], config: EnsembleConfig) -> dict[str, Any]:
    """History and gap of all members, `mixed` where they differ, and their anchor.

    Members of two anchors are asked at other times about the same segments: no mixture is allowed.
    """
    anchors = {name: member.get("anchor", 0.0) for name, member in about.items()}
    anchor = next(iter(anchors.values()))
    if len(set(anchors.values())) > 1:
        raise BadConfig(
            "the members have different anchors",
            found=", ".join(f"{name} {anchor_name(value)}" for name, value in anchors.items()),
            hint="train them alike",
        )
    agreed: dict[str, Any] = {} if anchor == 0 else {"anchor": anchor}
    for key, what in (("history", "history"), ("gap_s", "gap")):
        values = {name: member.get(key, "unknown") for name, member in about.items()}
        different = len(set(values.values())) > 1
        if different and not config.mixed_histories:
            raise BadConfig(
                f"the members have different {what} settings",
                found=", ".join(f"{name} {value}" for name, value in values.items()),
                hint="train them alike, or --mixed-histories",
            )
        agreed[key] = "mixed" if different else next(iter(values.values()))
    return agreed


def _attributes(
    learned: Learned, config: EnsembleConfig, about: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What the attributes say about the mixture and how it was learned."""
    folds = {name: _folds(member) for name, member in about.items()}
    known = [f for f in folds.values() if f is not None]
    least: int | str = 0 if 0 in known else "unknown" if len(known) < len(folds) else min(known)
    mixture = learned.mixture
    return {
        "config": {
            **asdict(config),
            "balance": "tuned" if config.balance is None else config.balance,
        },
        "mix": config.mix,
        "members": list(mixture.members),
        "weights": list(mixture.weights),
        "temperatures": list(mixture.temperatures),
        "balance": mixture.balance,
        "fold_weights": [list(m.weights) for m in learned.of_fold],
        "mix_folds": len(learned.of_fold),
        "folds": least,
        "member_folds": {name: "unknown" if f is None else f for name, f in folds.items()},
        "scores": learned.scores if least not in (0, "unknown") else {},
    }
