"""The CSVs that EPIC-KITCHENS itself publishes: timestamps, narrations, verb and noun classes.

Promise: times are the timestamps, not frames of the video's own rate; ids are those of the class
files; an action is a pair of verb and noun with the id that it has in RULSTM's `actions.csv`. That
file is used where it lies in the folder; without it only the names of actions differ, which are
then those of the classes and not the narrated words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from antcache.annotations.classes import (
    Actions,
    ClassNames,
    action_ids,
    pair_actions,
    read_actions,
)
from antcache.annotations.dataset import Dataset, Part, assemble
from antcache.annotations.epic_kitchens import (
    EK55_CLASSES,
    EK100_CLASSES,
    EK100_NOUNS,
    ek55_names,
    ek55_taxonomy,
    ek100_names,
    ek100_taxonomy,
)
from antcache.annotations.files import (
    Rows,
    check_ids,
    first_of,
    read_rows,
    read_table,
    require_files,
)
from antcache.annotations.segments import Segments
from antcache.annotations.sizes import check_dataset
from antcache.errors import BadAnnotations

COLUMNS = ("video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")
EK55_LABELS = "EPIC_train_action_labels.csv"
EK55_VIDEOS = {"train": "training_videos.csv", "validation": "validation_videos.csv"}
EK100_LABELS = {"train": "EPIC_100_train.csv", "validation": "EPIC_100_validation.csv"}


def read_epic_kitchens_55_official(folder: Path) -> Dataset:
    """EPIC-KITCHENS-55 from `EPIC_train_action_labels.csv` and the class files.

    RULSTM's lists of videos make the splits; without them everything is `train`.
    """
    check_dataset(folder, "epic-kitchens-55")
    hint = "RULSTM's CSVs are read as epic-kitchens-55"
    require_files(folder, (EK55_LABELS, *EK55_CLASSES), hint=hint)
    names = ek55_names(folder)
    assert names is not None
    rows = read_table(folder / EK55_LABELS, ("uid", *COLUMNS))
    actions = _actions(folder, [rows], names, "_")
    taxonomy, warnings = ek55_taxonomy(folder, actions, names)
    parts = {"train": _segments(rows, "uid", actions)}
    lists = {split: folder / name for split, name in EK55_VIDEOS.items()}
    missing = [path.name for path in lists.values() if not path.is_file()]
    if missing:
        warnings.append(f"no {', '.join(missing)}: everything is in train")
    else:
        parts = _by_video(parts["train"], lists)
    return assemble(taxonomy, parts, source=f"official CSV: {EK55_LABELS}", warnings=warnings)


def read_epic_kitchens_100_official(folder: Path) -> Dataset:
    """EPIC-KITCHENS-100 from `EPIC_100_train.csv`, `EPIC_100_validation.csv` and class files."""
    check_dataset(folder, "epic-kitchens-100")
    nouns = first_of(folder, EK100_NOUNS)
    classes = (EK100_CLASSES[0], EK100_CLASSES[1] if nouns is None else nouns.name)
    hint = "RULSTM's CSVs are read as epic-kitchens-100"
    require_files(folder, (*EK100_LABELS.values(), *classes), hint=hint)
    names = ek100_names(folder)
    assert names is not None
    tables = {
        split: read_table(folder / name, ("narration_id", *COLUMNS))
        for split, name in EK100_LABELS.items()
    }
    actions = _actions(folder, list(tables.values()), names, " ")
    taxonomy, warnings = ek100_taxonomy(folder, actions, names)
    parts = {split: _segments(rows, "narration_id", actions) for split, rows in tables.items()}
    source = f"official CSV: {', '.join(EK100_LABELS.values())}"
    return assemble(taxonomy, parts, source=source, warnings=warnings)


def _actions(folder: Path, tables: Sequence[Rows], names: ClassNames, joint: str) -> Actions:
    """Actions of `actions.csv`, or else the pairs that occur in `tables`."""
    verb = [rows.integers("verb_class") for rows in tables]
    noun = [rows.integers("noun_class") for rows in tables]
    for rows, verbs, nouns in zip(tables, verb, noun, strict=True):
        check_ids("verb", verbs, len(names[0]), rows.place)
        check_ids("noun", nouns, len(names[1]), rows.place)
    if (folder / "actions.csv").is_file():
        return read_actions(folder / "actions.csv", names)
    return pair_actions(np.concatenate(verb), np.concatenate(noun), names, joint)


def _segments(rows: Rows, uid: str, actions: Actions) -> Part:
    verb, noun = rows.integers("verb_class"), rows.integers("noun_class")
    segments = Segments.of(
        uid=rows.words(uid),
        video=rows.words("video_id"),
        start_s=rows.timestamps("start_timestamp"),
        stop_s=rows.timestamps("stop_timestamp"),
        verb=verb,
        noun=noun,
        action=action_ids(actions, verb, noun, rows),
    )
    return Part(segments=segments, place=rows.place)


def _by_video(whole: Part, lists: dict[str, Path]) -> dict[str, Part]:
    """Splits of `whole` by lists of videos; every video must be on exactly one."""
    split_of: dict[str, str] = {}
    for split, path in lists.items():
        rows = read_rows(path, ("video",))
        for row, video in enumerate(rows.words("video")):
            if video in split_of:
                raise BadAnnotations(
                    "the video is listed twice", where=rows.place(row), found=video
                )
            split_of[video] = split
    videos = whole.segments.video.tolist()
    for row, video in enumerate(videos):
        if video not in split_of:
            raise BadAnnotations(
                "the video is on no list of a split",
                where=whole.place(row),
                expected=" or ".join(path.name for path in lists.values()),
                found=video,
            )
    home = np.asarray([split_of[video] for video in videos])
    return {split: whole.at(np.flatnonzero(home == split)) for split in lists}
