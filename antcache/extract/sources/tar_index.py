"""Where the files in a plain tar lie: read from its headers by the standard library's `tarfile`.

Promise: nothing is unpacked, and no member is kept once it is told. What is no file of its own (a
link, a device, a file with holes), a name that leads out of the archive, and an archive that breaks
off, are refused in one line.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from antcache.errors import UnreadableVideo

BLOCK = tarfile.BLOCKSIZE
TAIL = 1 << 20
"""Bytes at the end in which the last member begins, if it can be told cheaply."""
NAMES = ("utf-8", "surrogateescape")

WRONG = (tarfile.TarError, ValueError, OverflowError, MemoryError, RecursionError, EOFError)
"""What `tarfile` raises at headers that make no sense."""


@dataclass(frozen=True)
class Span:
    """Where the contents of a member lie in the archive."""

    offset: int
    size: int


def members(path: Path) -> Iterator[tuple[str, Span]]:
    """The files in a tar, by their names.

    Raises:
        UnreadableVideo: it is no plain tar, is cut off, or holds what may not be.
    """
    size, end = path.stat().st_size, -1
    with _opened(path) as tar:
        while (member := _next(tar, path)) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # else it keeps all that it gave
            _check(member, path)
            length = member.size if member.isreg() else 0
            if member.size < 0 or tar.offset <= end or member.offset_data + length > size:
                raise _broken(path, f"{member.name[:80]!r}")
            end = tar.offset
            if member.isreg():
                yield member.name, Span(member.offset_data, member.size)
        end = tar.offset  # where it has stopped, for whatever reason
    with path.open("rb") as file:
        file.seek(end)
        if file.read(BLOCK) != bytes(BLOCK):
            raise _broken(path, f"no mark of an end at byte {end}")


def last_names(path: Path) -> Iterator[str]:
    """Names of the last files in a tar, from its end on, as far as they are told by a look there.

    Nothing is promised of them: what lies in a file may look like a header.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL) // BLOCK * BLOCK)
        tail = file.read(2 * TAIL)
    for at in range(len(tail) // BLOCK * BLOCK - BLOCK, -1, -BLOCK):
        if tail[at + 257 : at + 262] == b"ustar":
            with suppress(*WRONG):
                member = tarfile.TarInfo.frombuf(tail[at : at + BLOCK], *NAMES)
                if member.isreg():
                    yield member.name


def _opened(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:", encoding=NAMES[0], errors=NAMES[1])
    except WRONG as error:
        raise UnreadableVideo(
            "not a plain tar",
            where=path,
            found=str(error),
            hint="unpack it, if it is compressed",
        ) from error


def _next(tar: tarfile.TarFile, path: Path) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except WRONG as error:
        raise _broken(path, str(error)) from error


def _broken(path: Path, found: str) -> UnreadableVideo:
    return UnreadableVideo(
        "a tar that breaks off or is damaged", where=path, found=found, hint="copy it again"
    )


def _check(member: tarfile.TarInfo, path: Path) -> None:
    """Refuse what is no file of its own, and whose name leads elsewhere."""
    wrong = ""
    if member.issym() or member.islnk():
        wrong = "a link"
    elif member.isdev():
        wrong = "a device or pipe"
    elif member.issparse() or any(key.startswith("GNU.sparse.") for key in member.pax_headers):
        wrong = "a file with holes"
    elif member.name.startswith("/") or ".." in member.name.split("/"):
        wrong = "a path out of the archive"
    if wrong:
        raise UnreadableVideo(
            f"{wrong} in a tar of pictures", where=path, expected="files", found=member.name[:200]
        )
