"""How a unit is written in Zarr v3, and opened: the same on a local disk and at a URL.

Promise: a unit is a Zarr group that `zarr.open_group` reads. Its `zarr.json` is sealed and lists
every other file of the unit with its hash: a flipped bit or a lost chunk is found and named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from antcache.store.backend import METADATA, Attributes, damaged, lost, strings
from antcache.store.format import Arrays, chunk_rows, digest
from antcache.store.seal import attributes_of, intact, sealed

ZARR_JSON = "zarr.json"
FILES = "files"
"""Attribute of a unit: the hash of each of its files but the one that this attribute is in."""

GROUP = {"zarr_format": 3, "node_type": "group"}
PLAIN = [{"name": "bytes", "configuration": {"endian": "little"}}]
"""Codecs of an array whose files hold its values and nothing else."""

Open = Callable[[str], "zarr.Array[Any]"]


def encode(arrays: Arrays, attributes: Attributes, *, compressed: bool) -> dict[str, bytes]:
    """Files of a unit by name; the one that makes it a unit, `zarr.json`, comes last."""
    kept: dict[str, Any] = {}
    unit = zarr.create_group(MemoryStore(kept), zarr_format=3)
    for name, array in arrays.items():
        text = strings(array)
        rows = chunk_rows(len(array), array[:1].size * (64 if text else array.itemsize))
        unit.create_array(
            name,
            data=array.astype(np.dtypes.StringDType()) if text else array,
            chunks=(rows, *(max(1, n) for n in array.shape[1:])),
            compressors=BloscCodec(cname="zstd", shuffle="bitshuffle") if compressed else None,
            config={"write_empty_chunks": True},  # an absent chunk is damage, never zeros
        )
    kept.pop(ZARR_JSON)
    files = {name: value.to_bytes() for name, value in sorted(kept.items())}
    hashes = {name: digest(value) for name, value in files.items()}
    files[ZARR_JSON] = sealed({**attributes, FILES: hashes}, GROUP)
    return files


def damage(
    read: Callable[[str], bytes], digest_of: Callable[[str], str] | None = None
) -> list[str]:
    """What of a unit is not as it was written.

    Args:
        read: gives a file; raises FileNotFoundError if there is none.
        digest_of: gives a file's digest, for those who needn't read it at once.

    Raises:
        OSError: a file can't be read now.
    """
    digest_of = digest_of or (lambda name: digest(read(name)))
    try:
        text = read(ZARR_JSON)
    except OSError as error:
        if not lost(error):
            raise
        return [METADATA]
    files = attributes_of(text).get(FILES)
    if not intact(text) or files is None:
        return [METADATA]
    wrong = set()
    for name, wanted in files.items():
        try:
            right = digest_of(name) == wanted
        except OSError as error:
            if not lost(error):
                raise
            right = False
        if not right:
            wrong.add(name.partition("/")[0])
    return sorted(wrong)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the values of an array are, by its `zarr.json`.

    Attributes:
        shape: of the whole array.
        dtype: of its values; text is `str_`.
        chunk_rows: rows of a chunk.
        chunks: names of its files, in order, where they hold whole rows and nothing but values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int
    chunks: tuple[str, ...] | None

    @classmethod
    def of(cls, name: str, fields: Mapping[str, Any]) -> Layout:
        """Layout of the array `name`, whose `zarr.json` says `fields`."""
        shape = tuple(fields["shape"])
        kind = fields["data_type"]
        dtype = np.dtype(np.str_) if kind == "string" else np.dtype(kind)
        chunk = fields["chunk_grid"]["configuration"]["chunk_shape"]
        names = None
        if (
            fields["codecs"] == PLAIN
            and fields["chunk_key_encoding"]["name"] == "default"
            and all(c >= s for c, s in zip(chunk[1:], shape[1:], strict=True))
            and min(shape[1:], default=1) > 0
        ):
            zeros = "/0" * (len(shape) - 1)
            names = tuple(f"{name}/c/{i}{zeros}" for i in range(-(-shape[0] // chunk[0])))
        return cls(shape=shape, dtype=dtype, chunk_rows=chunk[0], chunks=names)


class ApiArray:
    """An array that is read through Zarr, which opens it in each process when it is first read."""

    def __init__(self, layout: Layout, open_array: Open, where: str) -> None:
        self.shape = layout.shape
        self.dtype = layout.dtype
        self.chunk_rows = layout.chunk_rows
        self._open_array = open_array
        self._where = where
        self._opened: tuple[int, zarr.Array[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open_array(self._where))
        try:
            found = np.asarray(self._opened[1][index])
        except (ValueError, RuntimeError, OSError) as error:  # what codecs raise
            raise damaged(self._where, f"{type(error).__name__}: {error}") from error
        if self.dtype.kind == "U":  # numpy's own text, which torch, pandas and h5py agree on
            return np.asarray(found.tolist(), dtype=np.str_)
        return found


def missing(files: Iterable[str], there: Callable[[str], bool], where: object) -> None:
    """Raise `DamagedStore` if a file is gone: Zarr would read zeros in its place."""
    gone = [name for name in files if not there(name)]
    if gone:
        raise damaged(where, f"{len(gone)} files are gone, {gone[0]} first")


def open_local(path: str) -> zarr.Array[Any]:
    """`ApiArray`'s array on a local disk."""
    array = zarr.open_array(Path(path), mode="r")
    assert isinstance(array, zarr.Array)
    return array
