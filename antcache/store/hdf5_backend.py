"""HDF5: a folder with one file per unit, so that it commits exactly as Zarr does.

Promise: every unit is a plain HDF5 file, its attributes attributes of the file's root (lists and
objects as JSON text), its arrays contiguous datasets unless compressed. The file's user block says
whether all that follows it is as it was written. A group is a folder; its attributes lie in
`attributes.json` beside the files.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from antcache.disk import rename_new
from antcache.errors import AlreadyExists
from antcache.store.backend import (
    METADATA,
    UNREADABLE,
    Attributes,
    Count,
    LazyArray,
    Unit,
    damaged,
    lost,
    strings,
)
from antcache.store.folder import FolderBackend
from antcache.store.format import Arrays, chunk_rows
from antcache.store.hdf5_seal import (
    SMALLEST_BLOCK,
    Ranges,
    block_for,
    damage,
    metadata_intact,
    ranges_of,
)
from antcache.store.mapped import MappedArray
from antcache.store.seal import sealed

ATTRIBUTES = "attributes.json"


class ApiDataset:
    """A dataset that opens its file when it is indexed: nothing stays open, forks are safe."""

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        self._path = path
        self._name = dataset.name
        self._text = h5py.check_string_dtype(dataset.dtype) is not None
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype = np.dtype(np.str_) if self._text else dataset.dtype
        self.chunk_rows = dataset.chunks[0] if dataset.chunks else max(1, len(dataset))

    def __getitem__(self, index: Any) -> NDArray[Any]:
        try:
            with h5py.File(self._path, "r") as file:
                dataset = file[self._name]
                if self._text:
                    return np.asarray(dataset.asstr()[index], dtype=np.str_)
                return np.asarray(dataset[index])
        except UNREADABLE as error:
            raise damaged(f"{self._path}: {self._name}", str(error)) from error


class Hdf5Backend(FolderBackend):
    """Units are `.h5` files; publishing renames the file into its place."""

    suffix = ".h5"
    group_file = ATTRIBUTES

    def units(self, key: str) -> list[str]:
        """See `Backend`."""
        return sorted(p.stem for p in (self.root / key).glob(f"*{self.suffix}") if p.is_file())

    def document(self, attributes: Attributes) -> bytes:
        """See `Backend`."""
        return sealed(attributes)

    def _rename(self, staged: Path, target: Path) -> None:
        # A plain rename would silently replace another process's.
        try:
            rename_new(staged, target)
        except FileExistsError as error:
            raise AlreadyExists("already in the store", where=target) from error

    def _write(self, path: Path, arrays: Arrays, attributes: Attributes, compressed: bool) -> None:
        # In memory first: where the disk is full, HDF5 leaves the file half open, and the process
        # crashes when it ends.
        block_bytes = SMALLEST_BLOCK
        while True:
            whole, ranges = self._image(arrays, attributes, compressed, block_bytes)
            block = block_for(whole[block_bytes:], ranges)
            if len(block) <= block_bytes:
                break
            block_bytes *= 2
        whole[:block_bytes] = block.ljust(block_bytes)
        path.write_bytes(whole)

    def _image(
        self, arrays: Arrays, attributes: Attributes, compressed: bool, block_bytes: int
    ) -> tuple[memoryview, dict[str, Ranges]]:
        """All bytes of a unit's file, with an empty user block, and where its values lie."""
        image = io.BytesIO()
        with h5py.File(image, "w", libver="latest", userblock_size=block_bytes) as file:
            for name, array in arrays.items():
                if strings(array):
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
                file.attrs[name] = json.dumps(value) if _needs_json(value) else value
            file.flush()
            ranges = ranges_of(file)
        return image.getbuffer(), ranges

    def _open_at(self, path: Path) -> Unit:
        if not metadata_intact(path):  # the library might never come back
            raise damaged(path.with_suffix(""), "not as it was written")
        arrays: dict[str, LazyArray] = {}
        with h5py.File(path, "r") as file:
            for name, dataset in file.items():
                offset = dataset.id.get_offset()  # None unless it lies in one piece
                plain = dataset.chunks is None and dataset.dtype.kind in "biuf"
                if self.memory_map and plain and offset is not None:
                    arrays[name] = MappedArray(
                        dataset.shape,
                        dataset.dtype,
                        (path,),
                        rows_per_file=len(dataset),
                        offset=offset,
                    )
                else:
                    arrays[name] = ApiDataset(path, dataset)
            return arrays, {name: _attribute(value) for name, value in file.attrs.items()}

    def _damage_at(self, path: Path, count: Count) -> list[str]:
        try:
            return damage(path, count)
        except OSError as error:
            if not lost(error):
                raise
            return [METADATA]


def _needs_json(value: Any) -> bool:
    """Whether an attribute is stored as JSON text; so is text that would be taken for it."""
    return isinstance(value, dict | list) or value is None or _is_json(value)


def _is_json(value: Any) -> bool:
    return isinstance(value, str) and (value[:1] in ("{", "[", '"') or value == "null")


def _attribute(value: Any) -> Any:
    """An HDF5 attribute as the plain Python value that was stored."""
    if isinstance(value, str):
        return json.loads(value) if _is_json(value) else value
    return value.item() if isinstance(value, np.generic) else value
