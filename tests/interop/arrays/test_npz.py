"""Arrays of a `.npz`: what numpy writes comes back, and no size is believed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory import MostHeld

from antcache.interop.arrays.npz import is_npz, read_npy, read_npz


def npy(array: np.ndarray, header: str | None = None, version: tuple[int, int] = (1, 0)) -> bytes:
    """A `.npy`, with another header if one is given."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=version)
    if header is None:
        return buffer.getvalue()
    text = header.encode() + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + array.tobytes()


def write(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


ARRAYS = {
    "f4": np.arange(6, dtype="<f4").reshape(2, 3),
    "f2": np.asfortranarray(np.arange(6, dtype="<f2").reshape(2, 3)),
    "big": np.arange(4, dtype=">f8"),
    "text": np.array(["a", "bcd"]),
    "bytes": np.array([b"a", b"bcd"]),
    "truth": np.array([True, False]),
    "none": np.zeros((0, 5)),
    "single": np.array(3),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_comes_back(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    assert is_npz(tmp_path / "a.npz")
    names, found = read_npz(tmp_path / "a.npz", (*ARRAYS, "another"))
    assert names == list(ARRAYS)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert read_npz(tmp_path / "a.npz", ["f4"])[1].keys() == {"f4"}


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions(tmp_path: Path, version: tuple[int, int]) -> None:
    path = write(tmp_path / "a", {"x.npy": npy(ARRAYS["f4"], version=version)})
    np.testing.assert_array_equal(read_npz(path, ["x"])[1]["x"], ARRAYS["f4"])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (7,)}", r"shape \(7,\) with 24 bytes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999,)}", "with 24 bytes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-6,)}", "no shape"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': 6}", "no shape"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", "no shape"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (6, " + "9" * 5000 + ")}", "is none"),
        ("{'descr': '<U9999999', 'fortran_order': False, 'shape': (1,)}", "with 24 bytes"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", "other values"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}", "other values"),
        ("{'descr': 'f4,f4', 'fortran_order': False, 'shape': (3,)}", "other values"),
        ("{'descr': '(2,)f4', 'fortran_order': False, 'shape': (3,)}", "other values"),
        ("{'descr': '<V0', 'fortran_order': False, 'shape': (3,)}", "other values"),
        ("{'descr': 'nonsense', 'fortran_order': False, 'shape': (3,)}", "is none"),
        ("{'shape': (6,)}", "is none"),
        ("[" * 9000, "is none"),
        ("__import__('os').system('x')", "is none"),
        ("x" * 20_000, "another length"),
    ],
)
def test_headers_are_not_believed(tmp_path: Path, header: str, message: str) -> None:
    path = write(tmp_path / "a", {"x.npy": npy(np.zeros(6, "<f4"), header)})
    with pytest.raises(ValueError, match=message) as error:
        read_npz(path, ["x"])
    assert len(str(error.value)) < 400


def test_what_unpacks_to_much_more_is_refused(tmp_path: Path, most_held: MostHeld) -> None:
    """3 MB that unpack to 512 MB; nothing of it is unpacked."""
    member = io.BytesIO()
    with zipfile.ZipFile(member, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("logits.npy", "w", force_zip64=True) as file:
            for _ in range(1 << 9):
                file.write(bytes(1 << 20))
        archive.writestr("uid.npy", npy(np.array(["a"])))
    path = tmp_path / "bomb.npz"
    path.write_bytes(member.getvalue())
    assert path.stat().st_size < 3 << 20

    def work() -> None:
        with pytest.raises(ValueError, match="that unpack to 53687"):
            read_npz(path, ["uid", "logits"])

    assert most_held(work) < 10 << 20
    assert read_npz(path, ["uid"])[1]["uid"].tolist() == ["a"]


def test_a_directory_is_not_believed(tmp_path: Path) -> None:
    """It says that a member unpacks to little; what is unpacked ends there."""
    path = write(tmp_path / "a", {"x.npy": npy(np.zeros(1 << 20, "<f4"))})
    data = path.read_bytes()
    size = (npy(np.zeros(1 << 20, "<f4")).__len__()).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(ValueError, match=r"CRC|bytes"):
        read_npz(path, ["x"])


def test_other_archives(tmp_path: Path) -> None:
    assert not is_npz(write(tmp_path / "a", {"x.txt": b""}))
    whole = write(tmp_path / "b", {"x.npy": npy(np.zeros(6))}).read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-30])
    for read in (is_npz, lambda path: read_npz(path, ["x"])):
        with pytest.raises(ValueError, match="not a zip file"):
            read(tmp_path / "cut")
    encrypted = bytearray(whole)
    encrypted[encrypted.index(b"PK\3\4") + 6] |= 1
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked").write_bytes(encrypted)
    with pytest.raises(ValueError, match="encrypted"):
        read_npz(tmp_path / "locked", ["x"])
    packed = whole.replace(b"PK\3\4\x14\0\0\0\x08\0", b"PK\3\4\x14\0\0\0\x63\0")
    packed = packed.replace(b"PK\1\2\x14\x03\x14\0\0\0\x08\0", b"PK\1\2\x14\x03\x14\0\0\0\x63\0")
    assert packed != whole
    (tmp_path / "packed").write_bytes(packed)
    with pytest.raises(ValueError, match="compression"):
        read_npz(tmp_path / "packed", ["x"])
    two = write(tmp_path / "two", {"x.npy": npy(np.zeros(1)), "y.npy": npy(np.ones(1))})
    two.write_bytes(two.read_bytes().replace(b"y.npy", b"x.npy"))
    with pytest.raises(ValueError, match="same name"):
        read_npz(tmp_path / "two", ["x"])


@pytest.mark.parametrize("name", ARRAYS)
def test_one_array_alone(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "a.npy", ARRAYS[name])
    found = read_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, ARRAYS[name])
    assert found.dtype == ARRAYS[name].dtype


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x80\x04N.", "no array of numpy"),
        (npy(np.zeros(6, "<f4"))[:-4], "with 20 bytes"),
        (
            npy(np.zeros(3, "<f8"), "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}"),
            "other",
        ),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_npy(tmp_path / "a.npy")
