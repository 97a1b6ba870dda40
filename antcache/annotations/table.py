"""Anybody's own annotations: CSV files with the header `uid, video, start, stop, verb, noun`.

Promise: verbs, nouns and actions may be names or ids, times seconds or (with `fps`) frames. Without
`verb` and `noun`, the column `action` holds single labels, and none are made up. Every
CSV of the folder is a split named after its file, unless a column `split` says otherwise. Ids
given by us do not depend on the order of files or lines. Tables as spreadsheets and pandas write
them are read as they are meant (`3.0` is the id 3), and what may be meant otherwise is noted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antcache.annotations.classes import (
    MAX_CLASSES,
    Actions,
    pair_actions,
    read_class_names,
    with_names,
)
from antcache.annotations.dataset import Dataset, Part, assemble
from antcache.annotations.files import (
    SHOWN,
    Rows,
    check_ids,
    first_cells,
    is_integer,
    read_table,
)
from antcache.annotations.segments import Segments
from antcache.annotations.table_splits import by_video, named_splits
from antcache.annotations.taxonomy import Taxonomy
from antcache.checks import above
from antcache.errors import BadAnnotations, BadConfig, NotFound
from antcache.timebase import frames_to_seconds

REQUIRED = ("uid", "video", "start", "stop")
PAIR = ("verb", "noun")
OPTIONAL = (*PAIR, "action", "split")
HEADER = f"{','.join((*REQUIRED, *PAIR))}, or action in place of verb and noun"
CLASS_FILES = {"verb": "verbs.csv", "noun": "nouns.csv", "action": "actions.csv"}
"""Optional `id,name` files that give ids to names, or names to ids; that of actions for single
labels."""

WHOLE = re.compile(r"(-?\d{1,18})\.0+", re.ASCII)
"""An id as pandas writes it where a cell of its column was empty."""

NOTHING = frozenset(("nan", "<na>", "#n/a", "n/a", "na", "null", "none"))
"""What stands, in any case, where there was nothing."""


def read_own_table(
    folder: Path,
    *,
    fps: float | None = None,
    name: str = "table",
    split_by_video: float | None = None,
) -> Dataset:
    """Annotations from one CSV file, or from every CSV file of a folder.

    Args:
        folder: the file or folder. `verbs.csv` and `nouns.csv` in it are class files, and so is
            `actions.csv` where actions are single labels.
        fps: frames per second where `start` and `stop` are frame numbers (frame n is seen at
            n / fps seconds); without it they are seconds.
        name: name of the dataset.
        split_by_video: the share of the videos that become `validation`, where one file without a
            column `split` has them all.
    """
    check_rate(fps)  # before any file is looked for
    if not name.strip():
        raise BadConfig("a dataset without a name", expected="a name", found=repr(name))
    tables = [read_rows_of(path, REQUIRED, fps) for path in _csv_files(folder)]
    home = folder if folder.is_dir() else folder.parent
    rows = _Joined(tables)
    warnings = rows.warnings()
    classes, verb, noun, action = _actions_of(rows, name, home, warnings)
    start, stop = (rows.seconds(column, fps) for column in ("start", "stop"))
    if fps is None and not (np.mod(start, 1).any() or np.mod(stop, 1).any()):
        warnings.append("all times are whole seconds; if they are frames, give fps")
    whole = Part(
        segments=Segments.of(
            uid=rows.words("uid"),
            video=rows.words("video"),
            start_s=start,
            stop_s=stop,
            verb=verb,
            noun=noun,
            action=action,
        ),
        place=rows.place,
    )
    parts, said = _splits(whole, rows, split_by_video)
    dataset = assemble(
        classes,
        parts,
        source=f"table: {', '.join(table.path.name for table in tables)}",
        warnings=[*warnings, *said],
    )
    return replace(dataset, fps=fps)


def _actions_of(
    rows: _Joined, name: str, home: Path, warnings: list[str]
) -> tuple[Taxonomy, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The classes, and the verb, noun and action (N,) of each row; -1 where there is none."""
    lacking = [column for column in PAIR if not rows.has(column)]
    if len(lacking) == 1 or (lacking and not rows.has("action")):
        table = rows.tables[0]
        raise BadAnnotations(
            f"the header lacks {', '.join(lacking)}",
            where=f"{table.path}:1",
            expected=HEADER,
            found=", ".join(table.columns)[: 5 * SHOWN],
        )
    if lacking:
        names, action = _classes(rows, "action", home, warnings)
        none = np.full(len(action), -1)
        single = Taxonomy(
            dataset=name, verbs=(), nouns=(), actions=names, action_verbs=(), action_nouns=()
        )
        return single, none, none, action
    if (unused := _class_file(home, "action")) is not None:
        warnings.append(f"{unused.name} is not used: these actions are pairs of verb and noun")
    verbs, verb = _classes(rows, "verb", home, warnings)
    nouns, noun = _classes(rows, "noun", home, warnings)
    if rows.has("action"):
        actions, action = _given_actions(rows, verb, noun)
    else:
        actions = pair_actions(verb, noun, (verbs, nouns), " ")
        known = {pair: i for i, pair in enumerate(zip(actions.verbs, actions.nouns, strict=True))}
        pairs = zip(verb.tolist(), noun.tolist(), strict=True)
        action = np.asarray([known[pair] for pair in pairs], dtype=np.int64)
    return with_names(name, actions, (verbs, nouns)), verb, noun, action


