"""MATLAB's files: what others write comes out, and nothing is believed."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from memory import MostHeld

from antcache.interop.arrays.mat import read_mat

RNG = np.random.default_rng(0)
ARRAYS = {
    "single": RNG.normal(size=(4, 3)).astype(np.float32),
    "double": RNG.normal(size=(3, 5)),
    "small": np.arange(6.0).reshape(2, 3),  # scipy and MATLAB keep these as what they fit into
    "whole": np.arange(-3, 3, dtype=np.int16).reshape(3, 2),
    "scalar": np.array([[0.25]]),
    "cube": RNG.normal(size=(2, 3, 4)),
    "none": np.zeros((0, 3)),
}
OTHERS = {"text": "abc", "cell": np.array([1, "a"], dtype=object), "struct": {"a": 1}}


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def variable(
    shape: tuple[int, ...] = (2, 3),
    *,
    kind: int = 7,
    stored: int = 7,
    data: bytes = bytes(24),
    name: bytes = b"features",
) -> bytes:
    """A variable as the form has it, whatever is said in it."""
    parts = element(6, struct.pack("<II", kind, 0))
    parts += element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, name)
    return element(14, parts + element(stored, data))


def file_of(path: Path, *elements: bytes) -> Path:
    path.write_bytes(bytes(124) + b"\0\1IM" + b"".join(elements))
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_what_scipy_writes_comes_out(tmp_path: Path, packed: bool) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {**ARRAYS, **OTHERS}, do_compression=packed)
    names, found = read_mat(tmp_path / "a.mat", [*ARRAYS, "another"])
    assert names == [*ARRAYS, *OTHERS]
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    for name in OTHERS:
        with pytest.raises(ValueError, match=f"{name} is no array of real numbers"):
            read_mat(tmp_path / "a.mat", [name])


def test_the_other_byte_order(tmp_path: Path) -> None:
    head = struct.pack(">II", 6, 8) + struct.pack(">II", 7, 0)
    head += struct.pack(">II", 5, 8) + struct.pack(">ii", 1, 2)
    head += struct.pack(">HH", 1, 1) + b"x\0\0\0"  # a small element
    head += struct.pack(">II", 7, 8) + struct.pack(">ff", 0.5, 2.0)
    data = bytes(124) + b"\1\0MI" + struct.pack(">II", 14, len(head)) + head
    (tmp_path / "a.mat").write_bytes(data)
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", ["x"])[1]["x"], [[0.5, 2.0]])


def test_version_7_3(tmp_path: Path) -> None:
    """As MATLAB writes it: HDF5 behind 512 bytes, axes the other way round."""
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in ARRAYS.items():
            options = {"compression": "gzip", "shuffle": True} if name == "double" else {}
            file.create_dataset(name, data=array.T, **options)
        file.create_group("#refs#")
        file.create_group("struct")
    data = bytearray(path.read_bytes())
    data[:128] = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"
    path.write_bytes(data)
    names, found = read_mat(path, [*ARRAYS, "another"])
    assert sorted(names) == sorted([*ARRAYS, "struct"])
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ValueError, match="struct is no array"):
        read_mat(path, ["struct"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (variable((2, 4)), r"float32 and shape \(2, 4\) with 24 bytes"),
        (variable((2**31 - 1, 2**31 - 1)), "with 24 bytes"),
        (variable((-2, -3)), "no shape"),
        (variable((6,)), "no shape"),
        (variable(stored=99), "values of an unknown type"),
        (variable(kind=7 | 0x800), "no array of real numbers"),
        (variable(kind=1), "no array of real numbers"),
        (variable()[:-8], "cut off"),
        (element(14, element(6, bytes(8))), "lacks a part"),
        (element(14, element(6, bytes(4)) * 3), "without a class"),
        (variable() + variable(), "same name"),
        (struct.pack("<II", 14, 2**32 - 1), "cut off"),
        (b"\1\2\3", "damaged"),
        (element(15, zlib.compress(variable())[:-20]), "unpacks to|lacks|cut off|damaged"),
        (element(15, b"no zlib at all"), "damaged"),
        (element(15, zlib.compress(element(1, bytes(8)))), "no variable"),
        (struct.pack("<HH", 1, 9) + bytes(4), "cut off"),
    ],
)
def test_nothing_is_believed(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_mat(file_of(tmp_path / "a.mat", content), ["features"])
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_what_unpacks_to_much_more_is_refused(tmp_path: Path, most_held: MostHeld) -> None:
    """3 MB that unpack to 512 MB; nothing of it is unpacked but its head."""
    head = variable((1 << 13, 1 << 14), data=b"")[8:-8] + struct.pack("<II", 7, 1 << 29)
    packer = zlib.compressobj(1)
    packed = packer.compress(struct.pack("<II", 14, len(head) + (1 << 29)) + head)
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 9)) + packer.flush()
    path = file_of(tmp_path / "bomb.mat", struct.pack("<II", 15, len(packed)) + packed)
    assert path.stat().st_size < 3 << 20
    assert read_mat(path, [])[0] == ["features"]

    def work() -> None:
        with pytest.raises(ValueError, match="that unpack to 53687"):
            read_mat(path, ["features"])

    assert most_held(work) < 10 << 20


def test_hdf5_takes_no_values_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(24))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros((2, 3))
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        file["link"] = h5py.ExternalLink("other.h5", "/x")
        file["soft"] = h5py.SoftLink("/hollow")
        outside = [(str(tmp_path / "secret"), 0, 24)]
        file.create_dataset("external", (2, 3), "f4", external=outside)
        layout = h5py.VirtualLayout((2, 3), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (2, 3))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("hollow", (1 << 20, 1 << 20), "f4", chunks=(1, 1 << 10))
        file["complex"] = np.zeros((2, 3), complex)
        file["text"] = "abc"
    for name, message in (
        ("link", "is a link"),
        ("soft", "is a link"),
        ("external", "do not lie in the file"),
        ("virtual", "do not lie in the file"),
        ("hollow", "with 0 bytes"),
        ("complex", "no array of real numbers"),
        ("text", "no array of real numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            read_mat(path, [name])


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file[b"fe\xff"] = np.zeros((2, 3))
        file["features"] = np.zeros((2, 3))
    assert read_mat(tmp_path / "a.mat", ["features"])[0] == ["features"]


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB 5.0", bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(99)]
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"no file of MATLAB|Unable to"):
        read_mat(tmp_path / "a.mat", ["features"])
