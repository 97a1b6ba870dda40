"""A teacher from a store's labels, and its soft targets into the store: the calls behind the CLI.

Promise: what would be refused after the training is refused before it; the teacher is kept and its
targets are published only when both are complete, and killed at any time the same call goes on
(see `keeping`).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from antcache.progress import Progress, silent
from antcache.store import SoftTargets, Store
from antcache.store.format import checksums
from antcache.teacher.base import OUTPUT, load_teacher, save_teacher
from antcache.teacher.histories import HistoryConfig, Timeline
from antcache.teacher.keeping import check_targets, cut_to_top_k, folder_state, place_for
from antcache.teacher.scripts import Scripts
from antcache.teacher.targets import TargetConfig, make_targets, score_segments


def history_for(
    store: Store, mode: str = "complete", gap_s: float | None = None, anchor: float | None = None
) -> HistoryConfig:
    """Histories of a kind, with the anticipation gap and anchor of the store unless given."""
    usual = store.protocol
    return HistoryConfig(
        mode=mode,
        gap_s=usual.gap_s if gap_s is None else gap_s,
        anchor=usual.anchor if anchor is None else anchor,
    )


def teach(
    store: Store,
    name: str,
    config: TargetConfig,
    folder: Path,
    *,
    scripts: Scripts | None = None,
    top_k: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress = silent,
) -> SoftTargets:
    """Train a teacher, keep it in `folder`, and write its targets for every segment as `name`.

    Args:
        store: whose labels, of all splits, are read.
        name: of the soft targets in the store.
        config: which teacher, and how the training split is scored.
        folder: where the teacher is kept.
        scripts: text-only sequences of actions to train on beside the videos.
        top_k: keep the k best classes only; None keeps all logits.
        device: torch device of teachers that use one.
        overwrite: replace the teacher and the targets that are there.
        progress: called with epochs or folds done.

    A training that has come to its end before is not done again, unless `overwrite` asks for it.

    Raises:
        AlreadyExists: the teacher or the targets are there and `overwrite` is false, or another
            process is training it.
        MissingKey: the store has no labels, or lacks the training split.
        BadConfig: a setting is out of range.
        WriteFailed: the disk refused.
    """
    command = {
        **asdict(config),
        "history": config.history.settings,
        "scripts": None if scripts is None else checksums(vars(scripts)),
        # A language model is named by its folder, in which another one may be by now.
        "model": folder_state(str(config.settings.get("model", ""))),
    }
    with place_for(store, name, folder, OUTPUT, command, top_k=top_k, overwrite=overwrite) as place:
        if place.done is not None:
            return place.done
        teacher, targets = make_targets(
            Timeline.of_store(store), config, scripts=scripts, device=device, progress=progress
        )
        kept = cut_to_top_k(targets, top_k)
        save_teacher(
            teacher,
            config.history,
            folder,
            overwrite=place.replaces_folder,
            beside=place.made_file(kept),
        )
        place.publish(kept)
    return kept


def apply_teacher(
    store: Store,
    name: str,
    folder: Path,
    *,
    top_k: int | None = None,
    features: bool = False,
    device: str = "cpu",
    overwrite: bool = False,
) -> SoftTargets:
    """Write the targets of the trained teacher in `folder` for every segment as `name`.

    With `features`, its last state is kept beside its logits, for feature alignment.

    Raises:
        NotFound, BadCheckpoint: see `base.load_teacher`.
        AlreadyExists, BadConfig: see `teach`; also `features` of a kind that has none.
    """
    check_targets(store, name, top_k, overwrite=overwrite)
    teacher, history = load_teacher(folder, store.taxonomy, device=device)
    targets = score_segments(Timeline.of_store(store), teacher, history, features=features)
    kept = cut_to_top_k(targets, top_k)
    store.write_targets(name, kept, overwrite=overwrite)
    return kept
