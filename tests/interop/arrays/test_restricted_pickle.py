"""Pickles read without being run: what is admitted comes back equal, all else is refused."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handmade_pickles import PROTOCOLS, named, pickled_storage_of, text

from antcache.errors import AntcacheError, RefusedPickle
from antcache.interop.arrays.pickled_tensors import LEGACY_MAGIC, LEGACY_PROTOCOL, read_pickle


def equal(wanted: Any, found: Any) -> bool:
    """Equal in types and values; tensors and numpy scalars have come back as numpy and Python."""
    if isinstance(wanted, torch.Tensor):
        wanted = wanted.detach()
        wanted = (wanted.float() if wanted.dtype == torch.bfloat16 else wanted).numpy()
    if isinstance(wanted, np.generic):
        wanted = wanted.item()
    if type(wanted) is not type(found):
        return False
    if isinstance(wanted, np.ndarray):
        same = wanted.dtype == found.dtype and wanted.shape == found.shape
        return same and bool((wanted == found).all())
    if isinstance(wanted, dict):
        return list(wanted) == list(found) and all(equal(wanted[k], found[k]) for k in wanted)
    if isinstance(wanted, list | tuple):
        return len(wanted) == len(found) and all(map(equal, wanted, found))
    return bool(wanted == found)


def arrays() -> dict[str, Any]:
    cube = np.arange(24.0).reshape(2, 3, 4)
    return {
        "c order": np.arange(6, dtype="f4").reshape(2, 3),
        "f order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "transposed": cube.transpose(2, 0, 1),
        "strided": np.arange(10, dtype="i4")[::3],
        "big-endian": np.arange(3, dtype=">f8"),
        "half": np.arange(3, dtype="f2"),
        "bool": np.array([True, False]),
        "text": np.array(["é", "bcd", ""]),
        "bytes": np.array([b"xy", b"z"]),
        "empty": np.empty((0, 4)),
        "no dimension": np.array(5.0),
        "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("aé"), np.bytes_(b"x")],
    }


def tensors() -> dict[str, Any]:
    batch = torch.arange(12.0).reshape(3, 4)
    return {
        "batch": batch,
        "row": batch[1],
        "column": batch[:, 2],
        "transposed": batch.t(),
        "bfloat16": torch.tensor([1.0, -2.5, 3e38], dtype=torch.bfloat16),
        "half": torch.ones(3).half(),
        "long": torch.tensor(7),
        "bool": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "with gradient": torch.ones(2).requires_grad_(),
    }


def values() -> dict[Any, Any]:
    return {
        "none": None,
        "truth": [True, False],
        "numbers": [0, 255, 65536, -5, 2**31, 2**70, -(2**70), 1.5, float("inf")],
        "text": ["", "aé\n\\", "x" * 300, "y" * 70_000],
        "bytes": [b"", b"\x00\xff", b"z" * 300, bytearray(b"ab")],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "sets": [{1, "a"}, frozenset([2])],
        "nested": [[[]], {"a": {}}],
        5: "an integer key",
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("make", [arrays, tensors, values])
def test_what_is_admitted_comes_back_equal(
    tmp_path: Path, make: Callable[[], Any], protocol: int
) -> None:
    wanted = [make(), {"uid": 1}]
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(wanted, protocol))
    assert equal(wanted, read_pickle(path))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save(tmp_path: Path, protocol: int, zipped: bool) -> None:
    wanted = [{"uid": 1, **tensors()}, arrays(), values()]
    path = tmp_path / "file"
    torch.save(wanted, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert equal(wanted, read_pickle(path))


def test_names_of_numpy_1(tmp_path: Path) -> None:
    new = pickle.dumps(arrays(), 2)
    old = new.replace(b"numpy._core.", b"numpy.core.")
    assert old != new
    (tmp_path / "old").write_bytes(old)
    assert equal(arrays(), read_pickle(tmp_path / "old"))


def test_shared_values_stay_one(tmp_path: Path) -> None:
    shared = np.arange(3.0)
    for protocol in PROTOCOLS:
        (tmp_path / "file").write_bytes(pickle.dumps([shared, shared], protocol))
        found: Any = read_pickle(tmp_path / "file")
        assert found[0] is found[1]


def test_a_large_tensor_at_the_worst_protocol_is_within_the_budget(tmp_path: Path) -> None:
    wanted = torch.randn(3_000_000, generator=torch.Generator().manual_seed(0)).bfloat16()
    (tmp_path / "file").write_bytes(pickle.dumps([wanted], 0))
    assert equal([wanted], read_pickle(tmp_path / "file"))


def array_of(shape: bytes, data: bytes, kind: str = "f4") -> bytes:
    """A pickle of an array whose shape and data are given as opcodes."""
    dtype = named("numpy", "dtype") + text(kind) + b"\x89\x88\x87R"
    dtype += b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return (
        b"\x80\x04"
        + named("numpy._core.multiarray", "_reconstruct")
        + named("numpy", "ndarray")
        + b"K\x00\x85C\x01b\x87R(K\x01"
        + shape
        + dtype
        + b"\x89"
        + data
        + b"tb."
    )


def tensor_of(count: int, size: bytes, stride: bytes) -> bytes:
    """A pickle of a tensor over a storage of `count` values."""
    stored = pickle.dumps(torch.arange(float(count)), 4)
    head = stored[: stored.index(b"\x85\x94R") + 3]  # up to the storage
    return head + b"K\x00" + size + stride + b"\x89}t" + b"R."


def legacy_torch(value: bytes) -> bytes:
    """A file of torch's older form around a pickle, without storages."""
    head = (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in head) + value + pickle.dumps([], 2)


