"""Turns the bytes of a chunk into values, for each form in which a store keeps them.

Promise: no more memory is taken than the chunk's shape says, whatever its bytes claim; bytes that
make no sense are a `ValueError`. There are four forms: `plain` (the values themselves), `blosc`
(what compressed Zarr chunks are), `gzip` (what compressed HDF5 chunks are: shuffled, deflated) and
two of text, `varying` (Zarr's `vlen-utf8`) and `fixed` (HDF5's).
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEXT_BYTES = 1 << 30
"""Most memory that the text of an array may take; numpy gives every string the longest one's."""

BLOSC_HEADER = struct.Struct("<4B3I")
"""Version, version of the codec, flags, type size; bytes of values, of a block, of all of it."""

BLOSC_ZSTD = 4
BLOSC_SPARE = 4096
"""By how much a compressed chunk may be longer than its values."""


def decode(form: str, raw: bytes, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """The `count` values (count,) of a chunk.

    Args:
        form: see above.
        raw: its bytes.
        dtype: of the values; of text, `str_`, or `bytes_` as long as each text of the form `fixed`.
        count: how many there are.

    Raises:
        ValueError: the bytes are no such chunk.
    """
    if form == "plain":
        _expect(len(raw), count * dtype.itemsize)
        return np.frombuffer(raw, dtype)
    if form == "blosc":
        return _blosc(raw, dtype, count)
    if form == "gzip":
        return _gzip(raw, dtype, count)
    if form == "fixed":
        _expect(len(raw), count * dtype.itemsize)
        return _text([text.decode("utf-8") for text in np.frombuffer(raw, dtype).tolist()])
    assert form == "varying", form
    return _text(_varying(raw, count))


def _expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise ValueError(f"{found} bytes, not {wanted}")


def _blosc(raw: bytes, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    from numcodecs import blosc

    if len(raw) < BLOSC_HEADER.size:
        raise ValueError(f"{len(raw)} bytes are no chunk")
    *_, flags, _, num_bytes, _, stored = BLOSC_HEADER.unpack_from(raw)
    _expect(num_bytes, count * dtype.itemsize)
    _expect(len(raw), stored)
    if flags >> 5 != BLOSC_ZSTD:
        raise ValueError(f"codec {flags >> 5}, not Zstandard")
    out = np.empty(count, dtype)
    try:
        blosc.decompress(raw, out)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return out


def _gzip(raw: bytes, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    inflater = zlib.decompressobj()
    wanted = count * dtype.itemsize
    try:
        values = inflater.decompress(raw, wanted + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    _expect(len(values), wanted)
    if not inflater.eof:
        raise ValueError("it goes on after its end")
    shuffled = np.frombuffer(values, np.uint8).reshape(dtype.itemsize, count)
    return np.ascontiguousarray(shuffled.T).reshape(-1).view(dtype)


def _varying(raw: bytes, count: int) -> list[str]:
    """Texts as `vlen-utf8` has them: how many, and each after its length."""
    size = struct.Struct("<I")
    if len(raw) < size.size * (count + 1) or size.unpack_from(raw)[0] != count:
        raise ValueError(f"{len(raw)} bytes do not begin with {count} texts")
    texts, place = [], size.size
    for _ in range(count):
        if place + size.size > len(raw):
            raise ValueError("a text goes past the end")
        start = place + size.size
        place = start + size.unpack_from(raw, place)[0]
        if place > len(raw):
            raise ValueError("a text goes past the end")
        texts.append(raw[start:place].decode("utf-8"))
    _expect(len(raw), place)
    return texts


def _text(texts: list[str]) -> NDArray[np.str_]:
    """Texts as numpy's own, which torch, pandas and h5py agree on."""
    longest = max(map(len, texts), default=0)
    if 4 * longest * len(texts) > TEXT_BYTES:
        raise ValueError(f"{len(texts)} texts of up to {longest} letters")
    return np.asarray(texts, dtype=np.str_)
