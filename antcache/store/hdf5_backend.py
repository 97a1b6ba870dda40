"""HDF5: a folder with one file per unit, so that it commits exactly as Zarr does.

Promise: every unit is a plain HDF5 file, its attributes attributes of the file's root (lists and
objects as JSON text), its arrays contiguous datasets unless compressed. The file's user block,
which HDF5 leaves to others, holds the hash of all that follows it. A group is a folder; its
attributes lie in `attributes.json` beside the files.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from antcache.errors import AlreadyExists
from antcache.store.backend import (
    METADATA,
    Attributes,
    LazyArray,
    Unit,
    damaged,
    differing,
    strings,
)
from antcache.store.folder import STAGING, FolderBackend
from antcache.store.format import MARK, Arrays, chunk_rows
from antcache.store.location import Location
from antcache.store.mapped import MappedArray
from antcache.store.seal import attributes_of, intact, sealed

ATTRIBUTES = "attributes.json"
USER_BLOCK_BYTES = 512
"""The smallest that HDF5 allows."""


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
        except (OSError, KeyError, ValueError) as error:
            raise damaged(f"{self._path}: {self._name}", str(error)) from error


class Hdf5Backend(FolderBackend):
    """Units are `.h5` files; publishing links the file into its place."""

    suffix = ".h5"
    group_file = ATTRIBUTES

    @classmethod
    def recognises(cls, root: Location) -> bool:
        """See `Backend`."""
        path = Path(root) / ATTRIBUTES
        if not path.is_file():
            return False
        text = path.read_bytes()
        return MARK in attributes_of(text) or (not intact(text) and b'"seal"' in text)

    def groups(self, key: str) -> list[str]:
        """See `Backend`."""
        folder = self.root / key
        if not folder.is_dir():
            return []
        return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != STAGING)

    def units(self, key: str) -> list[str]:
        """See `Backend`."""
        return sorted(p.stem for p in (self.root / key).glob(f"*{self.suffix}") if p.is_file())

    def _document(self, attributes: Attributes) -> bytes:
        return sealed(attributes)

    def _rename(self, staged: Path, target: Path) -> None:
        # Renaming a file would silently replace another process's; linking refuses to.
        try:
            os.link(staged, target)
        except FileExistsError as error:
            raise AlreadyExists("already in the store", where=target) from error

    def _write(self, path: Path, arrays: Arrays, attributes: Attributes, compressed: bool) -> None:
        with h5py.File(path, "w", libver="latest", userblock_size=USER_BLOCK_BYTES) as file:
            for name, array in arrays.items():
                if strings(array):
                    file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
                    continue
                options: dict[str, Any] = {}
                if compressed and array.size:
                    rows = chunk_rows(len(array), array[:1].nbytes)
                    options = {"chunks": (rows, *array.shape[1:]), "compression": "gzip"}
                    options |= {"shuffle": True, "compression_opts": 4}
                file.create_dataset(name, data=array, **options)
            for name, value in attributes.items():
                nested = isinstance(value, dict | list) or value is None
                file.attrs[name] = json.dumps(value) if nested else value
        block = _user_block(path)
        with path.open("r+b") as raw:
            raw.write(block)

    def _open_at(self, path: Path) -> Unit:
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

    def _damage_at(self, path: Path) -> list[str]:
        try:
            with path.open("rb") as raw:
                found = raw.read(USER_BLOCK_BYTES)
            if found == _user_block(path):
                return []
            arrays, attributes = self._open_at(path)
        except (OSError, ValueError, KeyError, RuntimeError):
            return [METADATA]
        return differing(arrays, attributes) or [METADATA]


def _user_block(path: Path) -> bytes:
    """What the user block of a file must hold: the hash of everything after it."""
    total = hashlib.blake2b(digest_size=16)
    with path.open("rb") as raw:
        raw.seek(USER_BLOCK_BYTES)
        while part := raw.read(1 << 20):
            total.update(part)
    return json.dumps({"blake2b": total.hexdigest()}).encode().ljust(USER_BLOCK_BYTES)


def _attribute(value: Any) -> Any:
    """An HDF5 attribute as the plain Python value that was stored."""
    if isinstance(value, str):
        nested = value[:1] in ("{", "[") or value == "null"
        return json.loads(value) if nested else value
    return value.item() if isinstance(value, np.generic) else value
