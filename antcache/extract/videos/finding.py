"""Which files of a folder are videos, and by which names.

Promise: nothing is left out in silence. A file whose name can't be one in a store, or is that of
another one, is refused by itself, with a remedy, and so is what may not be looked at; what is no
video by its ending is counted. Linked folders are entered, each folder once, so that links which
lead round in a circle end. Names are in Unicode's composed form (NFC), as tables have them,
whatever the disk says.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from antcache.errors import BadConfig, NotFound
from antcache.extract.videos.containers import CONTAINERS, FRAMES, PICTURES
from antcache.extract.videos.shards import VideoShard
from antcache.store.format import video_name

SUFFIXES = tuple(f".{ending}" for endings in CONTAINERS.values() for ending in endings.split())
"""Endings by which videos are found in a folder, in any case."""

LISTED = 6
"""Endings that are named among those passed over."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What may be a video, or hold some, but can't go into a store.

    Attributes:
        name: what it would be called; of what is or may be a folder, its own name and a slash.
        path: where it lies.
        error: why, and what to do.
    """

    name: str
    path: Path
    error: BadConfig


class Videos(dict[str, Path]):
    """Videos by name, as they were found.

    Attributes:
        refused: what can't go into a store, each file by itself.
        passed_over: what else lies there, in one line; empty if nothing does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[Refused] = []
        self.passed_over = ""


def refused_of(videos: Mapping[str, object], shard: VideoShard | None = None) -> list[Refused]:
    """What was refused beside these videos; of a shard, its part of it, so that each is reported
    by one process."""
    refused = videos.refused if isinstance(videos, Videos) else []
    if shard is None:
        return refused
    return shard.part(refused, by=lambda each: (each.name, os.fsencode(each.path)))


def find_videos(path: str | Path) -> Videos:
    """Videos by name: a file, or all in a folder and its subfolders; the name is the file's stem.

    Hidden files and folders are passed over. A folder whose own name ends like a video's counts as
    one, so that it is reported rather than ignored.

    Raises:
        NotFound: there is nothing at `path`, or no video in it.
        BadConfig: none of the videos can go into a store.
    """
    path = Path(path)
    found = Videos()
    others: Counter[str] = Counter()
    if path.is_dir():
        _look_into(path, found, others)
    elif os.path.lexists(path):
        _add(path, found, {})
    if not found and not found.refused:
        frames = sum(others[ending] for ending in PICTURES)
        raise NotFound(
            "no videos here" if os.path.lexists(path) else "no such file or folder",
            where=path,
            expected=f"a video, or a folder with {' '.join(SUFFIXES)} files",
            found=_line(others),
            hint=FRAMES if frames else "",
        )
    if not found:
        raise found.refused[0].error
    if others:
        found.passed_over = f"{path}: passed over {_line(others)}"
    return found


def _look_into(root: Path, found: Videos, others: Counter[str]) -> None:
    """Add what is in a folder; count what is no video."""
    above = (_identity(each) for each in (root, *root.resolve().parents))
    clashing: dict[str, Path] = {}
    for file in _walk(root, {each for each in above if each}, found, others):
        if file.suffix.lower() in SUFFIXES:
            _add(file, found, clashing)
        elif why := _shut(file):
            _refuse(found, f"{file.name}/", file, f"what may not be looked at ({why})")
        elif not file.is_dir():
            others[file.suffix.lower() or "no ending"] += 1


def _walk(
    folder: Path, entered: set[tuple[int, int]], found: Videos, others: Counter[str]
) -> Iterator[Path]:
    """All that is in a folder and those below it, sorted by path; none is entered twice."""
    try:
        (folder / "..").stat()  # fails where names may be listed, but nothing be looked at
        entries = sorted(folder.iterdir())
    except OSError as error:
        why = f"a folder that can't be read ({error.strerror})"
        _refuse(found, f"{folder.name}/", folder, why)
        return
    for entry in entries:
        if entry.name.startswith("."):
            others["hidden"] += 1
            continue
        yield entry
        identity = None if _shut(entry) or not entry.is_dir() else _identity(entry)
        if identity is None:
            continue
        if identity in entered:
            others["links to folders that are searched anyway, or lead out"] += 1
        else:
            entered.add(identity)
            yield from _walk(entry, entered, found, others)


def _shut(path: Path) -> str:
    """Why what is at `path` may not even be looked at; empty if it may, or nothing is there."""
    try:
        path.is_dir()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells one file or folder from all others; None where it can't be known."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _add(file: Path, found: Videos, clashing: dict[str, Path]) -> None:
    """Add a file under its name, unless it is refused; `clashing` has the first of each refused."""
    try:
        name = video_name(file.stem)
    except BadConfig as error:
        _refuse(found, file.stem, file, f"{error}; rename it")
        return
    first = clashing.get(name) or found.get(name)
    if first is None:
        found[name] = file
    elif (identity := _identity(file)) is None or identity != _identity(first):
        if found.pop(name, None):
            clashing[name] = first
            _refuse_twin(found, name, first, file)
        _refuse_twin(found, name, file, first)


def _refuse(found: Videos, name: str, path: Path, why: str) -> None:
    found.refused.append(Refused(name=name, path=path, error=BadConfig(why, where=path)))


def _refuse_twin(found: Videos, name: str, path: Path, other: Path) -> None:
    wrong = BadConfig(
        f"two videos are called {name!r}",
        where=path.parent,
        found=f"{path} and {other}",
        hint="names must differ, since rows are found by them; rename one",
    )
    found.refused.append(Refused(name=name, path=path, error=wrong))


def _line(others: Counter[str]) -> str:
    """What was passed over, the most frequent first."""
    kinds = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{count} {kind}" for kind, count in kinds[:LISTED]]
    rest = sum(count for _, count in kinds[LISTED:])
    return ", ".join([*said, *([f"{rest} others"] if rest else [])])
