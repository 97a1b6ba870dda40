from __future__ import annotations

import itertools
import pickle
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import MostHeld

from antcache.store import Features, Store
from antcache.store import features as features_module
from antcache.store import format as format_module
from antcache.store.reading.gather import Gatherer
from antcache.store.reading.mapped import MappedArray

DIM = 5
KINDS = list(itertools.product(["zarr", "hdf5"], [False, True]))
"""Backend, and whether it compresses."""
MakeVideos = Callable[..., list[Features]]


def store_of(path: Path, videos: list[np.ndarray[Any, Any]], backend: str, zipped: bool) -> None:
    dim, dtype = videos[0].shape[1], str(videos[0].dtype)
    store = Store.create(path, backend=backend)
    store.create_stream(
        "rgb", dim=dim, dtype=dtype, fps=4, source="x", config={}, compressed=zipped
    )
    for number, rows in enumerate(videos):
        store.write_features("rgb", f"v{number}", rows)


def opened(path: Path, count: int, *, memory_map: bool) -> list[Features]:
    store = Store.open(path, memory_map=memory_map)
    return [store.features("rgb", f"v{number}") for number in range(count)]


@pytest.fixture
def make_videos(tmp_path: Path) -> MakeVideos:
    """Function that gives two videos of 30 and 7 rows, out of a store with chunks of 4 rows."""

    def make(
        backend: str = "zarr", zipped: bool = False, memory_map: bool = True
    ) -> list[Features]:
        with mock.patch.object(format_module, "CHUNK_BYTES", 4 * 2 * DIM):
            store_of(tmp_path / "store", [rows_of(30), rows_of(7)], backend, zipped)
        return opened(tmp_path / "store", 2, memory_map=memory_map)

    return make


