"""Bytes of a file are compared with their hash before they are used: once, as long as they stay.

Promise: `Proofs.require` returns only where the bytes are those that were hashed when they were
written, by this process, or by an earlier one of this user on this machine that has not been
restarted since, if the file system says that the file is the same and was not changed.

What was found right is remembered outside the store, where nothing that comes with a store can
claim it: in `$XDG_CACHE_HOME/antcache/verified` (`~/.cache` if unset), a line for each file. A line
is a hash of the file's device, inode, size and times of change, of what it was compared with, and
of this start of the machine. The file may be deleted at any time; then everything is compared
again. A file that was changed within the last seconds is not remembered: the clocks of file systems
are coarse, and the next change might go unseen.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from antcache.store.faults import damaged

PIECE_BYTES = 1 << 20
FRESH_NS = 3 * 10**9
"""How long ago a file must have been changed so that its times tell the next change."""

MEMORY_BYTES = 8 << 20
"""Longest memory that is read, a quarter of a million files; a longer one is begun anew."""

MARK_BYTES = 16

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, and times of the last change of content and of anything, in ns."""

Ranges = tuple[tuple[int, int], ...]
"""Start and length of pieces of a file."""


Count = Callable[[int], None]
"""Is told how many bytes were read."""


def uncounted(num_bytes: int) -> None:
    """Count nothing."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What bytes of a file must be.

    Attributes:
        file: its name in the store.
        ranges: which bytes, one range after another.
        digest: their BLAKE2b hash (16 bytes, as hex).
    """

    file: str
    ranges: Ranges
    digest: str


class Proofs:
    """What one array has seen proven, so that it is not proven twice in a process."""

    def __init__(self) -> None:
        self._seen: dict[Proof, Identity] = {}

    def require(self, handle: int, proof: Proof, where: object) -> None:
        """Raise `DamagedStore` unless the open file holds what `proof` says."""
        found = identity(handle)
        if self._seen.get(proof) == found:
            return
        memory = _memory()
        if memory is None or _mark(found, proof) not in memory:
            if digest_of(handle, proof.ranges) != proof.digest:
                raise damaged(where, "its values are not as they were written")
            _remember(found, proof)
        self._seen[proof] = found


def identity(handle: int) -> Identity:
    """Which file an open one is, and in which state."""
    found = os.fstat(handle)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def pieces(handle: int, ranges: Ranges) -> Iterator[memoryview]:
    """Bytes of an open file, in pieces that are gone when the next one is asked for."""
    longest = max((length for _, length in ranges), default=0)
    buffer = memoryview(bytearray(min(PIECE_BYTES, longest)))
    for start, length in ranges:
        while length > 0:
            found = os.preadv(handle, [buffer[: min(len(buffer), length)]], start)
            if not found:
                break
            yield buffer[:found]
            start, length = start + found, length - found


def read_range(handle: int, start: int, length: int) -> bytes:
    """Bytes of an open file, as many as there are."""
    return b"".join(bytes(piece) for piece in pieces(handle, ((start, length),)))


def digest_of(handle: int, ranges: Ranges | None = None, count: Count = uncounted) -> str:
    """BLAKE2b (16 bytes, as hex) over ranges of an open file; over all of it without."""
    total = hashlib.blake2b(digest_size=16)
    for piece in pieces(handle, ((0, os.fstat(handle).st_size),) if ranges is None else ranges):
        total.update(piece)
        count(len(piece))
    return total.hexdigest()


# What earlier processes have found


def _remember(found: Identity, proof: Proof) -> None:
    memory, path = _memory(), _path()
    if memory is None or path is None or time.time_ns() - found[-1] <= FRESH_NS:
        return
    mark = _mark(found, proof)
    memory.add(mark)
    with suppress(OSError):  # a home that is full or read-only costs nothing but time
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, mark + b"\n")
        finally:
            os.close(handle)


def _mark(found: Identity, proof: Proof) -> bytes:
    """The line that says it."""
    text = repr((boot_id(), found, proof.ranges, proof.digest)).encode()
    return hashlib.blake2b(text, digest_size=MARK_BYTES).hexdigest().encode()


def _memory() -> set[bytes] | None:
    """Marks of all files that were found right; None where nothing can be remembered."""
    path = _path()
    return None if path is None or boot_id() is None else _read(path)


@functools.cache
def _read(path: Path) -> set[bytes]:
    found = b""
    with suppress(OSError):
        if path.stat().st_size > MEMORY_BYTES:
            path.unlink()
        found = path.read_bytes()
    return set(found.split(b"\n"))  # as they stand: every command reads them all


@functools.cache
def boot_id() -> str | None:
    """Which start of which machine this is; None: unknown, and nothing is remembered."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None


def _path() -> Path | None:
    """Where the marks are kept."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    with suppress(RuntimeError):  # no home
        cache = Path(folder) if Path(folder).is_absolute() else Path.home() / ".cache"
        return cache / "antcache" / "verified"
    return None
