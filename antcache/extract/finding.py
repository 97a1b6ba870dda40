"""Which files of a folder are videos, and by which names.

Promise: nothing is left out in silence. A file whose name can't be one in a store, or is that of
another one, is refused by itself, with a remedy; what is no video by its ending is counted. Linked
folders are entered, each folder once, so that links which lead round in a circle end. Names are in
Unicode's composed form (NFC), as tables have them, whatever the disk says.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from antcache.errors import BadConfig, NotFound
from antcache.extract.containers import CONTAINERS
from antcache.store.format import video_name

SUFFIXES = tuple(f".{ending}" for endings in CONTAINERS.values() for ending in endings.split())
"""Endings by which videos are found in a folder, in any case."""

PICTURES = (".jpg", ".jpeg", ".png", ".tar", ".zip")
"""Endings of frames, in folders or packed, as datasets offer them beside videos."""

FRAMES = (
    "frames are not read, for they say no times: make a video of each folder, at the rate at which "
    "they were taken: ffmpeg -framerate RATE -i frame_%010d.jpg NAME.mp4"
)
LISTED = 6
"""Endings that are named among those passed over."""


class Videos(dict[str, Path]):
    """Videos by name, as they were found.

    Attributes:
        refused: by name, files that may be videos but can't go into a store, and why.
        passed_over: what else lies there, in one line; empty if nothing does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, tuple[Path, BadConfig]] = {}
        self.passed_over = ""


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
        _add(path, found)
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
        raise next(iter(found.refused.values()))[1]
    if others:
        found.passed_over = f"{path}: passed over {_line(others)}"
    return found


def _look_into(root: Path, found: Videos, others: Counter[str]) -> None:
    """Add what is in a folder; count what is no video."""
    entered = {_identity(each) for each in (root, *root.resolve().parents)}
    for file in _walk(root, entered, found, others):
        if file.suffix.lower() in SUFFIXES:
            _add(file, found)
        elif not file.is_dir():
            others[file.suffix.lower() or "no ending"] += 1


def _walk(
    folder: Path, entered: set[tuple[int, int]], found: Videos, others: Counter[str]
) -> Iterator[Path]:
    """All that is in a folder and those below it, sorted by path; none is entered twice."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        wrong = BadConfig("a folder that can't be read", where=folder, found=error.strerror)
        found.refused[folder.name] = (folder, wrong)
        return
    for entry in entries:
        if entry.name.startswith("."):
            others["hidden"] += 1
            continue
        yield entry
        if not entry.is_dir():
            continue
        if (identity := _identity(entry)) in entered:
            others["links to folders that are searched anyway, or lead out"] += 1
        else:
            entered.add(identity)
            yield from _walk(entry, entered, found, others)


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino


def _add(file: Path, found: Videos) -> None:
    """Add a file under its name, unless it is refused."""
    try:
        name = video_name(file.stem)
    except BadConfig as error:
        found.refused[file.stem] = (file, BadConfig(f"{error}; rename it", where=file))
        return
    if name in found.refused:
        return
    if name not in found:
        found[name] = file
    elif not _same(file, found[name]):
        wrong = BadConfig(
            f"two videos are called {name!r}",
            where=file.parent,
            found=f"{found.pop(name)} and {file}",
            hint="names must differ, since rows are found by them; rename one",
        )
        found.refused[name] = (file, wrong)


def _same(one: Path, other: Path) -> bool:
    """Whether two names lead to one file."""
    return one.exists() and other.exists() and one.samefile(other)


def _line(others: Counter[str]) -> str:
    """What was passed over, the most frequent first."""
    kinds = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{count} {kind}" for kind, count in kinds[:LISTED]]
    rest = sum(count for _, count in kinds[LISTED:])
    return ", ".join([*said, *([f"{rest} others"] if rest else [])])
