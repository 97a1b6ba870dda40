"""Predictions in the forms of others that want to be run, or state more than they hold.

Promise: see `cases.py`.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cases import InputCase
from hostile_packed import write_zip
from hostile_writers import DEEP, NINES, Write, apart, case, pipe, raw

IMPORT = (
    "import predictions s.zarr files/p --name new",
    "import predictions s.zarr files/p --name new --dry-run",
)


class ShellCommand:
    """What a pickle calls when it is opened by Python's own unpickler."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("echo run > victim/secret.txt",)


def _npz(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _npy(array: np.ndarray, stated: str = "") -> bytes:
    """A `.npy`, with another header if one is given."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    if not stated:
        return buffer.getvalue()
    header = stated.encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + array.tobytes()


def _packed_zeros(path: Path) -> None:
    """1 GiB of logits in 1 MB."""
    uid, shape = _npy(np.array([f"t{i}" for i in range(24)])), (24, 11_184_810)
    head = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, about)
    logits = head.getvalue(), 4 * shape[0] * shape[1]
    write_zip(path, {"uid.npy": (uid, 0), "logits.npy": logits})


def _stated(shape: str) -> Write:
    def write(folder: Path) -> None:
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
        uid = _npy(np.array(["t0"]))
        _npz(
            folder / "files/p",
            {"uid.npy": uid, "logits.npy": _npy(np.zeros(6, np.float32), header)},
        )

    return write


def _encrypted(folder: Path) -> None:
    _npz(
        folder / "files/p",
        {"uid.npy": _npy(np.array(["t0"])), "logits.npy": _npy(np.zeros((1, 6)))},
    )
    data = bytearray((folder / "files/p").read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(mark, at + 1)
    (folder / "files/p").write_bytes(data)


CONSTANT = 1 << 27


def _write_constant(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    flat = pa.array(np.zeros(CONSTANT, np.float32))
    rows = pa.LargeListArray.from_arrays(pa.array([0, CONSTANT], pa.int64()), flat)
    table = pa.table({"uid": ["t0"], "logits": rows})
    options = {"compression": "zstd", "data_page_size": 1 << 40, "write_statistics": False}
    pa.parquet.write_table(table, folder / "p", **options)


@functools.cache
def _constant() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        apart(_write_constant)(Path(folder))
        return (Path(folder) / "p").read_bytes()


def _constant_parquet(folder: Path, *, lie: bool) -> None:
    """134 million values in 1 kB; the summary may say that they are 1,000."""
    data = _constant()
    if lie:
        begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        honest, lying = _varint(2 * CONSTANT), _varint(2000, len(_varint(2 * CONSTANT)))
        data = data[:begin] + data[begin:].replace(honest, lying)
    (folder / "files/p").write_bytes(data)


def _varint(value: int, length: int = 1) -> bytes:
    out = b""
    while value > 127 or len(out) < length - 1:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def _many_rows(folder: Path) -> None:
    """A million rows of one uid, which is written once."""
    import pyarrow as pa
    import pyarrow.parquet

    count = 1 << 20
    uid = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), ["t0"]).cast(
        pa.string()
    )
    columns = {"uid": uid} | {str(c): pa.array(np.zeros(count, np.float32)) for c in range(6)}
    pa.parquet.write_table(pa.table(columns), folder / "files/p", compression="zstd")


def cases() -> list[InputCase]:
    """The cases of predictions of others."""

    def npz(**arrays: Any) -> Write:
        return lambda folder: _npz(
            folder / "files/p",
            {f"{name}.npy": a if isinstance(a, bytes) else _npy(a) for name, a in arrays.items()},
        )

    one = np.array(["t0"])
    writers: dict[str, Write] = {
        "npz: 1 GiB of zeros in 1 MB": lambda folder: _packed_zeros(folder / "files/p"),
        "npz: a shape of 40 TB": _stated("(1, 9999999999999)"),
        "npz: a shape of 5,000 digits": _stated(f"(1, {NINES})"),
        "npz: a header of brackets": npz(uid=_npy(one, "[" * 9000), logits=np.zeros((1, 6))),
        "npz: objects that are run": npz(
            uid=np.array([ShellCommand()], object), logits=np.zeros((1, 6))
        ),
        "npz: encrypted": _encrypted,
        "npz: text 400 MB wide": npz(
            uid=_npy(one, "{'descr': '<U99999999', 'fortran_order': False, 'shape': (1,)}"),
            logits=np.zeros((1, 6)),
        ),
        "npy: a shape of 40 TB": lambda folder: (
            (folder / "files/p").write_bytes(
                _npy(one, "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999,)}")
            )
            and None
        ),
        "pickle: runs a command": raw("files/p", pickle.dumps([ShellCommand()])),
        "pickle: runs a command, protocol 0": raw(
            "files/p", b"cos\nsystem\n(S'echo run > victim/secret.txt'\ntR."
        ),
        "pickle: a uid of 5,000 digits": raw("files/p", pickle.dumps({10**5000: np.zeros(6)})),
        "pickle: 100,000 lists in lists": raw("files/p", b"]" * DEEP + b"a" * (DEEP - 1) + b"."),
        "pickle: 100,000 keys in keys": raw("files/p", b"}" + b"}" * DEEP + b"s" * DEEP + b"."),
        "pickle: an array of 8 EB": raw("files/p", _huge_array()),
        "pickle: a text that doubles 60 times": raw("files/p", _doubled()),
        "parquet: 134 million values in 1 kB": partial(_constant_parquet, lie=False),
        "parquet: the same, and a summary that lies": partial(_constant_parquet, lie=True),
        "parquet: a million rows of one uid": apart(_many_rows),
        "parquet: nothing but its name": raw("files/p", b"PAR1" + b"\xff" * 2000 + b"PAR1"),
        "predictions of others: a named pipe": pipe("files/p"),
    }
    return [case(name, write, *IMPORT) for name, write in writers.items()]


def _huge_array() -> bytes:
    whole = pickle.dumps([{"uid": "t0", "logits": np.zeros((7, 1))}], protocol=2)
    return whole.replace(b"K\x07K\x01", b"\x8a\x08" + b"\xff" * 7 + b"\x0fK\x01")


def _doubled() -> bytes:
    """A bytearray made of a bytearray, again and again: a few bytes for a thousand each time."""
    call = b"cbuiltins\nbytearray\n"
    start = call + b"(B" + struct.pack("<I", 1000) + bytes(1000) + b"tR"
    return start + b"".join(b"q\0" + call + b"(h\0tR" for _ in range(5000)) + b"."
