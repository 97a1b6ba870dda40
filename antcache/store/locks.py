"""Locks that die with their process, and renames that leave no gap.

Promise: what a killed process held is free at once, and no clock is looked at. (`flock`, which
network file systems honour too, as far as they honour any lock.)
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Lock the existing file or folder at `path` unless another process has; whether it was ours.

    It counts as another's, too, when it is gone or has been replaced meanwhile.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = path.exists() and os.path.samestat(os.fstat(handle), path.stat())
        except (BlockingIOError, FileNotFoundError):
            ours = False
        yield ours
    finally:
        os.close(handle)  # and with it goes the lock


def exchange(new: Path, old: Path) -> None:
    """Let `new` and `old` change places: at no moment is there nothing at `old`.

    Where the file system can't do that in one step (`renameat2` of Linux), it takes two.
    """
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = (os.fsencode(new), os.fsencode(old))
    if renameat2 is not None and renameat2(here, names[0], here, names[1], swap) == 0:
        return
    aside = new.with_name(f"{new.name}.old")
    old.rename(aside)
    new.rename(old)
