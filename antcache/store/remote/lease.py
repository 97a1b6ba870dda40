"""Who works on a unit at a URL: an object that one process could create, and keeps changing.

Promise: of several processes one works on a unit, where the server writes on condition. A lease
ends with its context. If its process is killed, another takes over: at once on the same machine,
elsewhere once it has watched the lease stay the same for `LEASE_S` seconds by its own clock; no
clock is compared with another, and of several that take over one does. A lease saves work and
protects nothing: `publish` lets one writer win whoever works on what.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from antcache.errors import AntcacheError
from antcache.store.remote.claim import in_staging
from antcache.store.remote.files import RemoteFiles
from antcache.store.remote.holder import Holder

logger = logging.getLogger(__name__)

WORK = ".work"
"""Ending of a lease in staging."""

LEASE_S = 60.0
"""How long a lease has to be seen unchanged before it is taken over."""

BEAT_S = 10.0
"""How often its holder changes it."""


class Leases:
    """The leases in a store, as one process sees them."""

    def __init__(self, files: RemoteFiles) -> None:
        self._files = files
        self._seen: dict[str, tuple[bytes, float]] = {}  # what stood there, and since when

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_seen": {}}  # clocks of two processes have nothing in common

    @contextmanager
    def held(self, key: str) -> Iterator[bool]:
        """Work on the unit `key` in this context; false if another process does."""
        lease = _Lease(self._files, in_staging(key, WORK))
        ours = self._take(lease)
        if not ours:
            yield False
            return
        with lease.beating():
            yield True

    def _take(self, lease: _Lease) -> bool:
        """Become its holder, if nobody is, or whoever was is gone."""
        for _ in range(3):  # it may go, or change hands, while we look at it
            if lease.name not in self._seen:  # else it is there, most likely
                with suppress(FileExistsError):
                    self._files.create(lease.name, lease.text)
                    return True
            try:
                theirs = self._files.read(lease.name)
            except FileNotFoundError:
                self._seen.pop(lease.name, None)
                continue
            if not self._is_over(lease.name, theirs):
                return False
            if self._files.replace(lease.name, lease.text, was=theirs) and lease.is_ours():
                self._seen.pop(lease.name, None)
                return True
        return False

    def _is_over(self, name: str, theirs: bytes) -> bool:
        """Whether the lease with this text is no longer kept up."""
        holder = Holder.read(theirs)
        if holder is not None and holder.is_dead:
            return True
        text, since = self._seen.get(name, (b"", 0.0))
        if text != theirs:
            self._seen[name] = theirs, time.monotonic()
            return False
        return time.monotonic() - since > LEASE_S


class _Lease:
    """One lease, which this process has or wants."""

    def __init__(self, files: RemoteFiles, name: str) -> None:
        self._files = files
        self.name = name
        self._holder = Holder.here()
        self._beats = 0
        self.text = self._holder.text(beat=0)

    def is_ours(self) -> bool:
        """Whether this is its holder, whatever it says besides."""
        try:
            self.text = found = self._files.read(self.name)
        except FileNotFoundError:
            return False
        there = Holder.read(found)
        return there is not None and there.owner == self._holder.owner

    @contextmanager
    def beating(self) -> Iterator[None]:
        """A thread keeps it up until the context ends, and with it the lease."""
        stopped = threading.Event()
        thread = threading.Thread(
            target=self._beat, args=(stopped,), name="antcache-lease", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
            with suppress(AntcacheError):  # it will be taken over
                if self.is_ours():
                    self._files.delete(self.name)

    def _beat(self, stopped: threading.Event) -> None:
        while not stopped.wait(BEAT_S):
            # A network that fails may come back in time.
            with suppress(AntcacheError):
                if not self._renew():
                    logger.warning("%s: was taken for dead; another process took over", self.name)
                    return

    def _renew(self) -> bool:
        """Change it; false if it is another's by now, or gone."""
        self._beats += 1
        new = self._holder.text(beat=self._beats)
        if self._files.replace(self.name, new, was=self.text):
            self.text = new
            return True
        return self.is_ours()  # sent twice, because the answer to the first was lost
