"""Pickles with arrays of numpy and tensors of torch, read as numpy arrays and plain values.

Promise: as for `restricted_pickle` and `pickled_arrays`, nothing of a file runs; torch is neither
called nor needed. Tensors come from `pickle.dump` and from both forms of `torch.save`, on whatever
device they were; bfloat16 becomes float32, without loss. Not covered: sparse and quantised tensors,
and files from big-endian machines.
"""

from __future__ import annotations

import io
import math
import mmap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from antcache.errors import NotFound, RefusedPickle
from antcache.interop.arrays.pickled_arrays import CALLS, MARKS, is_size
from antcache.interop.arrays.restricted_pickle import (
    NONSENSE,
    Budget,
    Machine,
    Name,
    Refusal,
    plain,
    short,
)
from antcache.progress import Progress, silent

STORAGES = {
    "Double": "<f8",
    "Float": "<f4",
    "Half": "<f2",
    "BFloat16": "<u2",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "<i1",
    "Byte": "<u1",
    "Bool": "?",
}
"""Types of torch's storages; bfloat16 is the upper half of float32."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""What the older form of `torch.save` begins with, as a pickle."""
LEGACY_PROTOCOL = 1001

ZIP = b"PK\x03\x04"
"""What the newer form begins with."""

HINT = (
    "nothing of it was run; have the predictions written as lists of dictionaries of numpy arrays, "
    "or as .npz"
)


