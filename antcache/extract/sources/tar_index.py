"""Where the files in a plain tar lie: read from its headers, nothing is unpacked.

Promise: one pass over the headers, of bounded memory whatever they say, that ends; the contents are
passed over by seeking. What is no file of its own (a link, a device, a file with holes), a name
that leads out of the archive, and an archive that breaks off, are refused in one line.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from antcache.errors import UnreadableVideo

BLOCK = tarfile.BLOCKSIZE
END = bytes(BLOCK)
LONGEST = 1 << 20
"""Bytes of a header behind a header: names in it have at most some thousand."""
TAIL = 1 << 20
"""Bytes at the end in which the last member begins, if it can be told cheaply."""


class TarHeader(NamedTuple):
    """What the block before a member says of it, as far as it matters here."""

    name: str
    size: int
    kind: bytes


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
    size = path.stat().st_size
    with path.open("rb") as file:
        at, number, name, stated = 0, 0, "", -1
        while (head := file.read(BLOCK)) != END:
            if number and len(head) < BLOCK:
                raise UnreadableVideo(
                    "a tar that breaks off",
                    where=path,
                    expected="a mark at its end",
                    found=f"{number} headers",
                    hint="copy it again",
                )
            number += 1
            member = _header(head, path, number)
            more = member.kind in (tarfile.GNUTYPE_LONGNAME, *PAX)
            length = member.size if more or stated < 0 else stated
            begin = at + BLOCK
            if length < 0 or begin + length > size:
                raise UnreadableVideo(
                    "a tar that breaks off",
                    where=path,
                    expected=f"{length} bytes of {member.name[:80]!r}",
                    found=max(0, size - begin),
                    hint="copy it again",
                )
            at = begin + -(-length // BLOCK) * BLOCK
            if more:
                text = _more(file, length, path)
                if member.kind == tarfile.GNUTYPE_LONGNAME:
                    name = _text(text.rstrip(b"\0"))
                elif member.kind != tarfile.XGLTYPE:
                    name, stated = _pax(text, name, stated, path)
            else:
                _check(member, name or member.name, path)
                if member.kind in FILES:
                    yield name or member.name, Span(begin, length)
                name, stated = "", -1
            file.seek(at)


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
            with suppress(ValueError):
                member = header_of(tail[at : at + BLOCK])
                if member.kind in FILES:
                    yield member.name


PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
"""Headers of more facts, of the next member or of all."""
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
"""Members that are files."""
REFUSED = {
    tarfile.SYMTYPE: "a link",
    tarfile.LNKTYPE: "a link",
    tarfile.GNUTYPE_SPARSE: "a file with holes",
    tarfile.CHRTYPE: "a device or pipe",
    tarfile.BLKTYPE: "a device or pipe",
    tarfile.FIFOTYPE: "a device or pipe",
}
"""Members that may not be, in words."""


def header_of(block: bytes) -> TarHeader:
    """What a block says as a header (POSIX.1-1988 ustar, and GNU's); of all its fields only those
    that matter, for there are as many headers as frames.

    Raises:
        ValueError: it is none.
    """
    if len(block) < BLOCK:
        raise ValueError("cut off" if block else "empty")
    # The sum of the bytes, those of the sum itself taken for blanks.
    if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise ValueError("its sum is not that of its bytes")
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == tarfile.POSIX_MAGIC[:6]:
        folder = block[345:500].partition(b"\0")[0]
        name = folder + b"/" + name if folder else name
    kind = block[156:157]
    if kind == tarfile.AREGTYPE and name.endswith(b"/"):
        kind = tarfile.DIRTYPE
    return TarHeader(_text(name), _number(block[124:136]), kind)


def _number(field: bytes) -> int:
    if field[0] == 0x80:  # GNU's, of large ones
        return int.from_bytes(field[1:])
    return int(field.strip(b" \0") or b"0", 8)


def _header(head: bytes, path: Path, number: int) -> TarHeader:
    try:
        return header_of(head)
    except ValueError as error:
        raise UnreadableVideo(
            "not a plain tar" if number == 1 else "a damaged tar",
            where=path,
            found=f"header {number}: {error}",
            hint="unpack it, if it is compressed" if number == 1 else "copy it again",
        ) from error


def _more(file: BinaryIO, length: int, path: Path) -> bytes:
    if length > LONGEST:
        raise UnreadableVideo("a header of impossible length", where=path, found=length)
    return file.read(length)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _pax(raw: bytes, name: str, stated: int, path: Path) -> tuple[str, int]:
    """Name and size of the next member, as records `LENGTH KEY=VALUE` say them."""
    at = 0
    while at < len(raw):
        digits, blank, _ = raw[at : at + 9].partition(b" ")
        length = int(digits) if blank and digits.isdigit() else 0
        record = raw[at + len(digits) + 1 : at + length]
        key, equals, value = record.rstrip(b"\n").partition(b"=")
        sized = key == b"size"
        if not equals or (sized and not (value.isdigit() and len(value) < 19)):
            raise UnreadableVideo("a damaged tar", where=path, found="a pax header of no form")
        if key.startswith(b"GNU.sparse."):
            raise UnreadableVideo("a tar of files with holes", where=path, hint="unpack it")
        name = _text(value) if key == b"path" else name
        stated = int(value) if sized else stated
        at += length
    return name, stated


def _check(member: TarHeader, name: str, path: Path) -> None:
    """Refuse what is no file of its own, and whose name leads elsewhere."""
    wrong = REFUSED.get(member.kind, "")
    if name.startswith("/") or ".." in name.split("/"):
        wrong = wrong or "a path out of the archive"
    if wrong:
        raise UnreadableVideo(
            f"{wrong} in a tar of pictures", where=path, expected="files", found=name[:200]
        )
