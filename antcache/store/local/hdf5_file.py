"""The file that HDF5 writes a unit to, which keeps what the disk refuses until HDF5 is done.

Promise: values go from the caller's array to the disk, and no second copy of them is held. Where
the disk refuses (it is full, say), the HDF5 library would leave the file half open, and the process
would crash when it ends. So the library never hears of it: what comes after is passed over, and
`SteadyFile.require_written` raises what the disk said.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType


class SteadyFile:
    """A new file at `path`, as h5py wants one: it reads, writes, seeks and cuts off."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._refused: OSError | None = None

    def __enter__(self) -> SteadyFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def handle(self) -> int:
        """The number of the open file."""
        return self._file.fileno()

    def write(self, values: bytes | memoryview) -> int:
        """Write all of the values where the file stands, or keep why not."""
        left = memoryview(values).cast("B")
        try:
            while left and self._refused is None:  # the system writes 2 GiB at a time
                left = left[self._file.write(left) or 0 :]
        except OSError as error:
            self._refused = error
        return memoryview(values).nbytes

    def readinto(self, buffer: memoryview) -> int:
        """Read as much as there is."""
        return self._file.readinto(buffer) or 0

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, or as many as there are."""
        return self._file.read(size) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the file stands."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Make the file as long as `size`, or keep why not."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._refused = self._refused or error
            return self.tell() if size is None else size

    def flush(self) -> None:
        """Nothing waits to be written."""

    def require_written(self) -> None:
        """Raise what the disk refused, if it did."""
        if self._refused is not None:
            raise self._refused