def check_rate(fps: float | None) -> None:
    """Refuse frames per second that can't be."""
    if fps is not None:
        above("frame rate", fps, 0, math.inf)


def read_rows_of(path: Path, required: Sequence[str], fps: float | None) -> Rows:
    """A table of one's own with these columns at least, whole numbers written as such.

    Raises:
        BadConfig: an impossible rate.
        NotFound, BadAnnotations: as `read_table`.
    """
    check_rate(fps)
    columns = ("uid", "verb", "noun", "action", *(() if fps is None else ("start", "stop")))
    rows = read_table(path, required, OPTIONAL)
    numbers = {
        column: [WHOLE.sub(r"\1", cell) if WHOLE.fullmatch(cell) else cell for cell in cells]
        for column, cells in rows.columns.items()
        if column in columns
    }
    return replace(rows, columns={**rows.columns, **numbers})


def seconds(rows: Rows, column: str, fps: float | None) -> NDArray[np.float64]:
    """Times (N,) of a column, which holds frame numbers where there is a rate."""
    return rows.decimals(column) if fps is None else frames_to_seconds(rows.integers(column), fps)


class _Joined:
    """Several tables as one, which remembers where each row comes from."""

    def __init__(self, tables: list[Rows]) -> None:
        self.tables = tables
        self.origin = [(table, row) for table in tables for row in range(len(table))]

    def place(self, row: int) -> str:
        table, inner = self.origin[row]
        return table.place(inner)

    def has(self, column: str) -> bool:
        """Whether the tables have a column; all of them or none must."""
        having = [column in table.columns for table in self.tables]
        if any(having) and not all(having):
            raise BadAnnotations(
                f"only some files have a column {column!r}",
                where=self.tables[having.index(False)].path,
                expected="all or none",
            )
        return any(having)

    def words(self, column: str) -> list[str]:
        return [cell for table in self.tables for cell in table.words(column)]

    def seconds(self, column: str, fps: float | None) -> NDArray[np.float64]:
        return np.concatenate([seconds(table, column, fps) for table in self.tables])

    def warnings(self) -> list[str]:
        """Which columns are not used, and which cells look as if they had been empty."""
        said = []
        for table in self.tables:
            for column, cells in table.columns.items():
                if column not in REQUIRED + OPTIONAL:
                    said.append(f"{table.path.name}: column {column!r} is not used")
                    continue
                empty = [row for row, cell in enumerate(cells) if cell.lower() in NOTHING]
                if empty:
                    said.append(
                        f"{table.place(empty[0])}: {cells[empty[0]]!r} is read as a name "
                        f"({len(empty)} in column {column!r}); leave these rows out if the cell "
                        "was empty"
                    )
        return said


def _csv_files(folder: Path) -> list[Path]:
    """The file itself, or the CSV files of a folder that are no class files."""
    if folder.is_file():
        return [folder]
    expected = f"a CSV file with the header {','.join((*REQUIRED, *PAIR))}, or a folder of them"
    if not folder.is_dir():
        raise NotFound("no such folder", where=folder, expected=expected)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv")
    paths = [path for path in paths if not _is_class_file(path)]
    if not paths:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:12])
        raise NotFound(
            "no tables here", where=folder, expected=expected, found=found or "an empty folder"
        )
    return paths


def _is_class_file(path: Path) -> bool:
    """Whether a file is of classes; `actions.csv` may be the split of that name."""
    name = path.name.lower()
    if name == CLASS_FILES["action"]:
        return first_cells(path) == ["id", "name"]
    return name in CLASS_FILES.values()


def _class_file(home: Path, column: str) -> Path | None:
    """The class file of a column, called so in any case."""
    found = [path for path in sorted(home.iterdir()) if path.name.lower() == CLASS_FILES[column]]
    found = [path for path in found if path.is_file() and _is_class_file(path)]
    if len(found) > 1:
        raise BadAnnotations(
            f"two files of {column}s",
            where=home,
            expected=CLASS_FILES[column],
            found=" and ".join(path.name for path in found),
            hint="remove one of them",
        )
    return found[0] if found else None


