"""Pickles read without being run: what is admitted comes back equal, what is hostile runs nothing.

Every hostile file is first shown to be one: the pickle module itself, in a process of its own,
leaves the file behind that proves that it ran. (The exceptions say why they can't.)
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import random
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antcache.errors import AntcacheError, RefusedPickle
from antcache.interop.arrays.pickled_tensors import LEGACY_MAGIC, LEGACY_PROTOCOL, read_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


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


# Hostile files. Each is given a command that leaves `proof` behind if anything of it is run.


class Call:
    """Pickled as a call of `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def text(value: str) -> bytes:
    """Opcode for a text of fewer than 256 bytes."""
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def new_objects(shell: str, make: bytes) -> bytes:
    """`tuple(map(os.system, [shell]))` without a call: by the opcodes that make instances."""
    calls = named("builtins", "map") + named("os", "system") + b"](" + text(shell) + b"e\x86" + make
    return b"\x80\x04" + named("builtins", "tuple") + calls + b"\x85" + make + b"."


def hostile_files(proof: Path) -> dict[str, bytes]:
    """Files that run a command as soon as the pickle module reads them."""
    shell = f"touch {proof}"
    python = f"open({str(proof)!r}, 'w')"
    line = shell.encode()
    bomb = Call(os.system, shell)
    objects = np.empty(1, dtype=object)
    objects[0] = bomb
    storage = io.BytesIO()
    torch.save(bomb, storage, _use_new_zipfile_serialization=False)
    return {f"os.system, protocol {p}": pickle.dumps(bomb, p) for p in PROTOCOLS} | {
        "eval": pickle.dumps(Call(eval, python)),
        "exec": pickle.dumps(Call(exec, python)),
        "subprocess.Popen": pickle.dumps(Call(subprocess.Popen, ["touch", str(proof)])),
        "text of protocol 0": b"cposix\nsystem\n(S'" + line + b"'\ntR.",
        "INST": b"(S'" + line + b"'\niposix\nsystem\n.",
        "OBJ": b"(cposix\nsystem\nS'" + line + b"'\no.",
        "NEWOBJ": new_objects(shell, b"\x81"),
        "NEWOBJ_EX": new_objects(shell, b"}\x92"),
        "BUILD with __setstate__": b"\x80\x04"
        + named("argparse", "Namespace")
        + b")R}"
        + text("__setstate__")
        + named("os", "system")
        + b"sb"
        + text(shell)
        + b"b.",
        "within LM_feat": pickle.dumps(
            [{"uid": 1, "logit_action": np.ones(3, "f4"), "LM_feat": bomb}]
        ),
        "as a key": pickle.dumps({"uid": 1})[:-1]
        + b"\x80\x04("
        + named("os", "system")
        + text(shell)
        + b"\x85RK\x01u.",
        "array of objects": pickle.dumps(objects),
        "array of objects, protocol 2": pickle.dumps(objects, 2),
        "torch within a pickle": pickle.dumps(
            Call(torch.storage._load_from_bytes, storage.getvalue())
        ),
        "torch within torch": pickle.dumps(
            Call(
                torch.storage._load_from_bytes,
                pickled_storage_of(Call(torch.storage._load_from_bytes, storage.getvalue())),
            )
        ),
        "metadata of a dtype": b"\x80\x04"
        + named("numpy", "dtype")
        + text("f4")
        + b"\x89\x88\x87R"
        + b"(K\x04"
        + text("<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00}"
        + text("x")
        + named("os", "system")
        + text(shell)
        + b"\x85Rstb.",
        "dotted name": b"\x80\x04"
        + named("numpy", "testing._private.utils.runstring")
        + text(python)
        + b"}\x86R.",
        "dotted name of an admitted module": b"\x80\x04"
        + named("collections", "_sys.modules.get")
        + text("os")
        + b"\x85R0"
        + named("posix", "system")
        + text(shell)
        + b"\x85R.",
        "getattr": b"\x80\x04"
        + named("builtins", "getattr")
        + named("numpy", "testing")
        + b"0"
        + named("os", "path")
        + text("os")
        + b"\x86R0"
        + named("os", "system")
        + text(shell)
        + b"\x85R.",
        "call of a call": b"\x80\x04"
        + named("functools", "partial")
        + named("os", "system")
        + text(shell)
        + b"\x86R)R.",
        "behind the value": b"\x80\x04]" + named("os", "system") + text(shell) + b"\x85R0.",
        "import of a module": b"\x80\x04" + named("antcache_hostile", "x") + b".",
    }


def pickled_storage_of(value: Any) -> bytes:
    """A file of torch's older form that holds `value`."""
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


NAMES = sorted(hostile_files(Path("proof")))


@pytest.mark.slow
def test_the_hostile_files_are_hostile(tmp_path: Path) -> None:
    """The pickle module runs every one of them: else the next test would prove nothing."""
    for number, name in enumerate(NAMES):
        content = hostile_files(tmp_path / f"proof{number}")[name]
        (tmp_path / f"file{number}").write_bytes(content)
    proof = tmp_path / f"proof{NAMES.index('import of a module')}"
    (tmp_path / "antcache_hostile.py").write_text(f"x = open({str(proof)!r}, 'w')")
    code = (
        "import pickle, time\n"
        f"for number in range({len(NAMES)}):\n"
        "    try: pickle.load(open(f'file{number}', 'rb'))\n"
        "    except Exception as error: print(number, repr(error))\n"
        "time.sleep(0.5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    harmless = [n for i, n in enumerate(NAMES) if not (tmp_path / f"proof{i}").exists()]
    assert not harmless, done.stdout


@pytest.fixture(scope="module")
def reader() -> Any:
    """A process that reads files when told to and says how it went."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from antcache.errors import AntcacheError\n"
        "from antcache.interop.arrays.pickled_tensors import read_pickle\n"
        "for line in sys.stdin:\n"
        "    try: said = 'read ' + type(read_pickle(Path(line.strip()))).__name__\n"
        "    except AntcacheError as error: said = 'refused ' + str(error)\n"
        "    print(said, 'torch' in sys.modules, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


@pytest.mark.parametrize("name", NAMES)
def test_hostile_files_run_nothing(tmp_path: Path, reader: Any, name: str) -> None:
    proof = tmp_path / "proof"
    (tmp_path / "antcache_hostile.py").write_text(f"x = open({str(proof)!r}, 'w')")
    path = tmp_path / "file.pkl"
    path.write_bytes(hostile_files(proof)[name])
    reader.stdin.write(f"{path}\n")
    reader.stdin.flush()
    said = reader.stdout.readline()
    assert said.startswith(f"refused {path}: "), said
    assert "nothing of it was run" in said
    assert said.endswith(" False\n"), "torch was loaded"
    assert not proof.exists()


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


@pytest.mark.parametrize("compressed", [True, False])
def test_zip_archives_that_are_not_of_torch(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "file.pth"
    proof = tmp_path / "proof"
    bomb = pickle.dumps(Call(os.system, f"touch {proof}"))
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", bomb)
    why = "compressed" if compressed else r"posix\.system"
    with pytest.raises(RefusedPickle, match=why):
        read_pickle(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(RefusedPickle, match="neither of torch"):
        read_pickle(path)
    assert not proof.exists()


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
