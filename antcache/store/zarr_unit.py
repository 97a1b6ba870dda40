"""A unit in Zarr v3: how it is written, read and checked, the same on a local disk and at a URL.

Promise: a unit is a Zarr group that `zarr.open_group` reads. Its `zarr.json` is sealed and lists
every other file of the unit with its hash: a flipped bit or a lost chunk is found and named. What
is read of one is believed only where the bytes are there: an array is of a kind that this package
writes, its chunks are listed with their hashes and are as long as its shape says. Whatever else a
`zarr.json` claims is refused before memory is taken for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from antcache.store.backend import METADATA, Attributes
from antcache.store.faults import damaged, lost
from antcache.store.format import Arrays, chunk_rows, digest, is_text, join
from antcache.store.reading.codecs import BLOSC_SPARE
from antcache.store.reading.pieces import ArrayLayout, Piece
from antcache.store.reading.proof import Proof
from antcache.store.seal import attributes_of, intact, sealed

ZARR_JSON = "zarr.json"
FILES = "files"
"""Attribute of a unit: the hash of each of its files but the one that this attribute is in."""

FILE = re.compile(r"([A-Za-z0-9_]+)/(zarr\.json|c(/[0-9]+)+)")
HASH = re.compile(r"[0-9a-f]{32}")
TYPES = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
FORMS = {("bytes",): "plain", ("bytes", "blosc"): "blosc", ("vlen-utf8",): "varying"}
"""How values are stored, by the names of an array's codecs."""
GROUP = {"zarr_format": 3, "node_type": "group"}


WRITTEN_AT_ONCE = 2
"""Chunks that are held encoded: while one is compressed, another is."""


def encode(
    arrays: Arrays, attributes: Attributes, *, compressed: bool
) -> Iterator[tuple[str, bytes]]:
    """Files of a unit with their names, one after another, so that a few chunks are held at once;
    the one that makes it a unit, `zarr.json`, comes last."""
    # Only writing needs Zarr, which takes longer to load than most commands to read.
    import zarr
    from zarr.codecs import BloscCodec
    from zarr.storage import MemoryStore

    kept: dict[str, Any] = {}
    hashes: dict[str, str] = {}

    def taken() -> Iterator[tuple[str, bytes]]:
        for file in sorted(kept.keys() - {ZARR_JSON}):  # the group's own is ours to write
            value: bytes = kept.pop(file).to_bytes()
            hashes[file] = digest(value)
            yield file, value

    unit = zarr.create_group(MemoryStore(kept), zarr_format=3)
    for name, given in arrays.items():
        text = is_text(given)
        array = given.astype(np.dtypes.StringDType()) if text else given
        rows = chunk_rows(len(array), given[:1].size * (64 if text else given.itemsize))
        stored = unit.create_array(
            name,
            shape=array.shape,
            dtype=array.dtype,
            chunks=(rows, *(max(1, n) for n in array.shape[1:])),
            compressors=BloscCodec(cname="zstd", shuffle="bitshuffle") if compressed else None,
            config={"write_empty_chunks": True},  # an absent chunk is damage, never zeros
        )
        yield from taken()
        for start in range(0, len(array), rows * WRITTEN_AT_ONCE):
            part = slice(start, start + rows * WRITTEN_AT_ONCE)
            stored[part] = array[part]
            yield from taken()
    yield ZARR_JSON, sealed({**attributes, FILES: dict(sorted(hashes.items()))}, GROUP)


def damaged_parts(
    read: Callable[[], bytes], digests: Callable[[Collection[str]], Iterable[tuple[str, str]]]
) -> list[str]:
    """What of a unit is not as it was written.

    Args:
        read: gives its `zarr.json`; raises FileNotFoundError if there is none.
        digests: gives the digest of each of these files that is there, with its name.

    Raises:
        OSError: a file can't be read now.
    """
    try:
        _, files = unit_of(read(), "")
    except OSError as error:
        if not lost(error):
            raise
        return [METADATA]
    right = {name for name, found in digests(files.keys()) if found == files[name]}
    return sorted({name.partition("/")[0] for name in files.keys() - right})


