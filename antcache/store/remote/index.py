"""All videos of a stream at a URL as one object, where a list gives a thousand objects a request.

Promise: an index that is believed lists what a list of all objects would. It is taken away before
any unit of its stream becomes visible or vanishes, and written again only by who has seen, after
saying so (`PENDING`), that nobody is writing, and then listed everything:

    a writer                              an indexer
    1. creates its claim                  1. writes a pending index, which nobody believes
    2. deletes the index, if any          2. gives up if there are claims or leases of the stream
    3. shows or hides its unit            3. lists the stream
    4. gives its claim up                 4. replaces the pending index, if it is still that one

A claim that step 2 of the indexer does not see was given up before, and its unit is in the list, or
is created later, and its writer deletes the pending index, so that step 4 fails. Who is killed
leaves a claim, which only keeps others from writing an index, or a pending one. Step 4 needs a
server that replaces on condition (`RemoteFiles.swaps`); elsewhere there is no index. Several
indexers undo each other's work, and one of them succeeds, or none.

It is believed only beside the root's `zarr.json` with which it was written, by the server's own tag
and date of it: not in a copy of a store, or in one that was restored or written over.

What is not promised: other tools that put units into a bucket, or delete them, know of no index.
Earlier versions of antcache refuse a store that has one (format 3), but a process of such a version
that had opened it before goes on writing, and is seen by its claims and leases alone. A writer that
was taken for dead, and shows its unit after all, deletes the index right after that once more.
`verify`, `repair` and `doctor` list everything and compare; passes that write never believe it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from antcache.errors import AlreadyExists, BadConfig, DamagedStore
from antcache.store.format import STAGING, TEXT_BYTES, digest, may_lie_in
from antcache.store.remote.claim import CLAIM, in_staging
from antcache.store.remote.files import RemoteFiles
from antcache.store.remote.lease import WORK
from antcache.store.zarr_unit import ZARR_JSON
from antcache.untrusted import parse_json

INDEX = ".index"
"""Ending of an index in staging."""

PENDING = "pending"

Listing = dict[str, dict[str, tuple[int, int]]]
"""Of each complete unit the number of chunks of each array, and their bytes together."""


class StreamIndex:
    """The index of the group `key`; only streams have one."""

    def __init__(self, files: RemoteFiles, key: str) -> None:
        self._files = files
        self._key = key
        self._name = in_staging(key, INDEX)

    def read(self) -> Listing | None:
        """What it lists; None if there is none, or none that can be believed."""
        text = self.text()
        return None if text is None else self.believed(text)

    def text(self) -> bytes | None:
        """What lies there."""
        if not self._key.startswith("features/"):
            return None
        try:
            return self._files.read(self._name)
        except (FileNotFoundError, DamagedStore):
            return None

    def believed(self, text: bytes) -> Listing | None:
        """What the index `text` lists; None if it can't be believed."""
        seal, _, body = text.partition(b"\n")
        if seal != digest(body).encode():
            return None
        try:
            found = parse_json(body)
            beside = self._beside()
            if not beside or [found["key"], found["beside"]] != [self._key, beside]:
                return None
            return {
                _named(self._key, name): {array: _counted(*two) for array, two in arrays.items()}
                for name, arrays in found["units"].items()
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def drop(self) -> bool:
        """Take it away, whoever wrote it; false if there is none.

        Who shows or hides a unit does so before, and after having claimed the unit.
        """
        # Looked for first: where a bucket keeps versions, each delete would leave a mark.
        if not self._key.startswith("features/") or not self._files.is_file(self._name):
            return False
        self._files.delete(self._name)
        return True

    def write(self, listed: Callable[[], Listing]) -> int:
        """Write it, of what is `listed` then; returns how many units that are.

        Raises:
            AlreadyExists: another process is writing the stream, or its index.
            BadConfig: the server does not replace on condition, or the list is too long.
        """
        if not self._files.swaps():
            raise BadConfig(
                "no index can be kept here",
                where=self._files.url,
                expected="an S3 server that writes on condition",
                hint="everything works without one; videos are listed",
            )
        pending = self._sealed({PENDING: uuid.uuid4().hex})
        self._files.write_many({self._name: pending})
        if busy := self._at_work():
            self._files.delete(self._name)
            raise self._refused(busy)
        units = listed()
        text = self._sealed({"units": units})
        if len(text) > TEXT_BYTES:
            self._files.delete(self._name)
            raise BadConfig(
                "too many videos for an index",
                where=self._where,
                expected=f"at most {TEXT_BYTES} bytes",
                found=len(text),
            )
        if not self._files.replace(self._name, text, was=pending):
            raise self._refused("it was taken away")
        return len(units)

    def _at_work(self) -> str:
        """Who may be writing the stream: the name of a claim or lease; empty if nobody is."""
        start = f"{self._key.replace('/', ',')},"
        names = (name for name in self._files.sizes(STAGING) if name.startswith(start))
        return next((name for name in names if name.endswith((CLAIM, WORK))), "")

    def _sealed(self, more: Mapping[str, Any]) -> bytes:
        document = {"key": self._key, "beside": self._beside(), **more}
        body = json.dumps(document, separators=(",", ":")).encode()
        return digest(body).encode() + b"\n" + body

    def _beside(self) -> str:
        """The root's `zarr.json` as the server knows it, whose copy has another date."""
        with suppress(FileNotFoundError):
            return self._files.facts(ZARR_JSON).version
        return ""

    def _refused(self, found: str) -> AlreadyExists:
        return AlreadyExists(
            "another process is writing the stream, or its index",
            where=self._where,
            found=found,
            hint="antcache store index writes it when they have finished; what killed ones left, "
            "antcache store repair sweeps up",
        )

    @property
    def _where(self) -> str:
        return f"{self._files.url}: {self._key}"


def listing_of(key: str, objects: Mapping[str, int]) -> Listing:
    """The complete units of the group `key` among its objects, by their sizes."""
    units: Listing = {name: {} for name in complete(key, objects)}
    for name, size in objects.items():
        unit, _, inside = name.partition("/")
        array, mark, _ = inside.partition("/c/")
        if mark and unit in units:
            chunks, total = units[unit].get(array, (0, 0))
            units[unit][array] = chunks + 1, total + size
    return units


def complete(key: str, objects: Iterable[str]) -> list[str]:
    """Names of the units among the objects of a group."""
    names = (name.split("/") for name in objects)
    found = (name[0] for name in names if len(name) == 2 and name[1] == ZARR_JSON)
    return sorted(name for name in found if may_lie_in(key, name))


def differences(indexed: Listing, listed: Listing) -> str:
    """What is wrong with an index beside what there is; empty if nothing is."""
    counts = {
        "that are not there": len(indexed.keys() - listed.keys()),
        "that it lacks": len(listed.keys() - indexed.keys()),
        "of another size": sum(indexed[name] != listed[name] for name in indexed.keys() & listed),
    }
    return ", ".join(f"{count} videos {what}" for what, count in counts.items() if count)


def _named(key: str, name: str) -> str:
    if not may_lie_in(key, name):
        raise ValueError(name)
    return name


def _counted(chunks: object, total: object) -> tuple[int, int]:
    if type(chunks) is not int or type(total) is not int or min(chunks, total) < 0:
        raise ValueError(chunks, total)
    return chunks, total
