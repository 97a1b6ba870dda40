"""Locks that die with their process, and a rename that leaves no gap.

Promise: what a killed process held is free at once, and no clock is looked at. A lock is an empty
file that whoever wants it creates, and whoever held it removes. It is taken with `flock` on a
regular file that is open for writing, which is the form that network file systems honour too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What `flock` says on a file system that has no locks."""


@contextlib.contextmanager
def hold(path: Path, *, wait: bool = False, without: bool = True) -> Iterator[bool]:
    """Hold the lock file `path` unless another holds it; whether it is ours.

    Args:
        path: the lock file, in a folder that exists.
        wait: until whoever holds it is done; it is always ours then.
        without: the answer where the file system has no locks.

    Raises:
        FileNotFoundError: its folder is gone.
    """
    handle = _lock(path, wait)
    if handle is None:
        yield False
        return
    try:
        yield without if handle < 0 else True
    finally:
        if handle >= 0:
            with contextlib.suppress(OSError):  # the folder may be gone, or not be ours any more
                path.unlink()
            os.close(handle)  # and with it goes the lock


def _lock(path: Path, wait: bool) -> int | None:
    """A handle that holds the lock; None if another holds it, -1 where there are no locks."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass  # who held it has removed it since we opened it
        except OSError as error:
            os.close(handle)
            if error.errno not in NO_LOCKS:
                raise
            path.unlink(missing_ok=True)
            _warn(str(path.parent), error.strerror)
            return -1
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


@functools.cache  # once per place
def _warn(place: str, reason: str) -> None:
    logger.warning(
        "%s: this file system has no locks (%s): processes that work on one store may do the same "
        "work twice; what is written stays safe",
        *(place, reason),
    )


def exchange(new: Path, old: Path) -> bool:
    """Let the folders `new` and `old` change places in one step, so that `old` is never absent.

    False where the system or the file system can't do that (`renameat2` of Linux does it).
    """
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(here, os.fsencode(new), here, os.fsencode(old), swap) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(new), None, str(old))
