"""Assembly101: fine-grained actions from CSVs, coarse ones from a file a sequence.

Promise: times are frames at 30 per second, and ids those of `actions.csv`. A recording is filmed by
twelve cameras, so that each fine-grained action stands there once a view: `view` keeps one of them,
and a video is then called as its sequence; without it all are kept, each as `SEQUENCE_VIEW`. Coarse
labels are of a sequence, whatever the view: assembling and taking apart are two files of one video.
What has no labels is passed over, and counted.

Files (fine): `actions.csv`, `train.csv`, `validation.csv`. Files (coarse): `actions.csv`,
`coarse_splits/{train,val}_coarse_{assembly,disassembly}.txt`, `coarse_labels/*.txt`.
Source: assembly-101/assembly101-annotations, the columns as its pages describe them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from antcache.annotations.classes import (
    MAX_CLASSES,
    Actions,
    ClassNames,
    by_id,
    with_names,
)
from antcache.annotations.dataset import Dataset, Part, assemble
from antcache.annotations.files import (
    SHOWN,
    Rows,
    check_ids,
    is_integer,
    read_lines,
    read_table,
    require_files,
)
from antcache.annotations.segments import Segments
from antcache.errors import BadAnnotations, NotFound
from antcache.text import listed
from antcache.timebase import frames_to_seconds

ACTIONS = "actions.csv"
CLASSES = ("action_id", "verb_id", "noun_id", "action_cls", "verb_cls", "noun_cls")
FINE = {"train": "train.csv", "validation": "validation.csv"}
SEGMENTS = ("id", "video", "start_frame", "end_frame", "action_id", "verb_id", "noun_id")
LABELS, SPLITS = "coarse_labels", "coarse_splits"
WAYS = ("assembly", "disassembly")
COARSE = {"train": ("train",), "validation": ("val", "validation")}
"""Splits, and how their files may begin: the published pages have both words."""


def read_assembly101(folder: Path, *, view: str | None = None) -> Dataset:
    """Fine-grained actions: 1,380 pairs of 24 verbs and 90 nouns as published.

    Args:
        folder: where the CSVs lie.
        view: name of a camera, such as `C10404_rgb`; None takes all.

    Raises:
        NotFound: a file is missing.
        BadAnnotations: a file does not say what it should, or has nothing of the view.
    """
    require_files(folder, (ACTIONS, *FINE.values()), hint="coarse labels: assembly101-coarse")
    actions, names = _actions(folder / ACTIONS)
    parts = {split: _fine(folder / name, split, actions, view) for split, name in FINE.items()}
    warnings = []
    if (folder / "test.csv").is_file():
        count = len(read_table(folder / "test.csv", SEGMENTS[:4]))
        warnings.append(f"test.csv: {count} rows passed over")
    source = f"Assembly101 fine-grained: {', '.join(FINE.values())}"
    if view is not None:
        source += f", {view}"
    taxonomy = with_names("assembly101", actions, names)
    return assemble(taxonomy, parts, source=source, warnings=warnings)


def _fine(path: Path, split: str, actions: Actions, view: str | None) -> Part:
    rows = read_table(path, SEGMENTS)
    verb, noun = rows.integers("verb_id"), rows.integers("noun_id")
    action = rows.integers("action_id")
    check_ids("action", action, len(actions.names), rows.place)
    homes = rows.convert("video", _home, "SEQUENCE/VIEW.mp4")
    segments = Segments.of(
        uid=[f"{split}-{number}" for number in rows.words("id")],  # they count from 0 in each file
        video=[sequence if view else f"{sequence}_{own}" for sequence, own in homes],
        start_s=frames_to_seconds(rows.integers("start_frame")),
        stop_s=frames_to_seconds(rows.integers("end_frame")),
        verb=verb,
        noun=noun,
        action=action,
    )
    whole = Part(segments=segments, place=rows.place)
    if view is None:
        return whole
    kept = np.flatnonzero([own == view for _, own in homes])
    if not len(kept):
        views = sorted({own for _, own in homes})
        raise BadAnnotations(
            "no such view", where=path, expected=listed(views, 12), found=repr(view[:SHOWN])
        )
    return whole.at(kept)


def _home(text: str) -> tuple[str, str]:
    sequence, mark, view = text.rpartition("/")
    if not mark or not sequence or "/" in sequence:
        raise ValueError
    return sequence, view.removesuffix(".mp4")


def read_assembly101_coarse(folder: Path) -> Dataset:
    """Coarse actions: 202 pairs of 11 verbs and 61 nouns as published.

    Raises:
        NotFound: a file is missing.
        BadAnnotations: a file does not say what it should.
    """
    require_files(folder, (ACTIONS,), hint=f"beside it are {LABELS} and {SPLITS}")
    actions, names = _actions(folder / ACTIONS)
    known = {name: i for i, name in enumerate(actions.names)}
    parts = {
        split: _coarse(folder, _listed(folder / SPLITS, words), actions, known)
        for split, words in COARSE.items()
    }
    tests = [folder / SPLITS / f"test_coarse_{way}.txt" for way in WAYS]
    count = sum(len(read_lines(path)) for path in tests if path.is_file())
    warnings = [f"{count} sequences of the test split, whose labels are withheld, passed over"]
    taxonomy = with_names("assembly101-coarse", actions, names)
    source = f"Assembly101 coarse: {LABELS}, {SPLITS}"
    return assemble(taxonomy, parts, source=source, warnings=warnings if count else [])


def _listed(folder: Path, words: tuple[str, ...]) -> list[str]:
    """Stems of the files of labels that the lists of a split name."""
    stems: dict[str, str] = {}
    for way in WAYS:
        paths = [folder / f"{word}_coarse_{way}.txt" for word in words]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise NotFound("a list of sequences is missing", where=paths[0])
        for number, line in enumerate(read_lines(path), start=1):
            stem = (line.split() or [""])[0].removesuffix(".txt")
            if stem in stems:
                raise BadAnnotations(
                    f"the sequence is listed twice, first in {stems[stem]}",
                    where=f"{path}:{number}",
                    found=stem[: 2 * SHOWN],
                )
            stems[stem] = f"{path.name}:{number}"
    return list(stems)


def _coarse(folder: Path, stems: list[str], actions: Actions, known: dict[str, int]) -> Part:
    columns: list[tuple[str, str, int, int, int]] = []
    places = []
    for stem in stems:
        way, _, video = stem.partition("_")
        path = folder / LABELS / f"{stem}.txt"
        if way not in WAYS or "/" in stem or not video:
            raise BadAnnotations(
                "no name of a sequence",
                where=folder / SPLITS,
                expected=f"{' or '.join(WAYS)}_SEQUENCE.txt",
                found=repr(stem[: 2 * SHOWN]),
            )
        for number, line in enumerate(read_lines(path), start=1):
            start, stop, name = (*line.split(None, 2), "", "", "")[:3]
            place = f"{path}:{number}"
            if not (is_integer(start) and is_integer(stop)) or name not in known:
                raise BadAnnotations(
                    "no coarse action",
                    where=place,
                    expected=f"start frame, end frame, an action of {ACTIONS}",
                    found=repr(line[: 2 * SHOWN]),
                )
            columns.append((f"{stem}_{number}", video, int(start), int(stop), known[name]))
            places.append(place)
    uid, home, first, last, ids = zip(*columns, strict=True)
    action = np.asarray(ids)
    segments = Segments.of(
        uid=uid,
        video=home,
        start_s=frames_to_seconds(first),
        stop_s=frames_to_seconds(last),
        verb=np.asarray(actions.verbs)[action],
        noun=np.asarray(actions.nouns)[action],
        action=action,
    )
    return Part(segments=segments, place=places.__getitem__)


def _actions(path: Path) -> tuple[Actions, ClassNames]:
    """Actions by id, and names of verbs and nouns, which are those of the actions' rows."""
    rows = read_table(path, CLASSES)
    called, order = rows.words("action_cls"), by_id(rows, "action_id")
    if len(set(called)) < len(called):
        name = next(name for name in called if called.count(name) > 1)
        raise BadAnnotations("two actions have one name", where=path, found=repr(name[:SHOWN]))
    ids = {kind: rows.integers(f"{kind}_id") for kind in ("verb", "noun")}
    names = tuple(_class_names(rows, kind) for kind in ("verb", "noun"))
    actions = Actions(
        names=tuple(called[row] for row in order),
        verbs=tuple(int(ids["verb"][row]) for row in order),
        nouns=tuple(int(ids["noun"][row]) for row in order),
    )
    return actions, (names[0], names[1])


def _class_names(rows: Rows, kind: str) -> tuple[str, ...]:
    """Names of verbs or nouns by id; an id of no action is called by its number."""
    ids, words = rows.integers(f"{kind}_id"), rows.words(f"{kind}_cls")
    check_ids(kind, ids, MAX_CLASSES, rows.place)
    names: dict[int, str] = {}
    for row, (number, word) in enumerate(zip(ids.tolist(), words, strict=True)):
        if names.setdefault(number, word) != word:
            raise BadAnnotations(
                f"{kind} {number} had another name before",
                where=rows.place(row),
                expected=names[number],
                found=repr(word[:SHOWN]),
            )
    return tuple(names.get(number, f"{kind} {number}") for number in range(max(names) + 1))
