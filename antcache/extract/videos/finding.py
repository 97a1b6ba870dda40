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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from antcache.errors import AntcacheError, BadConfig
from antcache.extract.shards import VideoShard
from antcache.extract.sources.numbering import is_numbered
from antcache.extract.videos.containers import ARCHIVES, CONTAINERS
from antcache.extract.videos.source import VideoSource
from antcache.store.format import video_name
from antcache.store.location import Location

SUFFIXES = tuple(f".{ending}" for endings in CONTAINERS.values() for ending in endings.split())
"""Endings by which videos are found in a folder, in any case."""

LISTED = 6
"""Endings that are named among those passed over."""

Video = Path | VideoSource
"""A file, or another source of frames."""
OfPictures = Callable[[str, Path], VideoSource]
"""Makes the source of a name and the folder or archive of its pictures; raises `BadConfig`."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What may be a video, or hold some, but can't go into a store.

    Attributes:
        name: what it would be called; of what is or may be a folder, its own name and a slash.
        path: where it lies.
        error: why, and what to do.
    """

    name: str
    path: Location
    error: AntcacheError


class Videos(dict[str, Video]):
    """Videos by name, as they were found.

    Attributes:
        refused: what can't go into a store, each file by itself.
        passed_over: what else lies there, in one line; empty if nothing does.
        is_one: whether one video was asked for, and no folder or list of some.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[Refused] = []
        self.passed_over = ""
        self.is_one = False
        self._clashing: dict[str, Video] = {}  # the first of each name that is refused

    def add(self, text: str, video: Video) -> None:
        """Add a video under its name, unless it is refused."""
        path = path_of(video)
        try:
            name = video_name(text)
        except BadConfig as error:
            self.refuse(text, path, BadConfig(f"{error}; rename it", where=path))
            return
        first = self._clashing.get(name) or self.get(name)
        if first is None:
            self[name] = video
        elif not _same(video, first):
            if self.pop(name, None):
                self._clashing[name] = first
                self._refuse_twin(name, path_of(first), path)
            self._refuse_twin(name, path, path_of(first))

    def refuse(self, name: str, path: Location, error: AntcacheError) -> None:
        """List what can't go into a store."""
        self.refused.append(Refused(name=name, path=path, error=error))

    def _refuse_twin(self, name: str, path: Location, other: Location) -> None:
        wrong = BadConfig(
            f"two videos are called {name!r}",
            where=path.rpartition("/")[0] if isinstance(path, str) else path.parent,
            found=f"{path} and {other}",
            hint="names must differ, since rows are found by them; rename one",
        )
        self.refuse(name, path, wrong)


def refused_of(videos: Mapping[str, object], shard: VideoShard | None = None) -> list[Refused]:
    """What was refused beside these videos; of a shard, its part of it, so that each is reported
    by one process."""
    refused = videos.refused if isinstance(videos, Videos) else []
    if shard is None:
        return refused
    return shard.part(refused, by=lambda each: (each.name, os.fsencode(each.path)))


def path_of(video: Video) -> Location:
    """Where a video lies."""
    return video if isinstance(video, Path) else video.path


class FolderSearch:
    """Looks through folders; each is entered once.

    Args:
        found: where videos go.
        of_pictures: makes videos of folders and tars of pictures; None: these are no videos.

    Attributes:
        others: how many of which kind are no video.
    """

    def __init__(self, found: Videos, of_pictures: OfPictures | None = None) -> None:
        self.others: Counter[str] = Counter()
        self._found = found
        self._of_pictures = of_pictures
        self._entered: set[tuple[int, int]] = set()

    def look_into(self, root: Path) -> None:
        """Add what is in a folder and those below it, sorted by path; count what is no video."""
        above = (_identity(each) for each in (root, *root.resolve().parents))
        self._entered |= {each for each in above if each}
        self._folder(root)

    def add_pictures(self, path: Path) -> None:
        """Add a folder or a tar of pictures."""
        assert self._of_pictures is not None
        real = path.resolve() if path.name in ("", "..") else path  # "." is called something
        name = real.stem if real.suffix.lower() in ARCHIVES else real.name
        try:
            self._found.add(name, self._of_pictures(name, path))
        except AntcacheError as error:
            self._found.refuse(name, path, error)

    def _folder(self, folder: Path) -> None:
        try:
            (folder / "..").stat()  # fails where names may be listed, but nothing be looked at
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries]
        except OSError as error:
            self._refuse(folder, f"a folder that can't be read ({error.strerror})")
            return
        if self._of_pictures is not None:  # of which there may be a million
            others = [name for name in names if not is_numbered(name)]
            if len(others) < len(names):
                self.add_pictures(folder)
            names = others
        for name in sorted(names):
            if name.startswith("."):
                self.others["hidden"] += 1
            else:
                self._entry(folder / name)

    def _entry(self, entry: Path) -> None:
        shut = _shut(entry)
        ending = entry.suffix.lower()
        if ending in SUFFIXES:
            self._found.add(entry.stem, entry)
        elif shut:
            self._refuse(entry, f"what may not be looked at ({shut})")
        elif not entry.is_dir():
            if self._of_pictures is not None and ending in ARCHIVES:
                self.add_pictures(entry)
            else:
                self.others[ending or "no ending"] += 1
        identity = None if shut or not entry.is_dir() else _identity(entry)
        if identity is None:
            return
        if identity in self._entered:
            self.others["links to folders that are searched anyway, or lead out"] += 1
        else:
            self._entered.add(identity)
            self._folder(entry)

    def _refuse(self, path: Path, why: str) -> None:
        self._found.refuse(f"{path.name}/", path, BadConfig(why, where=path))


def line_of(others: Counter[str]) -> str:
    """What was passed over, the most frequent first."""
    kinds = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{count} {kind}" for kind, count in kinds[:LISTED]]
    rest = sum(count for _, count in kinds[LISTED:])
    return ", ".join([*said, *([f"{rest} others"] if rest else [])])


def _shut(path: Path) -> str:
    """Why what is at `path` may not even be looked at; empty if it may, or nothing is there."""
    try:
        path.is_dir()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _same(video: Video, other: Video) -> bool:
    """Whether two videos lie in one place."""
    path, beside = path_of(video), path_of(other)
    if isinstance(path, str) or isinstance(beside, str):
        return video == other
    return (identity := _identity(path)) is not None and identity == _identity(beside)


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells one file or folder from all others; None where it can't be known."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino
