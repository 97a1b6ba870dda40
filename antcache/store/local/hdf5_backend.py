"""HDF5: a folder with one file per unit, so that it commits exactly as Zarr does.

Promise: every unit is a plain HDF5 file, its attributes attributes of the file's root (lists and
objects as JSON text), its arrays contiguous datasets unless compressed. The file's user block says
whether all that follows it is as it was written. A group is a folder; its attributes lie in
`attributes.json` beside the files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from antcache.errors import AlreadyExists, DamagedStore
from antcache.files.disk import rename_new
from antcache.store.backend import Attributes, Unit
from antcache.store.faults import UNREADABLE, damaged, says_nothing
from antcache.store.format import Arrays, chunk_rows, is_text
from antcache.store.local.folder import FolderBackend
from antcache.store.local.hdf5_file import SteadyFile
from antcache.store.local.hdf5_layout import contents, needs_json
from antcache.store.local.hdf5_seal import (
    SMALLEST_BLOCK,
    UserBlock,
    damaged_parts,
    ranges_of,
    sealed_block,
)
from antcache.store.reading.inside import FILE, LINK, OTHER
from antcache.store.reading.proof import Count, Ranges
from antcache.store.seal import require_short

ATTRIBUTES = "attributes.json"


class Hdf5Backend(FolderBackend):
    """Units are `.h5` files; publishing renames the file into its place."""

    form = "hdf5"
    suffix = ".h5"
    unit_kinds = (FILE, LINK, OTHER)
    group_file = ATTRIBUTES

    def _rename(self, staged: Path, target: Path) -> None:
        # A plain rename would silently replace another process's.
        try:
            rename_new(staged, target)
        except FileExistsError as error:
            raise AlreadyExists("already in the store", where=target) from error

    def _write(self, path: Path, arrays: Arrays, attributes: Attributes, compressed: bool) -> None:
        require_short(len(json.dumps(attributes)))
        block_bytes = SMALLEST_BLOCK
        while True:  # how long the block is, is only known once all values have their place
            with SteadyFile(path) as file:
                ranges = self._fill(file, arrays, attributes, compressed, block_bytes)
                file.require_written()
                block = sealed_block(file.handle, block_bytes, ranges)
                if len(block) <= block_bytes:
                    file.seek(0)
                    file.write(block.ljust(block_bytes))
                    file.require_written()
                    return
            while block_bytes < len(block):
                block_bytes *= 2

    def _fill(
        self,
        to: SteadyFile,
        arrays: Arrays,
        attributes: Attributes,
        compressed: bool,
        block_bytes: int,
    ) -> dict[str, Ranges]:
        """Write a unit's file with an empty user block; where its values lie."""
        with h5py.File(to, "w", libver="latest", userblock_size=block_bytes) as file:
            for name, array in arrays.items():
                if is_text(array):
                    # Of a fixed length, so that the values lie in one piece like all others.
                    text = np.char.encode(array.astype(np.str_), "utf-8")
                    kind = h5py.string_dtype("utf-8", max(1, text.itemsize))
                    file.create_dataset(name, data=text.astype(kind), dtype=kind)
                    continue
                options: dict[str, Any] = {}
                if compressed and array.size:
                    rows = chunk_rows(len(array), array[:1].nbytes)
                    options = {"chunks": (rows, *array.shape[1:]), "compression": "gzip"}
                    options |= {"shuffle": True, "compression_opts": 4}
                file.create_dataset(name, data=array, **options)
            for name, value in attributes.items():
                file.attrs[name] = json.dumps(value) if needs_json(value) else value
            file.flush()
            return ranges_of(file)

    def _open_at(self, path: Path) -> Unit:
        name, where = self._name(path), path.with_suffix("")
        with self.inside.opened(name) as handle:
            try:
                block = UserBlock.read(handle, name)
                # The library might never come back from a damaged file.
                if block is None or not block.metadata_intact(handle):
                    raise damaged(where, "not as it was written")
                found, attributes = contents(handle, block, path)
            except (*UNREADABLE, RecursionError) as error:
                if isinstance(error, DamagedStore) or says_nothing(error):
                    raise
                raise damaged(where, f"{type(error).__name__}: {error}") from error
        return self._arrays(found), attributes

    def value_bytes(self, key: str, array: str) -> dict[str, int]:
        """See `Backend`: the ranges that user blocks state."""
        sizes = {}
        with self.inside.at(key) as group:
            for name in self.units(key):
                handle = group.open(f"{name}{self.suffix}")
                try:
                    block = UserBlock.read(handle, name)
                finally:
                    os.close(handle)
                if block is None:
                    raise damaged(self.where(f"{key}/{name}"), "not as it was written")
                proof = block.proofs.get(array)
                sizes[name] = sum(length for _, length in proof.ranges) if proof else 0
        return sizes

    def _damaged_parts_at(self, path: Path, count: Count) -> list[str]:
        with self.inside.opened(self._name(path)) as handle:
            return damaged_parts(handle, count)
