"""Features of others in files of arrays that want to be run, or state more than they hold.

Promise: see `cases.py`.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from cases import InputCase
from hostile_packed import write_zip, zlib_stream
from hostile_writers import EVIL, Write, case, link, pipe

IMPORT = (
    "import arrays files/arrays new.zarr --dim 6 --fps 4",
    "import arrays files/arrays new.zarr --dim 6 --fps 4 --time listed --sees-ahead 0 --stream x",
)


class MadeFolder:
    """What Python's own unpickler makes a folder of."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("victim/run",)


def _in(name: str, content: bytes) -> Write:
    def write(folder: Path) -> None:
        (folder / "files/arrays").mkdir(parents=True, exist_ok=True)
        (folder / "files/arrays" / name).write_bytes(content)

    return write


def _beside(write: Write) -> Write:
    """The writer, in a folder that is there."""

    def made(folder: Path) -> None:
        (folder / "files/arrays").mkdir(parents=True, exist_ok=True)
        write(folder)

    return made


def _npy(stated: str) -> bytes:
    text = f"{{'descr': {stated}, 'fortran_order': False}}".encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(24)


def _objects() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([MadeFolder()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def _packed_zeros(folder: Path) -> None:
    """1 GiB of features in 1 MB."""
    write_zip(folder / "files/arrays/v.npz", {"features.npy": (b"", 1 << 30)})


def _tensor_that_runs(folder: Path) -> None:
    import torch

    torch.save({"features": MadeFolder()}, folder / "files/arrays/v.pt")


def _element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def _head(rows: int, columns: int) -> bytes:
    parts = _element(6, struct.pack("<II", 7, 0)) + _element(5, struct.pack("<ii", rows, columns))
    return parts + _element(1, b"features")


def _mat(*elements: bytes) -> bytes:
    return bytes(124) + b"\0\1IM" + b"".join(elements)


def _packed_mat(folder: Path) -> None:
    """1 GiB of zeros in 1 MB, as one variable."""
    head = _head(1 << 14, 1 << 14) + struct.pack("<II", 7, 1 << 30)
    packed = zlib_stream(struct.pack("<II", 14, len(head) + (1 << 30)) + head, 1 << 30)
    data = struct.pack("<II", 15, len(packed)) + packed
    (folder / "files/arrays/v.mat").write_bytes(_mat(data))


def _hdf5(folder: Path, kind: str) -> None:
    with h5py.File(folder / "files/arrays/v.mat", "w") as file:
        if kind == "link":
            file["features"] = h5py.ExternalLink("../../victim/secret.h5", "/x")
        elif kind == "external":
            outside = [("../../victim/secret.txt", 0, 24)]
            file.create_dataset("features", (1, 6), "f4", external=outside)
        else:
            file.create_dataset("features", (1 << 30, 6), "f4", chunks=(1 << 10, 6))


def cases() -> list[InputCase]:
    """The cases of arrays of others."""
    writers: dict[str, Write] = {
        "npy: objects that are run": _in("v.npy", _objects()),
        "npy: a shape of 240 TB": _in("v.npy", _npy("'<f4', 'shape': (9999999999999, 6)")),
        "npy: a header of calls": _in("v.npy", _npy("__import__('os').mkdir('victim/run')")),
        "npy: a name of control characters": _in(f"{EVIL.replace('/', '')}.npy"[-200:], b"x"),
        "npy: a pipe": _beside(pipe("files/arrays/v.npy")),
        "npy: a link to what never ends": _beside(link("files/arrays/v.npy", "/dev/zero")),
        "npy: a folder that is a link to the root": _beside(link("files/arrays/all", "/")),
        "npz: 1 GiB of features in 1 MB": _beside(_packed_zeros),
        "pt: runs what it names": _beside(_tensor_that_runs),
        "mat: a shape of 2^62": _in(
            "v.mat", _mat(_element(14, _head(2**31 - 1, 2**31 - 1) + _element(7, bytes(24))))
        ),
        "mat: 1 GiB in 1 MB": _beside(_packed_mat),
        "mat: longer than the file": _in("v.mat", _mat(struct.pack("<II", 14, 2**32 - 1))),
        "mat 7.3: a link to another file": _beside(lambda folder: _hdf5(folder, "link")),
        "mat 7.3: values in another file": _beside(lambda folder: _hdf5(folder, "external")),
        "mat 7.3: 24 GB that are not there": _beside(lambda folder: _hdf5(folder, "hollow")),
    }
    return [case(f"arrays, {name}", write, *IMPORT) for name, write in writers.items()]
