"""Our answers to the names in pickles of numpy arrays: the arrays, and plain values beside them.

Promise: numpy's own constructors for pickles never run. An array is the bytes that the file has for
it, under the type and shape that it states, both checked: no objects, no records, no metadata, and
never more values than bytes.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.interop.arrays.restricted_pickle import (
    Call,
    Machine,
    Name,
    Pending,
    Refusal,
    plain,
    short,
)

DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[US][1-9]\d{0,3})")
"""Types of values in arrays: truth values, integers, floating point numbers, text, bytes."""

LARGEST = 1 << 48
"""No length, offset or stride is larger."""


def is_size(value: object) -> bool:
    """Whether `value` may be a length, an offset or a stride."""
    return type(value) is int and 0 <= value <= LARGEST


# Plain values


def _encode(machine: Machine, text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes are written as latin1")
    machine.budget.spend(len(text))
    return text.encode("latin1")


def _bytearray(machine: Machine, value: bytes | str = b"", encoding: str = "latin1") -> bytearray:
    if type(value) is str:
        value = _encode(machine, value, encoding)
    if not isinstance(value, bytes):
        raise ValueError("a bytearray is made of bytes")
    machine.budget.spend(len(value))
    return bytearray(value)


def _set(machine: Machine, members: list[Any]) -> set[Any]:
    if type(members) is not list:
        raise ValueError("a set is made of a list")
    machine.budget.spend(8 * len(members))
    return set(map(plain, members))


# numpy


def _dtype(machine: Machine, text: str, align: object = False, copy: object = False) -> Pending:
    if type(text) is not str or not DTYPE.fullmatch(text):
        raise Refusal(
            "an array of other values than numbers and text", f"numpy dtype {short(text)}"
        )
    return Pending(partial(_build_dtype, np.dtype(text)))


def _build_dtype(dtype: np.dtype[Any], state: Any) -> np.dtype[Any]:
    """`dtype` in the byte order of (version, order, subarray, names, fields, ..., [metadata])."""
    _, order, *parts = state
    if order not in ("<", ">", "=", "|") or any(part is not None for part in parts[:3]):
        raise Refusal("an array of records")
    if any(type(part) is not int for part in parts[3:6]) or any(p is not None for p in parts[6:]):
        raise Refusal("a numpy dtype with metadata")
    return dtype.newbyteorder(order)


def _reconstruct(machine: Machine, kind: Name, shape: object, code: object) -> Pending:
    if kind != Name("numpy ndarray"):
        raise ValueError("only plain arrays are rebuilt")
    return Pending(partial(_build_array, machine))


def _build_array(machine: Machine, state: Any) -> NDArray[Any]:
    """The array of ([version], shape, dtype, Fortran order, data)."""
    shape, dtype, fortran, data = state[-4:]
    if type(data) is str:  # a pickle of Python 2
        data = _encode(machine, data, "latin1")
    return _array(data, dtype, shape, "F" if fortran else "C")


def _from_buffer(
    machine: Machine, data: Any, dtype: Any, shape: Any, order: str, axes: Any = None
) -> NDArray[Any]:
    if order != "K":
        return _array(data, dtype, shape, order)
    array = _array(data, dtype, shape, "C")
    return array if axes is None else array.transpose(axes)


def _array(data: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    """`data` as it is, or a refusal unless it is exactly what type and shape say."""
    if not isinstance(dtype, np.dtype):
        raise ValueError("an array without a type")
    if not isinstance(data, bytes | bytearray):
        raise Refusal("an array of objects")
    if type(shape) is not tuple or not all(map(is_size, shape)):
        raise ValueError("a shape that is none")
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(data):
        raise Refusal(
            "an array of another size than its data",
            f"shape {short(shape)} of {dtype} with {len(data)} bytes",
        )
    if order not in ("C", "F"):
        raise ValueError("an unknown order of values")
    flat = np.frombuffer(data, dtype) if data else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(machine: Machine, dtype: Any, data: Any) -> object:
    if type(data) is str:
        data = _encode(machine, data, "latin1")
    machine.budget.spend(8)
    return _array(data, dtype, (), "C").item()


MARKS = {"numpy ndarray"}
"""Names that are only named."""

CALLS: dict[str, Call] = {
    "numpy dtype": _dtype,
    **{
        f"{core}.{module} {name}": call
        for core in ("numpy.core", "numpy._core")
        for module, name, call in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    "_codecs encode": _encode,
    **{
        f"{module} {name}": call
        for module in ("builtins", "__builtin__")
        for name, call in (
            ("bytes", lambda machine: b""),
            ("bytearray", _bytearray),
            ("set", _set),
            ("frozenset", lambda machine, members: frozenset(_set(machine, members))),
        )
    },
    "collections OrderedDict": lambda machine: {},
}
"""Names that are called, and our own answers; they get the machine and the pickle's arguments."""
