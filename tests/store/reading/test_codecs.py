"""Chunks are decoded as Zarr and HDF5 decode them; what is no chunk costs neither memory nor more
than a `ValueError`."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import MostHeld
from numcodecs import Blosc
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from antcache.store.reading import codecs
from antcache.store.reading.codecs import decode

TYPES = ("<f2", "<f4", "<f8", "|b1", "<i4", "<i8", "|u1")
FORMS = ("plain", "blosc", "gzip", "fixed", "varying")

arrays = st.builds(
    lambda kind, count, seed: (
        np.random.default_rng(seed).integers(0, 3, count).astype(np.dtype(kind))
    ),
    st.sampled_from(TYPES),
    st.integers(1, 300),
    st.integers(0, 99),
)
texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
    min_size=1,
    max_size=20,
)


def zarr_chunk(values: np.ndarray[Any, Any], **options: Any) -> bytes:
    kept: dict[str, Any] = {}
    kind = {"config": {"write_empty_chunks": True}, **options}
    zarr.create_array(MemoryStore(kept), data=values, chunks=values.shape, **kind)
    return bytes(kept["c/0"].to_bytes())


@settings(max_examples=30, deadline=None)
@given(values=arrays)
def test_values_come_back_as_from_zarr_and_hdf5(values: np.ndarray[Any, Any]) -> None:
    plain = zarr_chunk(values, compressors=None)
    packed = zarr_chunk(values, compressors=BloscCodec(cname="zstd", shuffle="bitshuffle"))
    with h5py.File(io.BytesIO(), "w") as file:
        own = file.create_dataset(
            "x", data=values, chunks=values.shape, compression="gzip", shuffle=True
        )
        _, deflated = own.id.read_direct_chunk((0,))
    for form, raw in (("plain", plain), ("blosc", packed), ("gzip", deflated)):
        found = decode(form, raw, values.dtype, len(values))
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values, err_msg=form)


@settings(max_examples=30, deadline=None)
@given(values=texts)
def test_texts_come_back_as_from_zarr_and_hdf5(values: list[str]) -> None:
    array = np.array(values, dtype=np.str_)
    raw = zarr_chunk(array.astype(np.dtypes.StringDType()), compressors=None)
    np.testing.assert_array_equal(decode("varying", raw, np.dtype(str), len(values)), array)
    fixed = np.char.encode(array, "utf-8")
    fixed = fixed.astype(f"S{max(1, fixed.itemsize)}")
    np.testing.assert_array_equal(decode("fixed", fixed.tobytes(), fixed.dtype, len(array)), array)


@settings(max_examples=200, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    raw=st.binary(max_size=200),
    count=st.integers(0, 50),
    kind=st.sampled_from(("<f2", "<f4", "|S3")),
)
def test_any_bytes_at_all(form: str, raw: bytes, count: int, kind: str) -> None:
    if (kind == "|S3") != (form == "fixed"):
        return
    try:
        found = decode(form, raw, np.dtype(kind), count)
    except ValueError:
        return
    assert found.shape == (count,)


@settings(max_examples=100, deadline=None)
@given(form=st.sampled_from(("blosc", "gzip", "varying")), data=st.data())
def test_a_chunk_with_other_bytes(form: str, data: st.DataObject) -> None:
    values = np.arange(500, dtype=np.float32)
    raw = {
        "blosc": lambda: bytes(Blosc("zstd", shuffle=2).encode(values)),
        "gzip": lambda: zlib.compress(values.tobytes()),
        "varying": lambda: struct.pack("<I", 500) + struct.pack("<I", 1) * 500 + b"x" * 500,
    }[form]()
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(0, len(raw)))])
    for bad in (bytes(changed), cut):
        with contextlib.suppress(ValueError):
            assert decode(form, bad, np.dtype("<f4"), 500).shape == (500,)


BOMBS = {
    "blosc": bytes(Blosc("zstd").encode(np.zeros(64 << 20, np.uint8))),
    "gzip": zlib.compress(bytes(64 << 20)),
    "varying": struct.pack("<I", 1 << 31) + bytes(8),
}
LIES = {
    "blosc": struct.pack("<4B3I", 2, 1, 0x94, 4, (1 << 31) - 16, 1 << 18, 100) + bytes(84),
    "gzip": zlib.compress(bytes(64 << 20), 9)[:1000],
    "varying": struct.pack("<II", 1, (1 << 32) - 1),
}


@pytest.mark.parametrize("form", BOMBS)
def test_no_more_memory_is_taken_than_the_shape_says(most_held: MostHeld, form: str) -> None:
    for raw in (BOMBS[form], LIES[form]):

        def work(raw: bytes = raw) -> None:
            with pytest.raises(ValueError, match=r"bytes|past the end"):
                decode(form, raw, np.dtype("<f4"), 1)

        assert most_held(work) < 1 << 20


def test_other_compressors_than_ours_are_refused() -> None:
    raw = bytes(Blosc("lz4").encode(np.zeros(100, np.float32)))
    with pytest.raises(ValueError, match="codec 1, not Zstandard"):
        decode("blosc", raw, np.dtype("<f4"), 100)


def test_one_long_text_among_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy gives all of them the length of the longest."""
    monkeypatch.setattr(codecs, "TEXT_BYTES", 4 * 1000 * 10)
    raw = np.array([b"x" * 1000] + [b""] * 9).tobytes()
    assert decode("fixed", raw, np.dtype("S1000"), 10).dtype == np.dtype("U1000")
    with pytest.raises(ValueError, match="11 texts of up to 1000 letters"):
        decode("fixed", raw + bytes(1000), np.dtype("S1000"), 11)
