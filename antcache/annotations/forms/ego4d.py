"""Ego4D's long-term anticipation: clips with their actions in order, as verb and noun labels.

Promise: a video is a clip (`clip_uid`, as its file is called), times are seconds of the clip
(`action_clip_start_sec`, `action_clip_end_sec`), and the uid of a segment is `CLIPUID_ACTIONIDX`,
by which the challenge names what was last seen. Ids of verbs and nouns are the published ones;
actions are the pairs that occur. The list without labels is passed over, and counted.

Files: `fho_lta_train.json`, `fho_lta_val.json`, `fho_lta_taxonomy.json` (`verbs`, `nouns`: names by
id). Source: EGO4D/forecasting, whose loaders read these fields. Version 1 and 2 of the labels have
other numbers of classes, which the taxonomy says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from antcache.annotations.classes import MAX_CLASSES, pair_actions, with_names
from antcache.annotations.dataset import Dataset, Part, assemble
from antcache.annotations.files import check_ids, require_files
from antcache.annotations.forms.json_files import json_of, mapping, number, sequence, text, whole
from antcache.annotations.segments import Segments
from antcache.errors import BadAnnotations

LABELS = {"train": "fho_lta_train.json", "validation": "fho_lta_val.json"}
TAXONOMY = "fho_lta_taxonomy.json"
UNLABELED = "fho_lta_test_unannotated.json"


def read_ego4d_lta(folder: Path) -> Dataset:
    """The labelled clips of both splits.

    Raises:
        NotFound: a file is missing.
        BadAnnotations: a file does not say what it should.
    """
    require_files(folder, (*LABELS.values(), TAXONOMY))
    fields, where = json_of(folder / TAXONOMY), str(folder / TAXONOMY)
    verbs, nouns = (_names(fields, kind, where) for kind in ("verbs", "nouns"))
    read = {split: _entries(folder / name) for split, name in LABELS.items()}
    verb, noun = (
        {
            split: np.asarray([whole(entry, field, place(i)) for i, entry in enumerate(entries)])
            for split, (entries, place) in read.items()
        }
        for field in ("verb_label", "noun_label")
    )
    for split, (_, place) in read.items():
        check_ids("verb", verb[split], len(verbs), place)
        check_ids("noun", noun[split], len(nouns), place)
    every = [np.concatenate([ids[split] for split in read]) for ids in (verb, noun)]
    actions = pair_actions(every[0], every[1], (verbs, nouns), " ")
    known = {pair: i for i, pair in enumerate(zip(actions.verbs, actions.nouns, strict=True))}
    parts = {}
    for split, (entries, place) in read.items():
        clips = [text(entry, "clip_uid", place(i)) for i, entry in enumerate(entries)]
        numbers = [whole(entry, "action_idx", place(i)) for i, entry in enumerate(entries)]
        pairs = zip(verb[split].tolist(), noun[split].tolist(), strict=True)
        segments = Segments.of(
            uid=[f"{clip}_{i}" for clip, i in zip(clips, numbers, strict=True)],
            video=clips,
            start_s=[number(e, "action_clip_start_sec", place(i)) for i, e in enumerate(entries)],
            stop_s=[number(e, "action_clip_end_sec", place(i)) for i, e in enumerate(entries)],
            verb=verb[split],
            noun=noun[split],
            action=[known[pair] for pair in pairs],
        )
        parts[split] = Part(segments=segments, place=place)
    warnings = []
    if (folder / UNLABELED).is_file():
        count = len(_entries(folder / UNLABELED)[0])
        warnings.append(f"{UNLABELED}: {count} segments without labels passed over")
    taxonomy = with_names("ego4d-lta", actions, (verbs, nouns))
    source = f"Ego4D long-term anticipation: {', '.join(LABELS.values())}"
    return assemble(taxonomy, parts, source=source, warnings=warnings)


class _EntryOf:
    """Where an entry comes from."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, row: int) -> str:
        return f"{self.path}: clips, {row}"


def _entries(path: Path) -> tuple[list[Any], _EntryOf]:
    """The entries of a list, which may lie in a field `clips` or be the whole file."""
    value = json_of(path)
    entries = value if isinstance(value, list) else mapping(value, str(path)).get("clips")
    found = sequence(entries, f"{path}: clips")
    if not found:
        raise BadAnnotations("no clips", where=path)
    return found, _EntryOf(path)


def _names(fields: Any, kind: str, where: str) -> tuple[str, ...]:
    """Names by id, in a list or an object of numbers."""
    value = mapping(fields, where).get(kind)
    if isinstance(value, dict):
        value = [value.get(str(i)) for i in range(len(value))]
    names = sequence(value, f"{where}: {kind}")
    if not 0 < len(names) <= MAX_CLASSES:
        raise BadAnnotations("an impossible number of classes", where=f"{where}: {kind}")
    places = {str(i): name for i, name in enumerate(names)}
    return tuple(text(places, str(i), f"{where}: {kind}") for i in range(len(names)))
