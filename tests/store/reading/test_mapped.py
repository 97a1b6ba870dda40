from __future__ import annotations

import gc
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.errors import BadConfig, DamagedStore
from antcache.store import Store
from antcache.store.format import digest
from antcache.store.reading.inside import Inside
from antcache.store.reading.mapped import MappedArray, as_bytes
from antcache.store.reading.pieces import ArrayLayout, Piece
from antcache.store.reading.proof import Proof


def written(
    folder: Path, values: np.ndarray[Any, Any], *, rows_per_file: int, offset: int = 0
) -> MappedArray:
    """`values` in files as Zarr has them (the last one padded), `offset` bytes before the rows."""
    pieces = []
    for number, start in enumerate(range(0, len(values), rows_per_file)):
        part = values[start : start + rows_per_file]
        padding = np.full((rows_per_file - len(part), *values.shape[1:]), 9, values.dtype)
        raw = part.tobytes() + padding.tobytes()
        (folder / str(number)).write_bytes(b"x" * offset + raw)
        place = (offset, len(raw))
        pieces.append(Piece(*place, Proof(str(number), (place,), digest(raw))))
    layout = ArrayLayout(
        shape=values.shape,
        dtype=values.dtype,
        stored=values.dtype,
        form="plain",
        rows=rows_per_file,
        pieces=tuple(pieces),
    )
    return MappedArray(layout, Inside(folder))


def maps_of(folder: Path) -> int:
    """How many maps of files in `folder` the process has."""
    return Path("/proc/self/maps").read_text().count(f"{folder}/")


@st.composite
def arrays(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], int, int]:
    """Values, rows per file and offset, which need not be aligned."""
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=2)))
    num_rows = draw(st.integers(1, 20))
    dtype = draw(st.sampled_from(["<f2", "<f4", ">f4", "<f8", "|b1", "<i8"]))
    values = np.random.default_rng(0).integers(0, 100, (num_rows, *shape)).astype(dtype)
    return values, draw(st.integers(1, num_rows + 3)), draw(st.sampled_from([0, 3, 512]))


@settings(max_examples=40, deadline=None)
@given(case=arrays(), data=st.data())
def test_slices_and_rows_are_those_of_the_array(
    case: tuple[np.ndarray[Any, Any], int, int], data: st.DataObject
) -> None:
    values, rows_per_file, offset = case
    bounds = st.integers(-len(values) - 2, len(values) + 2) | st.none()
    index = slice(data.draw(bounds), data.draw(bounds), data.draw(st.sampled_from([None, 1, 2])))
    rows = np.array(
        data.draw(st.lists(st.integers(0, len(values) - 1), max_size=12)), dtype=np.int64
    )
    at = np.random.default_rng(1).permutation(len(rows))
    with tempfile.TemporaryDirectory() as folder:
        array = written(Path(folder), values, rows_per_file=rows_per_file, offset=offset)
        np.testing.assert_array_equal(array[index], values[index])
        np.testing.assert_array_equal(array[...], values)
        assert array[...].dtype == values.dtype
        row_bytes = values[:1].nbytes
        out = np.zeros((len(rows), *values.shape[1:]), values.dtype)
        array.take(rows, as_bytes(out, row_bytes))
        np.testing.assert_array_equal(out, values[rows])
        array.take(rows, as_bytes(out, row_bytes), at)
        np.testing.assert_array_equal(out[at], values[rows])
        every_other = np.repeat(rows, 2)[::2]  # not contiguous
        array.take(every_other, as_bytes(out, row_bytes))
        np.testing.assert_array_equal(out, values[rows])


def test_an_array_without_rows_has_no_file(tmp_path: Path) -> None:
    array = written(tmp_path, np.zeros((0, 3), np.float16), rows_per_file=1)
    assert array.num_files == 0
    assert array[...].shape == (0, 3)
    assert array[:5].shape == (0, 3)
    array.take(np.empty(0, np.int64), np.empty((0, 6), np.uint8))


