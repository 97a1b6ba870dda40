"""What is held while rows are written: the caller's own, and a few chunks of them."""

from __future__ import annotations

import itertools
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory import MostHeld

from antcache.store import Store
from antcache.store.format import CHUNK_BYTES
from antcache.store.remote.backend import RemoteZarrBackend

ROWS_BYTES = 12 * CHUNK_BYTES
BOUND = ROWS_BYTES * 3 // 4
"""A copy of the rows is longer, the chunks that are at work are not."""

FEATURES: dict[str, Any] = {"dim": 2048, "dtype": "float16"}
TOKENS: dict[str, Any] = {"dim": 1024, "dtype": "float16", "grid": (4, 16, 16), "future": (1.0,)}
STREAMS = {
    "features": FEATURES,
    "packed": FEATURES | {"compressed": True},
    "tokens": TOKENS,
    "int8": TOKENS | {"dtype": "int8"},
}


@contextmanager
def no_more_than(num_bytes: int) -> Iterator[None]:
    """Whoever asks for so much more memory gets none, HDF5 neither; only Linux sees to it."""
    if sys.platform != "linux":
        yield
        return
    lines = Path("/proc/self/status").read_text().splitlines()
    used = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmData"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@pytest.mark.parametrize("kind", ["zarr", "hdf5", "url"])
@pytest.mark.parametrize("stream", STREAMS)
def test_rows_are_held_once(
    tmp_path: Path, most_held: MostHeld, monkeypatch: pytest.MonkeyPatch, kind: str, stream: str
) -> None:
    store = Store.create(tmp_path / "store", backend="hdf5" if kind == "hdf5" else "zarr")
    if kind == "url":  # whose objects are held by nobody
        monkeypatch.setattr("antcache.store.remote.files.BATCH_BYTES", 2 * CHUNK_BYTES)
        store = Store(RemoteZarrBackend(f"file://{tmp_path}/store"))
    store.create_stream(stream, fps=4, source="test", config={}, **STREAMS[stream])
    settings = store.stream(stream)
    dtype = np.dtype(settings.dtype)
    count = ROWS_BYTES // (int(np.prod(settings.row_shape)) * dtype.itemsize)
    rows = np.ones((count, *settings.row_shape), dtype)
    rows.reshape(count, -1)[:, 0] = np.arange(count) % 100
    scale = np.ones(rows.shape[:2], np.float16) if dtype == np.int8 else None

    def write(video: str, count: int) -> None:
        own = None if scale is None else scale[:count]
        store.write_features(stream, video, rows[:count], scale=own)

    write("short", 1)  # everything is imported
    names = (f"long{number}" for number in itertools.count())

    def work() -> None:
        # What C takes is only known by its limit; Zarr's threads have memory of their own.
        with no_more_than(BOUND) if kind == "hdf5" else nullcontext():
            write(next(names), count)

    assert most_held(work, BOUND) < BOUND
    there = store.features(stream, "long0")
    assert (there.num_rows, float(there.read()[-1].flat[0])) == (count, (count - 1) % 100)