def read_pickle(path: Path, progress: Progress = silent, *, hint: str = HINT) -> object:
    """The value in the pickle at `path`, or in a file of `torch.save`, with numpy arrays in it.

    Arrays may be read-only views of the same memory.

    Args:
        path: the file.
        progress: called with bytes read.
        hint: what to do about a file that is refused.

    Raises:
        NotFound: there is no such file.
        RefusedPickle: it holds more than arrays and plain values, or is damaged.
    """
    if not path.is_file():
        raise NotFound("no such file", where=path)
    size = path.stat().st_size
    try:
        if not size:
            raise Refusal("the file is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            budget = Budget(size)
            if data[: len(ZIP)] == ZIP:
                return _read_zip(path, budget)
            machine = Machine(
                TENSOR_CALLS | {"torch.storage _load_from_bytes": _load_from_bytes},
                TENSOR_MARKS,
                budget,
                report=lambda position: progress(path.name, position, size),
            )
            value = machine.run(data)
            if type(value) is int and value == LEGACY_MAGIC:
                data.seek(0)
                value = _read_legacy(data, budget)
            return value
    except Refusal as refusal:
        raise RefusedPickle(
            refusal.problem, where=path, found=refusal.found, hint=hint
        ) from refusal
    except NONSENSE as error:
        raise RefusedPickle(
            "not a whole file of torch", where=path, found=short(str(error)), hint=hint
        ) from error


@dataclass(frozen=True)
class Storage:
    """The values (n,) that tensors are views of."""

    values: NDArray[Any]


def _rebuild_tensor(
    machine: Machine, storage: Storage, offset: int, size: Any, stride: Any, *_: object
) -> NDArray[Any]:
    """The view of a storage; whether it needs a gradient and what hooks it has is left out."""
    if not isinstance(storage, Storage) or len(size) != len(stride):
        raise ValueError("a tensor without a storage")
    if not all(map(is_size, (offset, *size, *stride))):
        raise ValueError("a tensor of no shape")
    values, count = storage.values, math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (last >= len(values) or count > len(values)):
        raise Refusal(
            "a tensor larger than its storage", f"{short(tuple(size))} of {len(values)} values"
        )
    if not count:
        return np.empty(0, values.dtype).reshape(size)
    steps = [step * values.itemsize for step in stride]
    return as_strided(values[offset:], tuple(size), steps, writeable=False)


def _rebuild_parameter(machine: Machine, tensor: Any, *_: object) -> NDArray[Any]:
    if not isinstance(tensor, np.ndarray):
        raise ValueError("a parameter that is no tensor")
    return tensor


def _load_from_bytes(machine: Machine, data: Any) -> Storage:
    """The storage that `pickle.dump` of a tensor keeps as a file of `torch.save` within the file.

    What is within it may hold no further file.
    """
    if not isinstance(data, bytes):
        raise ValueError("a storage without bytes")
    machine.budget.spend(len(data))
    storage = _read_legacy(io.BytesIO(data), machine.budget)
    if not isinstance(storage, Storage):
        raise Refusal("a storage of torch that holds something else")
    return storage


def _persistent(
    take: Callable[[str, np.dtype[Any], int], NDArray[Any]], budget: Budget
) -> Callable[[object], Storage]:
    """Answers `("storage", type, key, device, length, [view])` by `take(key, dtype, length)`."""

    def answer(found: Any) -> Storage:
        if type(found) is not tuple or len(found) not in (5, 6) or found[0] != "storage":
            raise Refusal("a persistent id that is no storage of torch")
        _, kind, key, _, length, *view = found
        if type(kind) is not Name or kind.text not in _KINDS:
            raise Refusal("a storage of torch of another type")
        if type(key) is not str or not is_size(length) or any(view):
            raise Refusal("a storage of torch in an unknown form")
        values = take(key, np.dtype(_KINDS[kind.text]), length)
        if kind.text.endswith(" BFloat16Storage") and values.strides != (0,):
            budget.spend(4 * length)
            values = (values.astype("<u4") << 16).view("<f4")
        return Storage(values)

    return answer


def _read_legacy(data: Any, budget: Budget) -> object:
    """A file of the older form: four pickles (the third holds the value), keys, then storages.

    The value comes before its storages, so it is read twice: first for what storages it has.
    """

    def run(persistent: Callable[[object], object] | None = None) -> object:
        return Machine(TENSOR_CALLS, TENSOR_MARKS, budget, persistent).run(data)

    lengths: dict[str, tuple[np.dtype[Any], int]] = {}

    def note(key: str, dtype: np.dtype[Any], length: int) -> NDArray[Any]:
        lengths[key] = dtype, length
        return np.broadcast_to(np.zeros((), dtype), (length,))  # takes no memory

    if (run(), run()) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise Refusal("a file of torch in an unknown form")
    system = run()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Refusal("a file of torch that is not little-endian")
    begin = data.tell()
    run(_persistent(note, budget))
    keys = run()
    if not isinstance(keys, list) or sorted(map(plain, keys)) != sorted(lengths):
        raise Refusal("a file of torch whose storages are not those that it names")
    found = {}
    for key in keys:
        dtype, length = lengths[key]
        if int.from_bytes(data.read(8), "little") != length:
            raise Refusal("a storage of torch of another length than stated")
        found[key] = _storage(data.read(length * dtype.itemsize), dtype, length)
    end = data.tell()
    data.seek(begin)
    value = run(_persistent(lambda key, dtype, length: found[key], budget))
    data.seek(end)
    return value


def _read_zip(path: Path, budget: Budget) -> object:
    """A file of the newer form: a zip archive of one pickle and one file per storage."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            main = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(main) != 1:
                raise Refusal("a zip archive that is neither of torch nor of numpy")
            folder = main[0].removesuffix("data.pkl")

            def read(name: str) -> bytes:
                about = archive.getinfo(name)
                if about.compress_type != zipfile.ZIP_STORED:
                    raise Refusal("a compressed file of torch, which torch does not write")
                budget.spend(about.file_size)
                return archive.read(about)

            if f"{folder}byteorder" in names and read(f"{folder}byteorder") != b"little":
                raise Refusal("a file of torch that is not little-endian")
            found: dict[str, NDArray[Any]] = {}

            def take(key: str, dtype: np.dtype[Any], length: int) -> NDArray[Any]:
                if key not in found:
                    found[key] = _storage(read(f"{folder}data/{key}"), dtype, length)
                if (found[key].dtype, len(found[key])) != (dtype, length):
                    raise Refusal("a storage of torch that is stated in two ways")
                return found[key]

            machine = Machine(TENSOR_CALLS, TENSOR_MARKS, budget, _persistent(take, budget))
            return machine.run(io.BytesIO(read(main[0])))
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, RuntimeError) as error:
        raise Refusal("the zip archive is damaged", short(str(error))) from error


def _storage(data: bytes, dtype: np.dtype[Any], length: int) -> NDArray[Any]:
    if len(data) != length * dtype.itemsize:
        raise Refusal("a storage of torch of another length than its data")
    return np.frombuffer(data, dtype) if data else np.empty(0, dtype)


_KINDS = {
    f"{module} {name}Storage": dtype
    for module in ("torch", "torch.cuda")
    for name, dtype in STORAGES.items()
}

TENSOR_MARKS = {*MARKS, *_KINDS}
"""Names that are only named."""

TENSOR_CALLS = CALLS | {
    "torch._utils _rebuild_tensor": _rebuild_tensor,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
}
"""Names that are called; `torch.storage._load_from_bytes` too, but not within itself."""
