"""Videos that could not be extracted or imported, one JSON line each, in `STORE.failures.jsonl`.

Promise: the file lists what is missing now. A video is entered when it fails, with the reason, and
taken out when it succeeds; with the last one the file goes. Processes that share a store share the
file: no entry is lost, and a reader or a killed writer never leaves or sees half of it. Bytes of
file names that are no UTF-8 are written out, as `plain` shows them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from antcache.errors import AntcacheError, DamagedStore, WriteFailed
from antcache.files import LOCK, atomic_file, clear_leftovers
from antcache.files.disk import flush_one
from antcache.files.locks import hold
from antcache.store.location import Location, beside
from antcache.text import is_video_name, utf8
from antcache.untrusted import parse_json, read_text


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A video that failed: in which stream, which file, why and when (UTC, ISO 8601)."""

    stream: str
    video: str
    file: str
    error: str
    date: str


class Ledger:
    """The failures of the store at `store`; kept beside it."""

    def __init__(self, store: Location) -> None:
        self.path = beside(store, ".failures.jsonl")

    def read(self) -> list[Failure]:
        """All failures, in the order in which they happened.

        Raises:
            DamagedStore: the file has other content.
        """
        try:
            lines = read_text(self.path).splitlines()
            found = [Failure(**parse_json(line)) for line in lines]
            if not all(isinstance(text, str) for f in found for text in asdict(f).values()):
                raise ValueError("an entry that is no text")
            return found
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            raise DamagedStore(
                "not a ledger of failures", where=self.path, found=str(error), hint="remove it"
            ) from error

    def failed(self, stream: str, video: str, file: Location, error: Exception) -> Failure:
        """Enter a failure in place of the file's earlier one, and of those of files that are gone.

        Files of one name, of which none can go into a store, have an entry each.

        Raises:
            WriteFailed: the disk refused; the file is as it was.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        video, where, why = (utf8(text) for text in (video, file, error))
        entry = Failure(stream=stream, video=video, file=where, error=why, date=now)
        with self._changing():
            kept = [
                f
                for f in self.read()
                if (f.stream, f.video) != (stream, video) or (f.file != where and _is_there(f.file))
            ]
            self._write([*kept, entry])
        return entry

    def succeeded(self, stream: str, *videos: str) -> None:
        """Take videos out.

        Raises:
            WriteFailed: the disk refused; the file is as it was.
        """
        if len(self._others(stream, *videos)) < len(self.read()):
            with self._changing():
                self._write(self._others(stream, *videos))

    def clear_renamed(self, stream: str) -> None:
        """Take out what could not be called as it was, or be looked into, and is so no more.

        Raises:
            WriteFailed: the disk refused; the file is as it was.
        """
        self.succeeded(
            stream,
            *(
                entry.video
                for entry in self.read()
                if not is_video_name(entry.video)
                and (
                    not _is_there(entry.file) or (entry.video.endswith("/") and _opens(entry.file))
                )
            ),
        )

    def _others(self, stream: str, *videos: str) -> list[Failure]:
        return [f for f in self.read() if f.stream != stream or f.video not in videos]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Read, change and write while no other process does, and without what killed ones left."""
        try:
            clear_leftovers(self.path.parent)
            with hold(self.path.with_name(self.path.name + LOCK), wait=True):
                yield
        except AntcacheError:
            raise
        except OSError as error:
            raise WriteFailed.because(error, self.path) from error

    def _write(self, entries: list[Failure]) -> None:
        if not entries:
            self.path.unlink(missing_ok=True)
            flush_one(self.path.absolute().parent)
            return
        with atomic_file(self.path, overwrite=True) as staged:
            staged.write_text("".join(json.dumps(asdict(e)) + "\n" for e in entries), "utf-8")


def _is_there(written: str) -> bool:
    """Whether something is at a path as the ledger has it."""
    return os.path.lexists(_meant(written))


def _opens(written: str) -> bool:
    """Whether what the ledger has as a folder, or may be one, can be read by now."""
    path = _meant(written)
    if not os.access(path, os.R_OK, effective_ids=True):
        return False
    return not Path(path).is_dir() or os.access(path, os.X_OK, effective_ids=True)


def _meant(written: str) -> str:
    """The path that the ledger has, with the bytes that were written out."""
    if os.path.lexists(written):
        return written
    return re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda byte: chr(int(byte[1], 16)), written)