def rows_of(num_rows: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(num_rows).normal(size=(num_rows, DIM)).astype(np.float16)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Videos, chunk and block lengths, and windows in any order, with repeats."""
    lengths = draw(st.lists(st.integers(1, 15), min_size=1, max_size=3))
    num_windows, time = draw(st.integers(0, 8)), draw(st.integers(1, 5))
    which = draw(
        st.lists(st.integers(0, len(lengths) - 1), min_size=num_windows, max_size=num_windows)
    )
    rows = [
        draw(st.lists(st.integers(0, lengths[v] - 1), min_size=time, max_size=time)) for v in which
    ]
    return {
        "lengths": lengths,
        "dim": draw(st.integers(1, 3)),
        "dtype": draw(st.sampled_from(["float16", "float32"])),
        "chunk_bytes": draw(st.sampled_from([1, 16, 50, 1 << 20])),
        "block_bytes": draw(st.sampled_from([1, 40, 1 << 20])),
        "which": np.array(which, dtype=np.int64),
        "rows": np.array(rows, dtype=np.int64).reshape(num_windows, time),
        "seed": draw(st.integers(0, 9)),
    }


@settings(max_examples=12, deadline=None)
@given(case=cases())
def test_every_path_gives_the_same_windows(case: dict[str, Any]) -> None:
    rng = np.random.default_rng(case["seed"])
    videos = [rng.normal(size=(n, case["dim"])).astype(case["dtype"]) for n in case["lengths"]]
    which, rows = case["which"], case["rows"]
    wanted = np.zeros((len(which), rows.shape[1], case["dim"]), case["dtype"])
    for window, video in enumerate(which):
        wanted[window] = videos[video][rows[window]]
    at = rng.permutation(len(which))
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(format_module, "CHUNK_BYTES", case["chunk_bytes"]),
        mock.patch.object(features_module, "BLOCK_BYTES", case["block_bytes"]),
    ):
        for backend, zipped in KINDS:
            path = Path(folder) / f"{backend}-{zipped}"
            store_of(path, videos, backend, zipped)
            for memory_map in (True, False):
                found = opened(path, len(videos), memory_map=memory_map)
                mapped = {isinstance(f.rows, MappedArray) for f in found}
                assert mapped == {memory_map and not zipped}
                out = np.full_like(wanted, np.nan)
                Gatherer(found).into(out, which, rows)
                np.testing.assert_array_equal(out, wanted)
                out = np.full_like(wanted, np.nan)
                Gatherer(found).into(out, which, rows, at)
                np.testing.assert_array_equal(out[at], wanted)
                for video, each in zip(videos, found, strict=True):
                    np.testing.assert_array_equal(each.read(), video)
                    own = rows[which == which[0]] if len(which) and video is videos[0] else None
                    if own is not None and own.max() < len(video):
                        np.testing.assert_array_equal(each.read(own), video[own])


@pytest.mark.parametrize("memory_map", [True, False])
def test_what_does_not_fit_is_refused(make_videos: MakeVideos, memory_map: bool) -> None:
    videos = make_videos(memory_map=memory_map)
    which, rows = np.array([0, 1]), np.array([[0, 29], [6, 0]])
    out = np.full((2, 2, DIM), 7, np.float16)
    for wrong in (np.array([[0, 29], [7, 0]]), np.array([[-1, 29], [6, 0]])):
        with pytest.raises(IndexError, match=r"rows \[.*\] of (7|30)"):
            Gatherer(videos).into(out, which, wrong)
    for at in (np.array([0, 2]), np.array([-1, 0])):
        with pytest.raises(IndexError, match="past the 2"):
            Gatherer(videos).into(out, which, rows, at)
    with pytest.raises(IndexError, match="past the 1"):
        Gatherer(videos).into(out[:1], which, rows)
    for bad in (out.astype(np.float32), out[..., :4], out[:, :, ::-1], np.asfortranarray(out)):
        with pytest.raises(ValueError, match=r"not float16 \(2, 2, 5\) in one piece"):
            Gatherer(videos).into(bad, which, rows)
    with pytest.raises(ValueError, match="3 videos for 2 windows"):
        Gatherer(videos).into(np.empty((3, 2, DIM), np.float16), np.array([0, 1, 1]), rows)
    assert (out == 7).all()
    with pytest.raises(IndexError, match="rows 3 to 7 of 7"):
        videos[1].read(np.array([3, 7]))
    with pytest.raises(IndexError, match="rows -1 to 3 of 7"):
        videos[1].read(np.array([3, -1]))
    for bad in (np.empty((1, DIM), np.float32), np.empty((2, DIM), np.float16)):
        with pytest.raises(ValueError, match=r"not float16 \(1, 5\) in one piece"):
            videos[1].read(np.array([3]), out=bad)


def test_videos_of_several_widths_are_refused(make_videos: MakeVideos) -> None:
    other = Features(rows=np.zeros((3, 4), np.float16), fps=4, start_s=0)
    with pytest.raises(ValueError, match="several kinds"):
        Gatherer([*make_videos(), other])


def test_a_gatherer_can_be_pickled(make_videos: MakeVideos) -> None:
    gatherer = Gatherer(make_videos())
    which, rows = np.array([1, 0, 0]), np.array([[6, 0], [29, 3], [4, 4]])
    out, again = np.empty((2, 3, 2, DIM), np.float16)
    gatherer.into(out, which, rows)
    text = pickle.dumps(gatherer)
    assert b"mapped" in text  # still maps, and makes them anew
    pickle.loads(text).into(again, which, rows)
    np.testing.assert_array_equal(again, out)
    np.testing.assert_array_equal(out[0], rows_of(7)[rows[0]])


def test_rows_go_where_they_belong_without_a_copy(
    tmp_path: Path, most_held: MostHeld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside 8 MB of output: almost nothing for a map, and little more than a block otherwise."""
    monkeypatch.setattr(format_module, "CHUNK_BYTES", 64 << 10)
    monkeypatch.setattr(features_module, "BLOCK_BYTES", 128 << 10)
    rows = np.zeros((1000, 512), np.float16)
    which = np.zeros(800, dtype=np.int64)
    wanted = np.random.default_rng(0).integers(0, len(rows), (800, 10))
    out = np.empty((800, 10, 512), np.float16)
    for backend, zipped in KINDS:
        store_of(tmp_path / f"{backend}-{zipped}", [rows], backend, zipped)
        for memory_map in (True, False):
            found = opened(tmp_path / f"{backend}-{zipped}", 1, memory_map=memory_map)
            Gatherer(found).into(out, which, wanted)  # what is imported on the way
            gather = partial(Gatherer(found).into, out, which, wanted)
            assert most_held(gather, 1_500_000) < 1.5e6, (backend, zipped, memory_map)


def test_chunks_of_several_megabytes_are_read_whole(tmp_path: Path) -> None:
    """Files are read in pieces of 1 MiB; the last one must not stand for all of them."""
    rows = np.random.default_rng(0).normal(size=(5000, 512)).astype(np.float16)
    for backend, zipped in KINDS:
        store_of(tmp_path / f"{backend}-{zipped}", [rows], backend, zipped)
        for memory_map in (True, False):
            (found,) = opened(tmp_path / f"{backend}-{zipped}", 1, memory_map=memory_map)
            np.testing.assert_array_equal(found.read(), rows)
            np.testing.assert_array_equal(found.rows[2000:5000], rows[2000:])
            np.testing.assert_array_equal(found.rows[4999:5000], rows[4999:])
            np.testing.assert_array_equal(found.rows[5:5], rows[5:5])
