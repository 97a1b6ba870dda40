"""EGTEA Gaze+ as its authors publish it: times in milliseconds, splits as lists of clips.

Promise: times are those of `action_labels.csv`, exact to the millisecond, and a video is its
session. A clip of a split list has the ids that stand behind its name, which count from 1 (ours,
like RULSTM's, from 0); an action of several nouns has the first of them, and a note counts these.
Verbs, nouns and actions are called as `action_labels.csv` calls them.

Files: `action_labels.csv` (in the folder, or in `raw_annotations`), `train_splitN.txt` and
`test_splitN.txt` (in the folder, or in `action_annotation`). Source: the annotations of Li, Liu and
Rehg 2018, of which no copy was at hand: columns as public readers of them have it.
"""

from __future__ import annotations

from pathlib import Path

from antcache.annotations.classes import MAX_CLASSES, Actions, with_names
from antcache.annotations.dataset import Dataset, Part, assemble
from antcache.annotations.files import SHOWN, is_integer, read_lines
from antcache.annotations.segments import COLUMNS, Segments
from antcache.checks import one_of
from antcache.errors import BadAnnotations, NotFound

LABELS = "action_labels.csv"
FOLDERS = ("", "raw_annotations", "action_annotation", "action_annotation/raw_annotations")
CELLS = "id; clip; session; start (ms); end (ms); action; verb; nouns"
KINDS = ("action", "verb", "noun")


def read_egtea_original(folder: Path, *, split_number: int = 1) -> Dataset:
    """The clips of split 1, 2 or 3.

    Raises:
        NotFound: a file is missing.
        BadAnnotations: a file does not say what it should.
    """
    one_of("EGTEA split", split_number, (1, 2, 3))
    lists = {
        "train": f"train_split{split_number}.txt",
        "validation": f"test_split{split_number}.txt",
    }
    clips = _clips(_find(folder, LABELS))
    classes = _Classes()
    several = 0
    rows: dict[str, list[tuple[str, str, float, float, int, int, int]]] = {}
    places: dict[str, list[str]] = {}
    for split, name in lists.items():
        path = _find(folder, name)
        own, at = rows.setdefault(split, []), places.setdefault(split, [])
        for number, line in enumerate(read_lines(path), start=1):
            if not line:
                continue
            clip, *ids = line.split()
            place = f"{path}:{number}"
            if clip not in clips:
                raise BadAnnotations(
                    "an unknown clip",
                    where=place,
                    expected=f"a clip of {LABELS}",
                    found=repr(clip[: 2 * SHOWN]),
                )
            if len(ids) < 3 or not all(is_integer(i) and 0 < int(i) <= MAX_CLASSES for i in ids):
                raise BadAnnotations(
                    "no ids",
                    where=place,
                    expected="clip, action, verb and nouns from 1",
                    found=repr(line[: 2 * SHOWN]),
                )
            several += len(ids) > 3
            uid, session, start_s, stop_s, *names = clips[clip]
            action, verb, noun = (int(i) - 1 for i in ids[:3])
            classes.add((action, verb, noun), tuple(names), place)
            own.append((uid, session, start_s, stop_s, verb, noun, action))
            at.append(place)
    parts = {
        split: Part(
            segments=Segments.of(**dict(zip(COLUMNS, zip(*own, strict=True), strict=True))),
            place=places[split].__getitem__,
        )
        for split, own in rows.items()
    }
    warnings = [f"{several} clips have several nouns: the first counts"] if several else []
    source = f"EGTEA Gaze+: {LABELS}, {', '.join(lists.values())}"
    actions, verbs, nouns = classes.all()
    return assemble(
        with_names("egtea", actions, (verbs, nouns)), parts, source=source, warnings=warnings
    )


class _Classes:
    """Classes as the clips name them: each always with the same name, verb and noun."""

    def __init__(self) -> None:
        self._names: dict[str, dict[int, str]] = {kind: {} for kind in KINDS}
        self._pairs: dict[int, tuple[int, int]] = {}

    def add(self, ids: tuple[int, int, int], names: tuple[str, ...], place: str) -> None:
        """Note the action, verb and noun of a clip."""
        for kind, number, name in zip(KINDS, ids, names, strict=True):
            known = self._names[kind].setdefault(number, name)
            if known != name and kind == "action":
                raise BadAnnotations(
                    f"action {number + 1} had another name before",
                    where=place,
                    expected=known,
                    found=repr(name[:SHOWN]),
                )
        pair = self._pairs.setdefault(ids[0], ids[1:])
        if pair != ids[1:]:
            raise BadAnnotations(
                f"action {ids[0] + 1} had another verb or noun before",
                where=place,
                expected=f"verb {pair[0] + 1}, noun {pair[1] + 1}",
                found=f"verb {ids[1] + 1}, noun {ids[2] + 1}",
            )

    def all(self) -> tuple[Actions, tuple[str, ...], tuple[str, ...]]:
        """Actions, and names of verbs and nouns; one of no clip is called by its number."""
        count = max(self._pairs) + 1
        missing = [number for number in range(count) if number not in self._pairs]
        if missing:
            raise BadAnnotations(
                "an action without a clip, whose verb and noun nobody knows",
                where=LABELS,
                expected=f"clips of 1 to {count}",
                found=f"none of {missing[0] + 1}",
            )
        names = {
            kind: tuple(own.get(i, f"{kind} {i}") for i in range(max(own) + 1))
            for kind, own in self._names.items()
        }
        pairs = [self._pairs[number] for number in range(count)]
        actions = Actions(
            names=names["action"],
            verbs=tuple(verb for verb, _ in pairs),
            nouns=tuple(noun for _, noun in pairs),
        )
        return actions, names["verb"], names["noun"]


def _clips(path: Path) -> dict[str, tuple[str, str, float, float, str, str, str]]:
    """Uid, session, start and stop in seconds, and names of action, verb and noun of each clip."""
    clips = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split(";")]
        place = f"{path}:{number}"
        if len(cells) != 8 or not all(map(is_integer, (cells[0], *cells[3:5]))):
            raise BadAnnotations(
                "no clip", where=place, expected=CELLS, found=repr(line[: 2 * SHOWN])
            )
        uid, clip, session, start, stop, action, verb, nouns = cells
        noun = nouns.split(",")[0].strip()
        if clip in clips or not all((clip, session, action, verb, noun)):
            raise BadAnnotations(
                "a clip listed twice" if clip in clips else "an empty cell",
                where=place,
                found=repr(line[: 2 * SHOWN]),
            )
        times = int(start) / 1000, int(stop) / 1000
        clips[clip] = (str(int(uid)), session, *times, action, verb, noun)
    return clips


def _find(folder: Path, name: str) -> Path:
    for inner in FOLDERS:
        if (folder / inner / name).is_file():
            return folder / inner / name
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    raise NotFound(
        f"no {name} here" if folder.is_dir() else "no such folder",
        where=folder,
        expected=f"a folder with {LABELS}, train_split1.txt, test_split1.txt",
        found=", ".join(found[:12]) or "an empty folder",
        hint="RULSTM's CSVs are read as egtea",
    )