def test_a_view_outlives_array_file_and_release(tmp_path: Path) -> None:
    values = np.arange(5000, dtype=np.float32).reshape(-1, 2)
    array = written(tmp_path, values, rows_per_file=len(values))
    view = array[3:9]
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    array.release()
    (tmp_path / "0").unlink()
    del array
    gc.collect()
    assert maps_of(tmp_path) == 1
    np.testing.assert_array_equal(view, values[3:9])
    del view
    gc.collect()
    assert maps_of(tmp_path) == 0


def test_files_are_mapped_when_they_are_read_and_let_go(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(-1, 2)
    array = written(tmp_path, values, rows_per_file=2)
    out = np.empty((1, 2), np.float32)
    array.take(np.array([3]), as_bytes(out, 8))
    assert maps_of(tmp_path) == 1
    array.release()
    assert maps_of(tmp_path) == 0
    array.take(np.array([5]), as_bytes(out, 8))
    np.testing.assert_array_equal(out[0], values[5])


def test_a_pickled_array_makes_its_own_maps(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(-1, 2)
    array = written(tmp_path, values, rows_per_file=4)
    array[...]
    text = pickle.dumps(array)
    assert len(text) < 2500
    np.testing.assert_array_equal(pickle.loads(text)[...], values)


def test_what_can_not_be_mapped_is_named(tmp_path: Path) -> None:
    values = np.zeros((6, 2), np.float32)
    array = written(tmp_path, values, rows_per_file=2)
    (tmp_path / "1").write_bytes(b"short")
    (tmp_path / "2").unlink()
    np.testing.assert_array_equal(array[:2], 0)
    with pytest.raises(DamagedStore, match=r"/1: can't be read \(its values are not as they were"):
        array[2:4]
    with pytest.raises(DamagedStore, match=r"/2: can't be read \(the file is gone\) .*repair"):
        array[4:]
    (tmp_path / "2").mkdir()
    with pytest.raises(DamagedStore, match=r"/2: a folder, which no store has here"):
        array[4:]
    (tmp_path / "2").rmdir()
    (tmp_path / "2").symlink_to("0")
    with pytest.raises(DamagedStore, match=r"/2: a symbolic link, which no store has here"):
        array[4:]


def test_a_disk_that_can_not_be_mapped_is_named(tmp_path: Path) -> None:
    """As of some network file systems; bytes that are right, and a length of 0."""
    array = written(tmp_path, np.zeros((1, 2), np.float32), rows_per_file=1)
    array._places = (Piece(0, 0, Proof("0", (), digest())),)
    with pytest.raises(BadConfig, match=r"/0: can't be memory-mapped .*memory_map=False"):
        array.piece(0)


def test_a_file_is_not_mapped_past_its_end(tmp_path: Path) -> None:
    """That would kill the process."""
    array = written(tmp_path, np.zeros((1, 2), np.float32), rows_per_file=1)
    (place,) = array._places
    array._places = (Piece(0, 16, place.proof),)
    with pytest.raises(DamagedStore, match=r"/0: .*too short: 8 bytes, not 16"):
        array.piece(0)


@pytest.mark.parametrize("memory_map", [True, False])
@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_no_file_stays_open(tmp_path: Path, backend: str, memory_map: bool) -> None:
    store = Store.create(tmp_path / "store", backend=backend)
    store.create_stream("rgb", dim=2, dtype="float16", fps=4, source="x", config={})
    for video in range(12):
        store.write_features("rgb", f"v{video}", np.full((3, 2), video, np.float16))
    store = Store.open(tmp_path / "store", memory_map=memory_map)
    store.features("rgb", "v0").read()  # Zarr starts its threads
    before = sorted(Path("/proc/self/fd").iterdir())
    features = [store.features("rgb", f"v{video}") for video in range(12)]
    for video, each in enumerate(features):
        np.testing.assert_array_equal(each.read(), video)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
