"""Videos that could not be extracted, one JSON line each, in `STORE.failures.jsonl`.

Promise: the file lists what is missing now. A video is entered when it fails, with the reason, and
taken out when it succeeds; with the last one the file goes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from antcache.errors import DamagedStore
from antcache.store.location import Location, beside


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
        if not self.path.is_file():
            return []
        try:
            lines = self.path.read_text("utf-8").splitlines()
            return [Failure(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise DamagedStore(
                "not a ledger of failures", where=self.path, found=str(error), hint="remove it"
            ) from error

    def failed(self, stream: str, video: str, file: Path, error: Exception) -> Failure:
        """Enter a failure in place of the video's earlier one."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Failure(stream=stream, video=video, file=str(file), error=str(error), date=now)
        self._write([*self._others(stream, video), entry])
        return entry

    def succeeded(self, stream: str, video: str) -> None:
        """Take a video out."""
        others = self._others(stream, video)
        if self.path.is_file():
            self._write(others)

    def _others(self, stream: str, video: str) -> list[Failure]:
        return [f for f in self.read() if (f.stream, f.video) != (stream, video)]

    def _write(self, entries: list[Failure]) -> None:
        if not entries:
            self.path.unlink(missing_ok=True)
            return
        text = "".join(json.dumps(asdict(entry)) + "\n" for entry in entries)
        staged = self.path.with_name(f"{self.path.name}.new")
        staged.write_text(text, "utf-8")
        staged.replace(self.path)