def billion_laughs() -> bytes:
    """Lists of lists: a kilobyte that would be 2**100 values written out."""
    steps = (b"]\x94(h" + bytes([n]) + b"h" + bytes([n]) + b"e0" for n in range(100))
    return b"\x80\x04]\x940" + b"".join(steps) + b"h\x64."


def encoded_often() -> bytes:
    """One text that is turned into bytes a thousand times."""
    big = b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"\x940"
    call = named("_codecs", "encode") + b"h\x00" + text("latin1") + b"\x86R"
    return b"\x80\x04]" + big + b"(" + call * 1000 + b"e."


REFUSED: dict[str, tuple[bytes, str]] = {
    "extension registry": (b"\x80\x02\x82\x01.", "the extension registry"),
    "extension registry, 4 bytes": (b"\x80\x02\x84\x01\x00\x00\x00.", "the extension registry"),
    "persistent id": (b"\x80\x02K\x01Q.", "a persistent id"),
    "persistent id as text": (b"Pabc\n.", "a persistent id"),
    **{
        f"persistent id of torch that is {name}": (
            legacy_torch(b"\x80\x02" + value + b"Q."),
            "a persistent id that is no storage of torch",
        )
        for name, value in {
            "a number": b"K\x01",
            "a list": b"](" + text("storage") + b"K\x01K\x02K\x03K\x04e",
            "too short": text("storage") + b"K\x01\x86",
            "too long": b"(" + text("storage") + b"K\x01" * 6 + b"t",
            "something else": b"("
            + text("module")
            + b"ctorch\nFloatStorage\n"
            + text("0")
            + text("cpu")
            + b"K\x00t",
        }.items()
    },
    "buffer outside": (b"\x80\x05\x97.", "a buffer outside the file"),
    "copyreg": (b"ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
    "terminal escapes": (b"\x80\x04" + named("\x1b[2J", "x") + b".", "\\x1b"),
    "no file": (b"", "empty"),
    "other bytes": (b"\xff\xfe\xfd", "not a whole pickle"),
    "truncated": (pickle.dumps(arrays())[:-100], "not a whole pickle"),
    "truncated torch": (pickled_storage_of([torch.ones(9)])[:-5], "length"),
    "truncated zip": (b"PK\x03\x04abc", "damaged"),
    "later protocol": (b"\x80\x06N.", "protocol 6"),
    "nothing but an end": (b".", "not a whole pickle"),
    "more than one value": (b"NN.", "values left over"),
    "call of a value": (b"\x80\x04K\x01)R.", "a call of a value"),
    "call of what is only named": (
        b"\x80\x04" + named("numpy", "ndarray") + b"K\x01\x85\x85R.",
        "a call of a value",
    ),
    "state of a dictionary": (b"\x80\x04}}b.", "state of an instance"),
    "state of a name": (b"\x80\x04" + named("_codecs", "encode") + b"}b.", "state of an instance"),
    "list as a key": (b"\x80\x04}]K\x01s.", "list"),
    "array larger than its data": (array_of(b"J\xff\xff\xff\x7f\x85", b"C\x04abcd"), "4 bytes"),
    "array of absurd shape": (array_of(b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85", b"C\x00"), "shape"),
    "array of negative shape": (array_of(b"J\xff\xff\xff\xff\x85", b"C\x04abcd"), "shape"),
    "array of objects": (array_of(b"K\x01\x85", b"]", "O8"), "numpy dtype 'O8'"),
    "objects as numbers": (array_of(b"K\x01\x85", b"]N\x61"), "array of objects"),
    "array of records": (array_of(b"K\x01\x85", b"C\x04abcd", "V4"), "numpy dtype 'V4'"),
    "array of structs": (array_of(b"K\x01\x85", b"C\x04abcd", "f4,O"), "numpy dtype"),
    "tensor larger than its storage": (
        tensor_of(4, b"K\x05\x85", b"K\x01\x85"),
        "larger than its storage",
    ),
    "tensor of one value, a million times": (
        tensor_of(4, b"J\x40\x42\x0f\x00\x85", b"K\x00\x85"),
        "larger than its storage",
    ),
    "negative stride": (tensor_of(4, b"K\x02\x85", b"J\xff\xff\xff\xff\x85"), "no shape"),
    "bytes without end": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc.", "pickle"),
    "text without end": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.", "pickle"),
    "one text many times": (encoded_often(), "more memory"),
    "memo that is not there": (b"\x80\x04h\x07.", "not a whole pickle"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_else_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.pkl"
    content, why = REFUSED[name]
    path.write_bytes(content)
    with pytest.raises(RefusedPickle, match=f"^{path}: ") as caught:
        read_pickle(path)
    assert why in str(caught.value)
    assert len(str(caught.value)) < 600


def test_lists_of_lists_take_no_time(tmp_path: Path) -> None:
    (tmp_path / "laughs").write_bytes(billion_laughs())
    assert isinstance(read_pickle(tmp_path / "laughs"), list)
    deep = b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b"."
    (tmp_path / "deep").write_bytes(deep)
    assert isinstance(read_pickle(tmp_path / "deep"), list)


def test_damaged_files_are_refused_whatever_the_damage(tmp_path: Path) -> None:
    """Random bytes put in random places: an error of ours or a value, and nothing else."""
    rng = random.Random(0)
    good = [pickle.dumps([arrays(), tensors(), values()], p) for p in (0, 2, 4, 5)]
    good += [pickled_storage_of([tensors(), arrays()])]
    stream = io.BytesIO()
    torch.save([tensors(), arrays()], stream)
    good.append(stream.getvalue())
    path = tmp_path / "file"
    messages = []
    for _ in range(300):
        content = bytearray(rng.choice(good))
        for _ in range(rng.choice((1, 3, 10))):
            place = rng.randrange(len(content))
            content[place : place + rng.choice((0, 1, 4))] = rng.randbytes(rng.choice((0, 1, 4)))
        path.write_bytes(content)
        try:
            read_pickle(path)
        except AntcacheError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert max(map(len, messages)) < 600


def test_no_opcode_is_forgotten() -> None:
    """Each opcode of Python's own list is carried out or refused by name."""
    from antcache.interop.arrays import restricted_pickle

    known = {*restricted_pickle._PUSHED, *restricted_pickle._STEPS, *restricted_pickle.REFUSED}
    assert known == {opcode.name for opcode in pickletools.opcodes}


def test_marks_do_not_fill_the_memory(tmp_path):
    """Each takes far more than its byte."""
    (tmp_path / "marks.pt").write_bytes(pickle.PROTO + b"\x02" + pickle.MARK * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(RefusedPickle, match="nested too deeply"):
            read_pickle(tmp_path / "marks.pt")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
