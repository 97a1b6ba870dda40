"""A folder in which files lie while they are needed, of all processes together within a bound.

Promise: room is asked for before anything is written, and waited for while others need it; it is
given back with all that is in it. What a killed process held is cleared by the next that asks.
Nothing else in the folder is touched.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from antcache.errors import BadConfig, UnreadableVideo, WriteFailed
from antcache.extract.videos.source import STILL_WANTED
from antcache.files.disk import remove_folder
from antcache.files.locks import hold

PREFIX, ALL = "antcache-", "antcache.lock"
"""How folders of ours are called, and the lock of whoever counts them."""
ASKED = "bytes"
"""The file in a folder of ours that says how much it may hold."""
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0


@dataclass(frozen=True)
class Scratch:
    """A folder, None for one of the system's for temporary files, and the bytes it may hold."""

    folder: Path | None
    size: int

    @contextmanager
    def room(self, size: int, name: str, where: str) -> Iterator[Path]:
        """A new folder `name`, for `size` bytes of the file at `where`.

        Raises:
            UnreadableVideo: there will never be so much room.
            WriteFailed: the disk refused.
        """
        if size > self.size:
            raise UnreadableVideo(
                "larger than the scratch folder may become",
                where=where,
                expected=f"at most {self.size} bytes",
                found=size,
                hint="allow it more with --scratch-size, or fetch it yourself",
            )
        folder = self.path() / name
        pause = SHORTEST_WAIT_S
        with ExitStack() as stack:
            try:
                stack.enter_context(hold(_alive(folder)))
            except OSError as error:
                raise WriteFailed.because(error, folder.parent) from error
            while not self._take(folder, size):
                STILL_WANTED.get()()
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_WAIT_S)
            try:
                yield folder
            finally:
                remove_folder(folder)

    def path(self) -> Path:
        """The folder, which is made if it is not there.

        Raises:
            BadConfig: somebody else's stands in its place.
            WriteFailed: the disk refused.
        """
        path = self.folder or Path(tempfile.gettempdir()) / f"antcache-scratch-{os.geteuid()}"
        try:
            path.mkdir(mode=0o777 if self.folder else 0o700, parents=True, exist_ok=True)
            state = path.lstat() if self.folder is None else path.stat()
        except OSError as error:
            raise WriteFailed.because(error, path) from error
        ours = self.folder is not None or state.st_uid == os.geteuid()
        if not stat.S_ISDIR(state.st_mode) or not ours:
            raise BadConfig("no folder of ours", where=path, hint="give another (`scratch`)")
        return path

    def _take(self, folder: Path, size: int) -> bool:
        """Make the folder if there is room for it now."""
        root = folder.parent
        try:
            with hold(root / ALL, wait=True):
                taken = sum(_held(each) for each in root.glob(f"{PREFIX}*") if each.is_dir())
                if taken + size > self.size:
                    return False
                folder.mkdir()
                (folder / ASKED).write_text(str(size))
                return True
        except OSError as error:
            raise WriteFailed.because(error, root) from error


def new_name() -> str:
    """A name for a folder of ours that no other has."""
    return PREFIX + uuid.uuid4().hex


def _alive(folder: Path) -> Path:
    """The lock that is held as long as a folder is needed."""
    return folder.with_name(f"{folder.name}.lock")


def _held(folder: Path) -> int:
    """What a folder may hold; nothing if its process is gone, and then it goes, too."""
    with hold(_alive(folder), without=False) as ours:
        if ours:
            remove_folder(folder)
            return 0
    with suppress(OSError, ValueError):
        return int((folder / ASKED).read_text())
    return 0
