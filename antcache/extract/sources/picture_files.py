"""Where the numbered pictures of a video lie: in a folder, or in a tar.

Promise: looked through once; each picture is then read by itself, at its place, and nothing is
unpacked to a disk. A pipe or a device in place of a picture is not waited for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Protocol

from antcache.errors import UnreadableVideo
from antcache.extract.sources.decoding import MAX_BYTES
from antcache.extract.sources.numbering import NUMBERED, by_number
from antcache.extract.sources.tar_index import Span, last_names, members
from antcache.extract.videos.containers import ARCHIVES

LOOKED_AT = 100
"""Members among which the first picture of a tar is looked for, to tell how long it is."""


class PictureFiles(Protocol):
    """The pictures of one video."""

    @property
    def numbers(self) -> Iterable[int]:
        """Of its pictures."""

    def read(self, number: int) -> tuple[bytes, str]:
        """The bytes of the file of that number, and where it lies, for messages.

        Raises:
            UnreadableVideo: it is gone, too long, or no file.
        """


def open_pictures(path: Path) -> PictureFiles:
    """Look through a folder or tar of pictures.

    Raises:
        UnreadableVideo: there are none, or it can't be told which is which.
    """
    try:
        return _InTar(path) if is_tar(path) else _InFolder(path)
    except OSError as error:
        if isinstance(error, UnreadableVideo):
            raise
        raise UnreadableVideo("can't be read", where=path, found=error.strerror) from error


def ends(path: Path) -> tuple[int, int] | None:
    """The first and the last number of a video's pictures, if these can be told cheaply: of a tar
    whose numbers have leading zeros, and are therefore in order."""
    try:
        if not is_tar(path):
            numbers = _InFolder(path).numbers
            return min(numbers), max(numbers)
        first = _first_digits(name for name, _ in islice(members(path), LOOKED_AT))
        last = _first_digits(last_names(path))
    except OSError:  # whoever reads it says why
        return None
    return (int(first), int(last)) if first and len(first) == len(last) else None


def _first_digits(names: Iterable[str]) -> str:
    """The number of the first name that has one, as it is written."""
    found = (NUMBERED.fullmatch(name.rpartition("/")[2]) for name in names)
    return next((match[2] for match in found if match), "")


def is_tar(path: Path) -> bool:
    """Whether pictures are packed, by what it is called and is."""
    return path.suffix.lower() in ARCHIVES and not path.is_dir()


class _InFolder:
    def __init__(self, path: Path) -> None:
        self._path = path
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries]
        self._names = by_number(((name, name) for name in sorted(names)), path)

    @property
    def numbers(self) -> Iterable[int]:
        return self._names

    def read(self, number: int) -> tuple[bytes, str]:
        path = self._path / self._names[number]
        try:
            state = path.stat()
            if not stat.S_ISREG(state.st_mode):
                raise UnreadableVideo("not a file", where=path)
            _check_size(state.st_size, str(path))
            return path.read_bytes(), str(path)
        except OSError as error:
            if isinstance(error, UnreadableVideo):
                raise
            raise UnreadableVideo("can't be read", where=path, found=error.strerror) from error


class _InTar:
    def __init__(self, path: Path) -> None:
        self._path = path
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableVideo("not a file", where=path)
        self._spans: dict[int, tuple[str, Span]] = by_number(
            ((name, (name, span)) for name, span in members(path)), path
        )

    @property
    def numbers(self) -> Iterable[int]:
        return self._spans

    def read(self, number: int) -> tuple[bytes, str]:
        name, span = self._spans[number]
        where = f"{self._path}: {name}"
        _check_size(span.size, where)
        try:
            with self._path.open("rb") as file:
                file.seek(span.offset)
                return file.read(span.size), where
        except OSError as error:
            raise UnreadableVideo("can't be read", where=where, found=error.strerror) from error


def _check_size(size: int, where: str) -> None:
    if size > MAX_BYTES:
        raise UnreadableVideo(
            "too long for a picture", where=where, expected=f"at most {MAX_BYTES} bytes", found=size
        )
