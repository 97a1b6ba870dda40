"""Forges units and groups whose hashes are all right: whoever writes a store can seal anything.

Promise: what these functions write passes every hash and seal of the format, whatever it says.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from antcache.store import Store
from antcache.store.format import digest
from antcache.store.local.hdf5_seal import Ranges, sealed_block
from antcache.store.seal import attributes_of, sealed

BLOCK_BYTES = 4096
Files = dict[str, bytes]


def group(store: Store, key: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Seal other attributes of a group."""
    text = store.backend.group_text(key)
    assert text is not None
    attributes = attributes_of(text)
    change(attributes)
    attributes.setdefault("key", key)
    own_key = attributes.pop("key")
    path = Path(store.path) / key / store.backend.group_file
    around = {"zarr_format": 3, "node_type": "group"} if store.kind == "zarr" else None
    own = attributes if own_key is None else {**attributes, "key": own_key}
    path.write_bytes(sealed(own, around))


def unit(store: Store, key: str, arrays: dict[str, Any] | None = None, **attributes: Any) -> None:
    """Seal other arrays or attributes of a unit; its checksums speak of the new arrays."""
    lazy, there = store.backend.open(key)
    values = {name: np.array(array[...]) for name, array in lazy.items()}
    kept = {**there, **attributes}
    compressed = store.kind == "zarr" and key.startswith("features/flow")
    new = values if arrays is None else {**values, **arrays}
    new = {name: array for name, array in new.items() if array is not None}
    store.backend.publish(key, new, kept, overwrite=True, compressed=compressed)


def zarr_unit(store: Store, key: str, change: Callable[[Files, dict[str, Any]], None]) -> None:
    """Seal other files of a Zarr unit, or other attributes."""
    folder = store.backend.location(key)
    names = [p for p in folder.rglob("*") if p.is_file() and p != folder / "zarr.json"]
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in names}
    attributes = attributes_of((folder / "zarr.json").read_bytes())
    attributes.pop("files")
    change(files, attributes)
    for path in names:
        path.unlink()
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(value)
    listed = attributes.pop("files", {name: digest(value) for name, value in files.items()})
    text = sealed({**attributes, "files": listed}, {"zarr_format": 3, "node_type": "group"})
    (folder / "zarr.json").write_bytes(text)


def described(files: Files, name: str, **changes: Any) -> None:
    """Change the `zarr.json` of an array."""
    fields = json.loads(files[f"{name}/zarr.json"])
    files[f"{name}/zarr.json"] = json.dumps({**fields, **changes}).encode()


def hdf5_unit(
    store: Store,
    key: str,
    build: Callable[[h5py.File], None],
    ranges: dict[str, Ranges] | None = None,
) -> None:
    """Seal an HDF5 unit in which `build` changes what it likes.

    Args:
        store: an HDF5 store.
        key: the unit; its arrays and attributes are there before.
        build: changes the open file.
        ranges: where the block says that values lie; by default as far as HDF5 tells.
    """
    path = store.backend.location(key)
    image = io.BytesIO()
    with h5py.File(image, "w", libver="latest", userblock_size=BLOCK_BYTES) as file:
        with h5py.File(path) as old:
            for name in old:
                old.copy(name, file)
            for name, value in old.attrs.items():
                file.attrs[name] = value
        build(file)
        file.flush()
        found = _ranges(file) if ranges is None else ranges
    path.write_bytes(image.getvalue())
    seal_file(path, found)


def seal_file(path: Path, ranges: dict[str, Ranges]) -> None:
    """Give an HDF5 unit the user block that goes with all that follows it."""
    with path.open("r+b") as file:
        file.write(sealed_block(file.fileno(), BLOCK_BYTES, ranges).ljust(BLOCK_BYTES))


def _ranges(file: h5py.File) -> dict[str, Ranges]:
    """Where values lie, of what is a dataset of the file itself."""
    found: dict[str, Ranges] = {}
    for name in file:
        link = file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            found[name] = []
            continue
        own = file[name].id
        if own.get_create_plist().get_layout() == h5py.h5d.CHUNKED:
            chunks = [own.get_chunk_info(n) for n in range(own.get_num_chunks())]
            places = [(chunk.byte_offset, chunk.size) for chunk in chunks]
        else:
            outside = own.get_create_plist().get_external_count()
            offset = None if outside else own.get_offset()
            places = [] if offset is None else [(offset, file[name].nbytes)]
        found[name] = [(start - BLOCK_BYTES, length) for start, length in sorted(places)]
    return found
