"""Reads the pages of an LMDB by code of our own: its keys in their order, and their values.

Promise: liblmdb believes every page, so that a damaged or hostile one ends the process or is walked
for ever. Here whatever is wrong with one is a `BadConfig`: every page must be in the file and of
the kind that leads to it, every key above the one before, and their number as stated. Memory holds
a page for each level. The file is read without mapping it, and is never locked or written.

Covered is what liblmdb 0.9 writes on 64-bit little-endian machines (`mdb.c` of OpenLDAP): the main
database, without duplicate keys.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from antcache.errors import BadConfig, NotFound
from antcache.untrusted import NotFetched, check_fetched

DATA_FILE = "data.mdb"
"""What the file is called in an LMDB that is a folder."""

MAGIC, VERSION = 0xBEEFC0DE, 1
NONE = (1 << 64) - 1
"""Number of the root of an LMDB without keys."""

META = struct.Struct("<10xH 4xII 16x I44x 4xHH24xQQ QQ".replace(" ", ""))
"""Of pages 0 and 1: flags; magic, version; page size (free list); flags, depth, keys, root (main
database); last page, transaction."""
HEAD = struct.Struct("<Q2xHHH")
"""Of every page: its number, flags, lower and upper end of the free space."""
NODE = struct.Struct("<HHHH")
"""In front of a key: low and high half of the size of its value (or of the number of a page, which
goes on in the flags), flags, size of the key."""

BRANCH, LEAF, OVERFLOW, META_PAGE, FIXED = 1, 2, 4, 8, 32
"""Kinds of pages."""
BIG = 1
"""Flag of a node: its value lies on pages of its own."""
NAMED = 2
"""Flag of a node: its value is a database, of which an LMDB may have several with names."""


class Node(NamedTuple):
    """A key of a leaf, and where its value lies.

    Attributes:
        key: the key.
        size: of the value in bytes.
        near: the value, if it lies on the leaf; else the number (8 bytes) of its page.
        big: whether it lies on pages of its own.
    """

    key: bytes
    size: int
    near: bytes
    big: bool


class LmdbPages:
    """An LMDB that is open for reading; use `open_lmdb`.

    Attributes:
        path: its file.
        num_keys: how many keys it states; `nodes()` has as many, or raises.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle
        self._page_bytes, self._depth, self.num_keys, self._root, last = self._meta()
        size = os.fstat(handle).st_size
        if size < (last + 1) * self._page_bytes:
            raise BadConfig(
                "the LMDB is cut off",
                where=path,
                expected=f"{(last + 1) * self._page_bytes} bytes",
                found=size,
                hint="it was not copied or downloaded completely",
            )
        self._last = last

    def nodes(self, first: bytes = b"") -> Iterator[Node]:
        """The keys from `first` on, ascending.

        Raises:
            BadConfig: a page is damaged.
        """
        before, count = None, 0
        levels = [iter([] if self._root == NONE else [self._root])]
        while levels:
            number = next(levels[-1], None)
            if number is None:
                levels.pop()
                continue
            page, pointers = self._page(number, LEAF if len(levels) == self._depth else BRANCH)
            if len(levels) < self._depth:
                levels.append(iter(self._children(number, page, pointers, first)))
                continue
            for pointer in pointers:
                node = self._leaf(number, page, pointer)
                if before is not None and node.key <= before:
                    raise self._damaged(number, "keys that do not ascend")
                before = node.key
                count += 1
                if node.key >= first:
                    yield node
        if not first and count != self.num_keys:
            raise self._damaged(self._root, f"{count} keys, not {self.num_keys} as stated")

    def value(self, node: Node) -> bytes:
        """The value of a key.

        Raises:
            BadConfig: its page is damaged.
        """
        if not node.big:
            return node.near
        number = int.from_bytes(node.near, "little")
        if not 2 <= number <= self._last:
            raise self._damaged(number, "no such page")
        data = self._read(HEAD.size + node.size, number)
        own, flags, low, high = HEAD.unpack_from(data)
        room = (low | high << 16) * self._page_bytes
        if own != number or flags & OVERFLOW == 0 or room < len(data):
            raise self._damaged(number, "not the pages of a value")
        return data[HEAD.size :]

    def _meta(self) -> tuple[int, int, int, int, int]:
        """Page size, depth, keys, root and last page: of the younger of two meta pages."""
        found = []
        offset = 0
        for _ in range(2):
            data = os.pread(self._handle, META.size, offset)
            if len(data) == META.size:
                flags, magic, version, size, own, depth, keys, root, last, turn = META.unpack(data)
                if magic == MAGIC and flags & META_PAGE:
                    found.append((turn, version, size, own, depth, keys, root, last))
                    offset = size
        if not found:
            raise BadConfig("can't be opened as an LMDB", where=self.path, found=_look(data))
        _, version, size, own, depth, keys, root, last = max(found)
        for wrong, what in (
            (version != VERSION, f"version {version}"),
            (size not in (1 << k for k in range(9, 17)), f"pages of {size} bytes"),
            (own != 0, f"keys of another kind (flags {own:#x})"),
            (not (depth <= 32 and (depth > 0) == (root != NONE)), f"{depth} levels"),
            (last > 1 << 48, f"{last} pages"),
        ):
            if wrong:
                raise BadConfig(
                    "an LMDB that is not read",
                    where=self.path,
                    expected="plain keys, as liblmdb 0.9 writes them",
                    found=what,
                )
        return size, depth, keys, root, last

    def _read(self, length: int, number: int) -> bytes:
        """The first `length` bytes of a page and what follows it."""
        try:
            data = os.pread(self._handle, length, number * self._page_bytes)
        except OSError as error:
            raise BadConfig(f"can't be read ({error.strerror})", where=self.path) from error
        if len(data) < length:
            raise self._damaged(number, "it goes on behind the end of the file")
        return data

    def _page(self, number: int, kind: int) -> tuple[bytes, tuple[int, ...]]:
        """A page of the tree, and where its nodes begin."""
        if not 2 <= number <= self._last:
            raise self._damaged(number, "no such page")
        page = self._read(self._page_bytes, number)
        own, flags, lower, upper = HEAD.unpack_from(page)
        count, rest = divmod(lower - HEAD.size, 2)
        if own != number or flags & (BRANCH | LEAF | OVERFLOW | META_PAGE | FIXED) != kind:
            raise self._damaged(number, f"flags {flags:#x}, page {own}")
        if rest or count < 1 or not lower <= upper <= self._page_bytes:
            raise self._damaged(number, f"free space from {lower} to {upper}")
        pointers = struct.unpack_from(f"<{count}H", page, HEAD.size)
        if min(pointers) < upper or max(pointers) > self._page_bytes - NODE.size:
            raise self._damaged(number, "an entry outside the page")
        return page, pointers

    def _children(
        self, number: int, page: bytes, pointers: tuple[int, ...], first: bytes
    ) -> list[int]:
        """Pages below a branch that may hold keys from `first` on."""
        children: list[int] = []
        for pointer in pointers:
            low, high, top, length = NODE.unpack_from(page, pointer)
            begin = pointer + NODE.size
            if begin + length > len(page):
                raise self._damaged(number, "a key outside the page")
            if children and page[begin : begin + length] <= first:
                children.clear()  # all keys before this child are below `first`
            children.append(low | high << 16 | top << 32)
        return children

    def _leaf(self, number: int, page: bytes, pointer: int) -> Node:
        low, high, flags, length = NODE.unpack_from(page, pointer)
        begin = pointer + NODE.size
        middle = begin + length
        size = low | high << 16
        end = middle + (8 if flags & BIG else size)
        if flags & NAMED and length and end <= len(page):
            raise BadConfig(
                "the LMDB holds named databases",
                where=self.path,
                expected="features in the main one",
                found=page[begin:middle].decode(errors="backslashreplace"),
                hint="copy the one with the features into the main one of a new LMDB",
            )
        if flags & ~BIG or not length or end > len(page):
            raise self._damaged(number, "an entry that is no key with a value")
        return Node(page[begin:middle], size, page[middle:end], bool(flags & BIG))

    def _damaged(self, number: int, found: str) -> BadConfig:
        return BadConfig(
            f"the LMDB is damaged at page {number}",
            where=self.path,
            found=found,
            hint="copy or download it again",
        )


def _look(data: bytes) -> str:
    """What a file that is no LMDB may be."""
    if MAGIC.to_bytes(4, "little") in data[:16]:
        return "one of a 32-bit machine"
    return "one of a big-endian machine" if MAGIC.to_bytes(4) in data[:24] else "another form"


@contextmanager
def open_lmdb(path: Path) -> Iterator[LmdbPages]:
    """The LMDB at `path`: a folder with `data.mdb`, or a file.

    Raises:
        NotFound: there is no LMDB.
        BadConfig: it is something else, of another machine, or not all of it is there.
    """
    file = path / DATA_FILE if path.is_dir() else path
    if not file.is_file():
        raise NotFound(
            "no LMDB here", where=path, expected=f"a folder with {DATA_FILE}, or an LMDB file"
        )
    try:
        check_fetched(file)
    except NotFetched as error:
        raise BadConfig("not an LMDB", where=file, found=error) from error
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield LmdbPages(file, handle)
    finally:
        os.close(handle)
