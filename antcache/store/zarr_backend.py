"""Zarr v3 on a local disk: a unit is a Zarr group, uncompressed unless asked otherwise.

Promise: the whole store is one Zarr hierarchy that `zarr.open_group` reads without this package.
"""

from __future__ import annotations

import json
from pathlib import Path

from antcache.store.backend import Attributes, Count, LazyArray, Unit, damaged
from antcache.store.folder import FolderBackend, file_digest
from antcache.store.format import Arrays, digest
from antcache.store.mapped import MappedArray
from antcache.store.seal import attributes_of, intact, sealed
from antcache.store.zarr_unit import (
    FILES,
    GROUP,
    ZARR_JSON,
    ApiArray,
    Layout,
    damage,
    encode,
    missing,
    open_local,
)


class ZarrBackend(FolderBackend):
    """Units are folders with a `zarr.json`; publishing renames the folder into its place."""

    suffix = ""
    group_file = ZARR_JSON

    def units(self, key: str) -> list[str]:
        """See `Backend`."""
        folder = self.root / key
        if not folder.is_dir():
            return []
        found = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        return sorted(p.name for p in found if (p / ZARR_JSON).is_file() or _remains(p))

    def document(self, attributes: Attributes) -> bytes:
        """See `Backend`."""
        return sealed(attributes, GROUP)

    def _write(self, path: Path, arrays: Arrays, attributes: Attributes, compressed: bool) -> None:
        for name, value in encode(arrays, attributes, compressed=compressed).items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(value)

    def _open_at(self, path: Path) -> Unit:
        text = (path / ZARR_JSON).read_bytes()
        if not intact(text):
            raise damaged(path / ZARR_JSON, "not as it was written")
        attributes = attributes_of(text)
        files = attributes.pop(FILES)
        arrays: dict[str, LazyArray] = {}
        for name in (f.removesuffix(f"/{ZARR_JSON}") for f in files if f.endswith(ZARR_JSON)):
            described = path / name / ZARR_JSON
            text = described.read_bytes()
            if digest(text) != files[f"{name}/{ZARR_JSON}"]:
                raise damaged(described, "not as it was written")
            layout = Layout.of(name, json.loads(text))
            if self.memory_map and layout.chunks is not None:
                arrays[name] = MappedArray(
                    layout.shape,
                    layout.dtype,
                    tuple(path / chunk for chunk in layout.chunks),
                    rows_per_file=layout.chunk_rows,
                )
            else:
                missing(files, lambda file: (path / file).is_file(), path)
                arrays[name] = ApiArray(layout, open_local, str(path / name))
        return arrays, attributes

    def _damage_at(self, path: Path, count: Count) -> list[str]:
        def read(name: str) -> bytes:
            text = (path / name).read_bytes()
            count(len(text))
            return text

        return damage(read, lambda name: file_digest(path / name, count))


def _remains(path: Path) -> bool:
    """Whether a folder without a `zarr.json` is what is left of a unit, not somebody's notes."""
    inside = list(path.rglob("*"))
    return not inside or any(p.name == ZARR_JSON or (p.name == "c" and p.is_dir()) for p in inside)
