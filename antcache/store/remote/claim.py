"""One writer per unit of a remote store: an object that only one of them could create.

Promise: of two that write the same unit one goes on and the other is told so. A claim is renewed
while its holder works. It is void when its holder is known to be dead (a process of this machine
that is gone), or has not renewed it for `STALE_S` seconds by the server's clock; the clocks of the
writers are never asked.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from antcache.errors import AlreadyExists, AntcacheError
from antcache.store.format import STAGING
from antcache.store.remote.files import RemoteFiles
from antcache.store.remote.holder import Holder

STALE_S = 600.0
"""After how long without a sign of life a claim is void; a batch takes far less to be sent."""

CLAIM, ALONE = ".claim", ".alone"
"""Endings of claims: of the right to write a unit, and to change a group alone."""


class Claim:
    """The right to write the unit `key`, kept in `.staging/<key>.claim`; or another right, by
    another ending.

    Attributes:
        taken_over: it was another's, who is taken for dead and may have left things behind.
    """

    def __init__(self, files: RemoteFiles, key: str, ending: str = CLAIM) -> None:
        self._files = files
        self._key = key
        self._name = in_staging(key, ending)
        self.taken_over = False
        self._text = Holder.here().text()

    def take(self) -> None:
        """Become its holder.

        Raises:
            AlreadyExists: another process is.
        """
        for _ in range(3):  # it may go, or change hands, while we look at it
            with suppress(FileExistsError):
                self._files.create(self._name, self._text)
                return
            with suppress(FileNotFoundError):
                theirs = self._files.read(self._name)
                if not self._is_void(theirs):
                    raise self._lost(theirs)
                if self._files.replace(self._name, self._text, was=theirs) and self.ours():
                    self.taken_over = True
                    return
        raise self._lost(b"")

    def renew(self) -> None:
        """Say that its holder lives.

        Raises:
            AlreadyExists: it was taken for dead, and another process took over.
        """
        if not self._files.replace(self._name, self._text, was=self._text):
            raise self._lost(b"")

    def ours(self) -> bool:
        """Whether this is still its holder."""
        try:
            return self._files.read(self._name) == self._text
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give it up."""
        if self.ours():
            self._files.delete(self._name)

    def _lost(self, theirs: bytes) -> AlreadyExists:
        return AlreadyExists(
            "another process is writing it",
            where=f"{self._files.url}: {self._key}",
            found=Holder.read(theirs) or "",
            hint=f"let it finish; if it was killed, try again after {STALE_S / 60:.0f} minutes",
        )

    def _is_void(self, theirs: bytes) -> bool:
        holder = Holder.read(theirs)
        if holder is not None and holder.is_dead:
            return True
        probe = f"{STAGING}/{uuid.uuid4().hex}.probe"
        self._files.write_many({probe: b"what time is it?"})
        try:
            age = self._files.seconds_between(self._name, probe)
        finally:
            self._files.delete(probe)
        return age is not None and age > STALE_S


def in_staging(key: str, ending: str) -> str:
    """Name in staging that belongs to the unit `key`; no key has a comma."""
    return f"{STAGING}/{key.replace('/', ',')}{ending}"


@contextmanager
def claimed(files: RemoteFiles, key: str, ending: str = CLAIM) -> Iterator[Claim]:
    """Hold the claim of a unit, or of a group.

    Raises:
        AlreadyExists: another process does.
    """
    claim = Claim(files, key, ending)
    claim.take()
    try:
        yield claim
    finally:
        with suppress(AntcacheError):  # it will be void
            claim.release()