def _ids_or_names(rows: _Joined, column: str) -> tuple[list[str], bool]:
    """Cells of a column, and whether they are ids; a mixture is refused."""
    cells = rows.words(column)
    numbers = [is_integer(cell) for cell in cells]
    if any(numbers) and not all(numbers):
        words = [cell for cell, number in zip(cells, numbers, strict=True) if not number]
        empty = all(word.lower() in NOTHING for word in words)
        row = numbers.index(False if empty else not numbers[0])
        raise BadAnnotations(
            f"the column {column!r} " + ("has no id here" if empty else "mixes ids and names"),
            where=rows.place(row),
            expected="a whole number"
            if empty
            else ("an id, as before" if numbers[0] else "a name, as before"),
            found=repr(cells[row][:SHOWN]),
        )
    return cells, all(numbers)


def _checked_ids(rows: _Joined, column: str, cells: list[str], count: int) -> NDArray[np.int64]:
    ids = np.asarray([int(cell) for cell in cells], dtype=np.int64)
    check_ids(column, ids, count, rows.place)
    return ids


def _classes(
    rows: _Joined, column: str, home: Path, warnings: list[str]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the verbs or nouns, and the id (N,) of each row."""
    cells, are_ids = _ids_or_names(rows, column)
    path = _class_file(home, column)
    names = None if path is None else read_class_names(path, "id", "name")
    if are_ids:
        ids = _checked_ids(rows, column, cells, MAX_CLASSES if names is None else len(names))
        if names is None:
            warnings.append(
                f"no {CLASS_FILES[column]} (id,name): each {column} is called by its id"
            )
            names = tuple(f"{column} {number}" for number in range(int(ids.max()) + 1))
        return names, ids
    names = names or tuple(sorted(set(cells)))
    return names, _ids_of(rows, column, cells, names)


def _ids_of(
    rows: _Joined, column: str, cells: list[str], names: tuple[str, ...]
) -> NDArray[np.int64]:
    known = {name: number for number, name in enumerate(names)}
    for row, cell in enumerate(cells):
        if cell not in known:
            raise BadAnnotations(
                f"unknown {column}",
                where=rows.place(row),
                expected=f"a name of {CLASS_FILES[column]}",
                found=repr(cell[:SHOWN]),
            )
    return np.asarray([known[cell] for cell in cells], dtype=np.int64)


def _given_actions(
    rows: _Joined, verb: NDArray[np.int64], noun: NDArray[np.int64]
) -> tuple[Actions, NDArray[np.int64]]:
    """Actions from a column of their own: each must always have the same verb and noun."""
    cells, are_ids = _ids_or_names(rows, "action")
    if are_ids:
        ids = _checked_ids(rows, "action", cells, MAX_CLASSES)
        names = tuple(f"action {number}" for number in range(int(ids.max()) + 1))
    else:
        names = tuple(sorted(set(cells)))
        known = {name: number for number, name in enumerate(names)}
        ids = np.asarray([known[cell] for cell in cells], dtype=np.int64)
    pairs: dict[int, tuple[int, int]] = {}
    found = zip(ids.tolist(), verb.tolist(), noun.tolist(), strict=True)
    for row, (number, *pair) in enumerate(found):
        first = pairs.setdefault(number, (pair[0], pair[1]))
        if first != (pair[0], pair[1]):
            raise BadAnnotations(
                f"{cells[row][:SHOWN]!r} had another verb or noun before",
                where=rows.place(row),
                expected=f"verb {first[0]}, noun {first[1]}",
                found=f"verb {pair[0]}, noun {pair[1]}",
            )
    unused = sorted(set(range(len(names))) - pairs.keys())
    if unused:
        raise BadAnnotations(
            "action ids have gaps, so that an action would have no verb and noun",
            where=rows.tables[0].path,
            found=f"no segment of action {unused[0]}",
            hint="leave the column out, and actions are the pairs of verb and noun",
        )
    verbs, nouns = zip(*(pairs[number] for number in range(len(names))), strict=True)
    return Actions(names=names, verbs=verbs, nouns=nouns), ids


def _splits(
    whole: Part, rows: _Joined, fraction: float | None
) -> tuple[dict[str, Part], list[str]]:
    """The splits, and what is to be said of them."""
    one = len(rows.tables) == 1 and "split" not in rows.tables[0].columns
    if fraction is not None:
        if not one:
            raise BadConfig(
                "the tables have splits already",
                where=rows.tables[0].path.parent,
                expected="one file without a column 'split'",
                found=", ".join(table.path.name for table in rows.tables),
                hint="leave --split-by-video out",
            )
        parts, drawn = by_video(whole, fraction)
        return parts, [drawn]
    homes = [
        table.columns["split"][inner] if "split" in table.columns else table.path.stem
        for table, inner in rows.origin
    ]
    parts, said = named_splits(whole, homes)
    if not one:
        return parts, said
    return parts, [
        f"{rows.tables[0].path.name} is one split, {next(iter(parts))!r}; --split-by-video 0.2 "
        "makes a fifth of its videos the split 'validation' and the others 'train'"
    ]
