"""Arrays of MATLAB's files of version 5 (`save -v6`, `-v7`), read without believing them.

Promise: of what a file holds, arrays of real numbers come out; cells, structures, objects and
functions are passed over by their length, and nothing of them is looked into. An array is made
where the bytes for exactly its shape are there; packed ones unpack to no more than is plausible for
the file's size. Whatever is wrong is a `ValueError` of one line. SciPy, which writes ours, takes as
much memory as a packed variable says, whatever its shape.
Form: "MAT-File Format", MathWorks, chapter 1, "Level 5".
"""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.untrusted import check_unpacked

HEADER_BYTES = 128
VERSION = 0x0100
MATRIX, COMPRESSED = 14, 15
"""Types of the elements of a file."""
INT8, INT32, UINT32 = 1, 5, 6
VALUES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
VALUES |= {12: "i8", 13: "u8"}
"""Types in which values lie in a file."""
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4"}
CLASSES |= {14: "i8", 15: "u8"}
"""Types of arrays; their values may lie in a smaller one."""
COMPLEX = 0x0800
MOST_VARIABLES = 10_000
MOST_DIMENSIONS = 32
HEAD_BYTES = 1 << 12
"""Of a packed variable, unpacked to see its name."""


@dataclass(frozen=True)
class Variable:
    """A variable as the file has it: its class and shape, and its bytes, which may be packed."""

    name: str
    kind: int
    shape: tuple[int, ...]
    data: memoryview
    packed: bool


def is_mat5(path: Path) -> bool:
    """Whether a file says that it is one of MATLAB's of version 5."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    return _order(head) is not None


def read_mat5(path: Path, wanted: Iterable[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The names of all variables, and the `wanted` ones that are there.

    Raises:
        OSError: there is no file, or it can't be read.
        ValueError: it is damaged, a wanted one is no array of real numbers, or unpacks to too much.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < HEADER_BYTES:
            raise ValueError("cut off within the header")
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    order = _order(bytes(data[:HEADER_BYTES]))
    if order is None:
        raise ValueError("not of MATLAB's version 5")
    try:
        found: dict[str, Variable] = {}
        for kind, content in _elements(data[HEADER_BYTES:], order):
            one = _variable(kind, content, order)
            if one is None:
                continue
            if one.name in found or len(found) == MOST_VARIABLES:
                raise ValueError("variables of the same name, or too many")
            found[one.name] = one
        chosen = [found[name] for name in wanted if name in found]
        check_unpacked(size, sum(_unpacked_size(one.data, order) for one in chosen if one.packed))
        return list(found), {one.name: _array(one, order) for one in chosen}
    except (struct.error, zlib.error, OverflowError) as error:
        raise ValueError(f"damaged ({error})") from error


def _order(head: bytes) -> str | None:
    """`<` or `>`, None if the header is not that of this version."""
    order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
    if order is None or struct.unpack(f"{order}H", head[124:126]) != (VERSION,):
        return None
    return order


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of each element, one after the other."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack(f"{order}II", data[at : at + 8])
        begin, end = at + 8, len(data)
        at = begin + size + (0 if kind == COMPRESSED else -size % 8)
        if kind >> 16:  # a small one lies in its own tag
            kind, size, begin, at, end = kind & 0xFFFF, kind >> 16, begin - 4, begin, begin
        if begin + size > min(end, len(data)):
            raise ValueError("cut off: an element that is longer than what is left")
        yield kind, data[begin : begin + size]


def _variable(kind: int, content: memoryview, order: str) -> Variable | None:
    """What an element of the file says that it is; None for what is no variable."""
    if kind == MATRIX:
        return _described(content, content, order, packed=False)
    if kind == COMPRESSED:
        head = memoryview(zlib.decompressobj().decompress(content, HEAD_BYTES))
        if struct.unpack(f"{order}I", head[:4]) != (MATRIX,):
            raise ValueError("something packed that is no variable")
        return _described(head[8:], content, order, packed=True)
    return None


def _described(head: memoryview, data: memoryview, order: str, *, packed: bool) -> Variable:
    flags, shape, name = _parts(head, order, 3)
    if (flags[0], shape[0], name[0]) != (UINT32, INT32, INT8) or len(flags[1]) != 8:
        raise ValueError("a variable without a class, a shape or a name")
    if not 8 <= len(shape[1]) <= 4 * MOST_DIMENSIONS or len(shape[1]) % 4:
        raise ValueError("a variable of no shape")
    kind = struct.unpack(f"{order}I", flags[1][:4])[0]
    sizes = struct.unpack(f"{order}{len(shape[1]) // 4}i", shape[1])
    if min(sizes) < 0:
        raise ValueError("a variable of no shape")
    text = bytes(name[1]).decode("ascii", "backslashreplace")
    return Variable(text, kind, sizes, data, packed)


def _parts(content: memoryview, order: str, count: int) -> list[tuple[int, memoryview]]:
    """The first elements of a variable."""
    elements = _elements(content, order)
    found = []
    for _ in range(count):
        one = next(elements, None)
        if one is None:
            raise ValueError("a variable that lacks a part")
        found.append(one)
    return found


def _unpacked_size(packed: memoryview, order: str) -> int:
    """Bytes that a packed variable says it unpacks to."""
    tag = zlib.decompressobj().decompress(packed, 8)
    return int(struct.unpack(f"{order}II", tag)[1])


def _array(one: Variable, order: str) -> NDArray[Any]:
    """The array that a variable is."""
    kind = CLASSES.get(one.kind & 0xFF)
    if kind is None or one.kind & COMPLEX:
        raise ValueError(f"{one.name} is no array of real numbers")
    content = one.data
    if one.packed:
        size = _unpacked_size(one.data, order)
        content = memoryview(zlib.decompressobj().decompress(one.data, 8 + size))[8:]
        if len(content) != size:
            raise ValueError(f"{one.name} unpacks to {len(content)} bytes, not to {size}")
    stored, values = _parts(content, order, 4)[3]
    if stored not in VALUES:
        raise ValueError(f"{one.name} has values of an unknown type")
    dtype = np.dtype(order + VALUES[stored])
    if math.prod(one.shape) * dtype.itemsize != len(values):
        raise ValueError(f"an array of {dtype} and shape {one.shape} with {len(values)} bytes")
    return np.frombuffer(values, dtype).reshape(one.shape, order="F").astype(kind, copy=False)
