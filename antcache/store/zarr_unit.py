"""How a unit is written in Zarr v3, and checked: the same on a local disk and at a URL.

Promise: a unit is a Zarr group that `zarr.open_group` reads. Its `zarr.json` is sealed and lists
every other file of the unit with its hash: a flipped bit or a lost chunk is found and named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from antcache.store.backend import METADATA, Attributes, strings
from antcache.store.faults import lost
from antcache.store.format import Arrays, chunk_rows, digest
from antcache.store.seal import sealed
from antcache.store.zarr_layout import FILES, ZARR_JSON, unit_of

GROUP = {"zarr_format": 3, "node_type": "group"}


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
        _, files = unit_of(read(ZARR_JSON), "")
    except OSError as error:
        if not lost(error):
            raise
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
