"""Zarr v3 on a local disk: a unit is a Zarr group, uncompressed unless asked otherwise.

Promise: the whole store is one Zarr hierarchy that `zarr.open_group` reads without this package.
"""

from __future__ import annotations

import json
from pathlib import Path

from antcache.store.backend import Attributes, LazyArray, Unit, damaged
from antcache.store.folder import FolderBackend
from antcache.store.format import MARK, Arrays, digest
from antcache.store.location import Location
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

    @classmethod
    def recognises(cls, root: Location) -> bool:
        """See `Backend`."""
        path = Path(root) / ZARR_JSON
        if not path.is_file():
            return False
        text = path.read_bytes()
        # A damaged mark is known by what lies beside it.
        return MARK in attributes_of(text) or (
            not intact(text) and b'"seal"' in text and (Path(root) / "features").is_dir()
        )

    def groups(self, key: str) -> list[str]:
        """See `Backend`."""
        return self.units(key)

    def units(self, key: str) -> list[str]:
        """See `Backend`."""
        folder = self.root / key
        if not folder.is_dir():
            return []
        found = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        return sorted(p.name for p in found)

    def _document(self, attributes: Attributes) -> bytes:
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

    def _damage_at(self, path: Path) -> list[str]:
        return damage(lambda name: (path / name).read_bytes())
