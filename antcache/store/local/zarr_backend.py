"""Zarr v3 on a local disk: a unit is a Zarr group, uncompressed unless asked otherwise.

Promise: the whole store is one Zarr hierarchy that `zarr.open_group` reads without this package.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from antcache.store.backend import Attributes, Unit
from antcache.store.faults import lost
from antcache.store.format import Arrays, join
from antcache.store.local.folder import FolderBackend
from antcache.store.reading.inside import FOLDER, LINK
from antcache.store.reading.proof import Count, digest_of
from antcache.store.zarr_unit import GROUP, ZARR_JSON, damaged_parts, encode, layouts, unit_of


class ZarrBackend(FolderBackend):
    """Units are folders with a `zarr.json`; publishing renames the folder into its place."""

    form = "zarr"
    suffix = ""
    unit_kinds = (FOLDER, LINK)
    group_file = ZARR_JSON
    group_frame = GROUP

    def _is_unit(self, key: str, kind: str) -> bool:
        # A link is none, but stands where one would: it is refused when it is opened.
        return (
            kind == LINK or self.inside.kind(f"{key}/{ZARR_JSON}") is not None or self._remains(key)
        )

    def _write(self, path: Path, arrays: Arrays, attributes: Attributes, compressed: bool) -> None:
        for name, value in encode(arrays, attributes, compressed=compressed):
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(value)

    def _open_at(self, path: Path) -> Unit:
        key = self._name(path)
        with self.inside.at(key) as unit:
            attributes, files = unit_of(unit.read(ZARR_JSON), str(path))
            found = layouts(files, unit.read, unit.size, key, str(path))
        return self._arrays(found), attributes

    def _damaged_parts_at(self, path: Path, count: Count) -> list[str]:
        key = self._name(path)

        def read() -> bytes:
            text = self.inside.read(f"{key}/{ZARR_JSON}")
            count(len(text))
            return text

        def digests(names: Collection[str]) -> Iterator[tuple[str, str]]:
            for name in names:
                try:
                    with self.inside.opened(f"{key}/{name}") as handle:
                        yield name, digest_of(handle, count=count)
                except OSError as error:
                    if not lost(error):
                        raise

        return damaged_parts(read, digests)

    def value_bytes(self, key: str, array: str) -> dict[str, int]:
        """See `Backend`: the size of its chunk."""
        found = {}
        with self.inside.at(key) as group:
            for name in self.units(key):
                chunks = list(group.sizes_below(f"{name}/{array}/c"))
                several = len(chunks) > 1
                found[name] = self._value_bytes(join(key, name), array) if several else sum(chunks)
        return found

    def _remains(self, key: str) -> bool:
        """Whether a folder without a `zarr.json` is the rest of a unit, not somebody's notes."""
        with self.inside.at(key) as unit:
            inside = list(os.fwalk(".", dir_fd=unit.handle))
        return inside[0][1:3] == ([], []) or any(
            ZARR_JSON in files or "c" in folders for _, folders, files, _ in inside
        )
