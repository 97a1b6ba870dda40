"""Zarr v3 on a local disk: a unit is a Zarr group, uncompressed unless asked otherwise.

Promise: the whole store is one Zarr hierarchy that `zarr.open_group` reads without this package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from antcache.store.backend import Attributes, Backend, LazyArray, read_json, strings
from antcache.store.format import MARK, Arrays, chunk_rows

METADATA = "zarr.json"


class _Strings:
    """A Zarr string array that reads as numpy `str_`, which torch, pandas and h5py agree on."""

    dtype = np.dtype(np.str_)

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self.shape = array.shape

    def __getitem__(self, index: Any) -> NDArray[np.str_]:
        return np.asarray(np.asarray(self._array[index]).tolist(), dtype=np.str_)


class ZarrBackend(Backend):
    """Units are folders with a `zarr.json`; publishing renames the folder into its place."""

    suffix = ""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `Backend`."""
        return MARK in read_json(path / METADATA).get("attributes", {})

    def group_attributes(self, key: str) -> Attributes:
        """See `Backend`."""
        if not (self.path / key / METADATA).is_file():
            return {}
        return dict(zarr.open_group(self.path / key, mode="r").attrs)

    def set_group_attributes(self, key: str, attributes: Attributes) -> None:
        """See `Backend`."""
        self.path.mkdir(parents=True, exist_ok=True)
        group = zarr.open_group(self.path, mode="a", zarr_format=3)
        if key:
            group = group.require_group(key)
        group.update_attributes(attributes)

    def groups(self, key: str) -> list[str]:
        """See `Backend`."""
        folder = self.path / key
        if not folder.is_dir():
            return []
        found = (p for p in folder.iterdir() if (p / METADATA).is_file() and not self._is_unit(p))
        return sorted(p.name for p in found)

    def _is_unit(self, path: Path) -> bool:
        # A unit's attributes hold its checksum, written with the rest before it was published.
        return (path / METADATA).is_file() and "checksum" in zarr.open_group(path, mode="r").attrs

    def _write(self, path: Path, arrays: Arrays, attributes: Attributes) -> None:
        unit = zarr.create_group(path, zarr_format=3, attributes=attributes)
        for name, array in arrays.items():
            text = strings(array)
            data = array.astype(np.dtypes.StringDType()) if text else array
            rows = chunk_rows(max(1, array[:1].size), 64 if text else array.itemsize)
            unit.create_array(
                name,
                data=data,
                chunks=(max(1, min(rows, len(array))), *array.shape[1:]),
                compressors=None,
                config={"write_empty_chunks": True},  # an absent chunk is damage, never zeros
            )

    def _open(self, path: Path) -> tuple[dict[str, LazyArray], Attributes]:
        unit = zarr.open_group(path, mode="r")
        arrays: dict[str, LazyArray] = {}
        for name, array in unit.arrays():
            text = array.dtype.kind in "TO"
            arrays[name] = cast(LazyArray, _Strings(array) if text else array)
        return arrays, dict(unit.attrs)
