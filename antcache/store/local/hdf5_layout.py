"""What an HDF5 unit says of its arrays, believed only where the bytes are there.

Promise: what comes out is an array of a kind that this package writes, whose bytes lie in the file
itself and are covered by its user block. HDF5 can do much more: datasets whose values lie in other
files, or are put together from them, links out of the file, filters that are loaded from a disk.
All that is refused before a value is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5l, h5o, h5s, h5t, h5z

from antcache.store.backend import Attributes
from antcache.store.format import TEXT_BYTES
from antcache.store.local.hdf5_seal import UserBlock, merged
from antcache.store.reading.pieces import ArrayLayout, Piece

MOST_ARRAYS, MOST_ATTRIBUTES = 64, 4096
METADATA_BYTES = 2 * TEXT_BYTES
"""Most that a file holds beside values: attributes, and what HDF5 needs to find them."""

WHERE = "/dev/fd/{}"
"""Opens a file that is open already: what was checked, whatever its name leads to now."""

PLAIN = (h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.STRING)
"""Kinds of values that a store has."""

FILTERS = {(): "plain", (h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE): "gzip"}


def contents(
    handle: int, block: UserBlock, path: Path
) -> tuple[dict[str, ArrayLayout], Attributes]:
    """Layout of each array of an open file whose metadata are intact, and its attributes.

    Args:
        handle: the open file.
        block: its user block.
        path: opens it again where the system has no `/dev/fd`.

    Raises:
        ValueError, OSError, ...: it is no unit of ours.
    """
    if sum(length for _, length in block.metadata.ranges) > METADATA_BYTES:
        raise ValueError("more attributes than a store has")
    again = Path(WHERE.format(handle))
    # Without the library's lock: a published file never changes, and not every file system has any.
    with h5py.File(again if again.exists() else path, "r", locking=False) as file:
        names = list(_names(file.id))
        if set(names) != block.proofs.keys():
            raise ValueError("other arrays than its user block names")
        arrays = {name: _layout(h5o.open(file.id, name.encode()), name, block) for name in names}
        return arrays, dict(_attributes(file))


def _names(file: h5py.h5f.FileID) -> Iterator[str]:
    """Names of the datasets of a file; raises ValueError if there is anything else."""
    root = h5py.h5g.open(file, b"/")
    if root.get_num_objs() > MOST_ARRAYS:
        raise ValueError(f"{root.get_num_objs()} arrays")
    for number in range(root.get_num_objs()):
        name = root.get_objname_by_idx(number)
        if root.links.get_info(name).type != h5l.TYPE_HARD:
            raise ValueError(f"{name.decode(errors='replace')!r} is a link")
        if h5o.get_info(root, name).type != h5o.TYPE_DATASET:
            raise ValueError(f"{name.decode(errors='replace')!r} is no array")
        yield name.decode()


def _layout(dataset: h5d.DatasetID, name: str, block: UserBlock) -> ArrayLayout:
    settings, space, kind = dataset.get_create_plist(), dataset.get_space(), dataset.get_type()
    if settings.get_external_count() or settings.get_layout() not in (h5d.CONTIGUOUS, h5d.CHUNKED):
        raise ValueError(f"the values of {name} do not lie in the file")
    if space.get_simple_extent_type() != h5s.SIMPLE:
        raise ValueError(f"{name} has no shape")
    filters = tuple(settings.get_filter(n)[0] for n in range(settings.get_nfilters()))
    form, shape = FILTERS[filters], tuple(map(int, space.get_simple_extent_dims()))
    stored = _type(kind, name)
    if stored.kind == "S":
        if form != "plain":
            raise ValueError(f"{name} is compressed text")
        form = "fixed"
    proof = block.proofs[name]
    if settings.get_layout() == h5d.CONTIGUOUS:
        if form == "gzip":
            raise ValueError(f"{name} is compressed in one piece")
        num_bytes = math.prod(shape) * stored.itemsize
        offset = dataset.get_offset() if num_bytes else None  # None where no value was written
        places = [] if offset is None else [(int(offset), num_bytes)]
        rows, padded = max(1, shape[0]), False
    else:
        rows, places, padded = *_chunks(dataset, settings.get_chunk(), shape, name), True
    if proof.ranges != merged(places):
        raise ValueError(f"{name} does not lie where its user block says")
    return ArrayLayout(
        shape=shape,
        dtype=np.dtype(np.str_) if stored.kind == "S" else stored,
        stored=stored,
        form=form,
        rows=rows,
        pieces=tuple(Piece(start, length, proof) for start, length in places),
        padded=padded,
    ).check()


def _type(kind: h5t.TypeID, name: str) -> np.dtype[Any]:
    """Type of the values, which is a plain one of numpy's."""
    if kind.get_class() not in PLAIN or kind.get_size() > TEXT_BYTES:
        raise ValueError(f"{name} is of a type that no store has")
    if kind.get_class() == h5t.STRING:
        if kind.is_variable_str():
            raise ValueError(f"{name} is text that lies elsewhere")
        return np.dtype(f"S{kind.get_size()}")
    found: np.dtype[Any] = np.dtype(kind.dtype)
    if found.kind not in "biuf" or not kind.equal(h5t.py_create(found)):
        raise ValueError(f"{name} is of a type that no store has")
    return found


def _chunks(
    dataset: h5d.DatasetID, chunk: tuple[int, ...], shape: tuple[int, ...], name: str
) -> tuple[int, list[tuple[int, int]]]:
    """Rows of a chunk, and where each chunk lies, in order."""
    rows = int(chunk[0])
    wanted = -(-shape[0] // rows) if min(shape[1:], default=1) else 0
    if tuple(chunk[1:]) != shape[1:] or dataset.get_num_chunks() != wanted:
        raise ValueError(f"{name} has other chunks than its shape asks for")
    places: dict[int, tuple[int, int]] = {}
    for number in range(wanted):
        found = dataset.get_chunk_info(number)
        if found.filter_mask:
            raise ValueError(f"{name} has chunks that are stored otherwise")
        places[found.chunk_offset[0] // rows] = (found.byte_offset, found.size)
    return rows, [places[number] for number in range(wanted)]


def _attributes(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Attributes of the file, as the plain Python values that were stored."""
    count = h5a.get_num_attrs(file.id)
    if count > MOST_ATTRIBUTES:
        raise ValueError(f"{count} attributes")
    left, values = TEXT_BYTES, file.attrs  # the property opens the root anew each time
    for number in range(count):
        one = h5a.open(file.id, index=number)
        name, kind = one.name.decode(), one.get_type()
        left -= max(one.get_storage_size(), kind.get_size())
        if one.shape != () or kind.get_class() not in PLAIN or left < 0:
            raise ValueError(f"the attribute {name!r} is none that a store has")
        yield name, _value(values[name])


def needs_json(value: Any) -> bool:
    """Whether an attribute is stored as JSON text; so is text that would be taken for it."""
    return isinstance(value, dict | list) or value is None or _is_json(value)


def _is_json(value: Any) -> bool:
    return isinstance(value, str) and (value[:1] in ("{", "[", '"') or value == "null")


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        return json.loads(value) if _is_json(value) else value
    return value.item() if isinstance(value, np.generic) else value
