"""HDF5: a folder with one file per unit, so that it commits exactly as Zarr does.

Promise: every unit is a plain HDF5 file, its arrays contiguous datasets, its attributes attributes
of the file's root (lists and objects as JSON text). A group is a folder; its attributes lie in
`attributes.json` beside the files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from antcache.errors import AlreadyExists
from antcache.store.backend import STAGING, Attributes, Backend, LazyArray, read_json, strings
from antcache.store.format import MARK, Arrays

ATTRIBUTES = "attributes.json"


class _Dataset:
    """A dataset that opens its file when it is indexed: nothing stays open, forks are safe."""

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        self._path = path
        self._name = dataset.name
        self._text = h5py.check_string_dtype(dataset.dtype) is not None
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype = np.dtype(np.str_) if self._text else dataset.dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        with h5py.File(self._path, "r") as file:
            dataset = file[self._name]
            if self._text:
                return np.asarray(dataset.asstr()[index], dtype=np.str_)
            return np.asarray(dataset[index])


class Hdf5Backend(Backend):
    """Units are `.h5` files; publishing links the file into its place."""

    suffix = ".h5"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `Backend`."""
        return MARK in read_json(path / ATTRIBUTES)

    def group_attributes(self, key: str) -> Attributes:
        """See `Backend`."""
        return read_json(self.path / key / ATTRIBUTES)

    def set_group_attributes(self, key: str, attributes: Attributes) -> None:
        """See `Backend`."""
        folder = self.path / key
        folder.mkdir(parents=True, exist_ok=True)
        merged = {**self.group_attributes(key), **attributes}
        with self._staging() as staging:
            staged = staging / ATTRIBUTES
            staged.write_text(json.dumps(merged, indent=1), "utf-8")
            staged.replace(folder / ATTRIBUTES)

    def groups(self, key: str) -> list[str]:
        """See `Backend`."""
        folder = self.path / key
        if not folder.is_dir():
            return []
        return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != STAGING)

    def _is_unit(self, path: Path) -> bool:
        return path.is_file() and path.suffix == self.suffix

    def _rename(self, staged: Path, target: Path) -> None:
        # Renaming a file would silently replace another process's; linking refuses to.
        try:
            os.link(staged, target)
        except FileExistsError as error:
            raise AlreadyExists("already in the store", where=target) from error

    def _write(self, path: Path, arrays: Arrays, attributes: Attributes) -> None:
        with h5py.File(path, "w", libver="latest") as file:
            for name, array in arrays.items():
                if strings(array):
                    file.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
                else:
                    file.create_dataset(name, data=array)
            for name, value in attributes.items():
                nested = isinstance(value, dict | list) or value is None
                file.attrs[name] = json.dumps(value) if nested else value

    def _open(self, path: Path) -> tuple[dict[str, LazyArray], Attributes]:
        with h5py.File(path, "r") as file:
            arrays: dict[str, LazyArray] = {n: _Dataset(path, d) for n, d in file.items()}
            return arrays, {name: _attribute(value) for name, value in file.attrs.items()}


def _attribute(value: Any) -> Any:
    """An HDF5 attribute as the plain Python value that was stored."""
    if isinstance(value, str):
        nested = value[:1] in ("{", "[") or value == "null"
        return json.loads(value) if nested else value
    return value.item() if isinstance(value, np.generic) else value