def unit_of(text: bytes, where: str) -> tuple[Attributes, dict[str, str]]:
    """Attributes of a unit, and the hashes of its files by name, out of its `zarr.json`.

    Raises:
        DamagedStore: they are not as they were written, or name what is no file of a unit.
    """
    if not intact(text):
        raise damaged(f"{where}/{ZARR_JSON}", "not as it was written")
    attributes = attributes_of(text)
    files = attributes.pop(FILES, None)
    if not isinstance(files, dict) or not all(
        FILE.fullmatch(name) and isinstance(value, str) and HASH.fullmatch(value)
        for name, value in files.items()
    ):
        raise damaged(f"{where}/{ZARR_JSON}", "no list of the unit's files")
    return attributes, files


def layouts(
    files: Mapping[str, str],
    read: Callable[[str], bytes],
    size: Callable[[str], int],
    key: str,
    where: str,
) -> dict[str, ArrayLayout]:
    """Layout of each array of a unit.

    Args:
        files: hash of each of its files.
        read: gives a short file.
        size: gives the length of a file; raises FileNotFoundError if there is none.
        key: of the unit: the folder that its files are in.
        where: of the unit, for messages.

    Raises:
        DamagedStore: a file is gone, or an array is not what it claims to be.
    """
    found = {}
    for name in sorted({file.partition("/")[0] for file in files}):
        described = f"{name}/{ZARR_JSON}"
        try:
            text = read(described)
            if digest(text) != files.get(described):
                raise damaged(f"{where}/{described}", "not as it was written")
            own = {f: h for f, h in files.items() if f.startswith(f"{name}/c/")}
            sizes = {file: size(file) for file in own}
            found[name] = _layout(name, json.loads(text), own, sizes, key)
        except FileNotFoundError as error:
            raise damaged(where, f"a file of {name} is gone") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise damaged(f"{where}/{described}", f"{type(error).__name__}: {error}") from error
    return found


def _layout(
    name: str,
    fields: Mapping[str, Any],
    files: Mapping[str, str],
    sizes: Mapping[str, int],
    key: str,
) -> ArrayLayout:
    """Layout of the array `name`, whose `zarr.json` says `fields`; raises ValueError and others."""
    shape, chunk = (
        _ints(fields["shape"]),
        _ints(fields["chunk_grid"]["configuration"]["chunk_shape"]),
    )
    form = FORMS[tuple(str(codec["name"]) for codec in fields["codecs"])]
    kind = str(fields["data_type"])
    if (
        (fields["zarr_format"], fields["node_type"]) != (3, "array")
        or fields["chunk_key_encoding"]["name"] != "default"
        or fields.get("storage_transformers")
        or len(chunk) != len(shape)
        or any(c < s for c, s in zip(chunk[1:], shape[1:], strict=True))
        or (kind == "string") != (form == "varying")
        or not (kind == "string" or TYPES.fullmatch(kind))
    ):
        raise ValueError("an array of a kind that no store has")
    for codec in fields["codecs"]:
        if codec.get("configuration", {}).get("endian", "little") != "little":
            raise ValueError("values in another order of bytes")
    dtype = np.dtype(np.str_) if kind == "string" else np.dtype(kind).newbyteorder("<")
    zeros = "/0" * (len(shape) - 1)

    names = [f"{name}/c/{number}{zeros}" for number in range(len(files))]
    if files.keys() != set(names):
        raise ValueError("other chunks than its shape asks for")
    layout = ArrayLayout(
        shape=shape,
        dtype=dtype,
        stored=dtype,
        form=form,
        rows=chunk[0],
        pieces=tuple(
            Piece(0, sizes[f], Proof(join(key, f), ((0, sizes[f]),), files[f])) for f in names
        ),
    ).check()
    longest = layout.rows * layout.row_bytes + BLOSC_SPARE
    if form == "blosc" and any(piece.length > longest for piece in layout.pieces):
        raise ValueError("a compressed chunk that is longer than its values")
    return layout


def _ints(values: Any) -> tuple[int, ...]:
    """Lengths, which are whole numbers and nothing that counts as one."""
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError(f"no shape: {values!r:.80}")
    return tuple(values)
