"""What can be done to a stream of tokens under right hashes; a part of `hostile_stores.py`.

Promise: as there: each is an honest store with one thing in it that makes no sense, leads out, or
claims more than there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import hostile_seals as seals
import numpy as np
from hostile_kit import DIM, GRID, ROWS

from antcache.store import Store

Spoil = Callable[[Store, Path], Any]
STREAM, VIDEO = "features/tokens", "features/tokens/t0"
K = GRID[0] * GRID[1] * GRID[2]
AT = {"anchors": [0.0], "gaps": [1.0]}

STREAMS: dict[str, dict[str, Any]] = {
    "no grid": {"grid": None},
    "a grid of 10^18 tokens": {"grid": [10**6, 10**6, 10**6]},
    "a side of 4,000 digits": {"grid": [10**3999, 1, 1]},
    "a side of nothing": {"grid": [0, 1, 1]},
    "sides that are texts": {"grid": ["1", "2", "2"]},
    "a grid of grids": {"grid": [[1], [2], [2]]},
    "a grid of 10^6 sides": {"grid": [1] * 10**6},
    "rows past memory": {"grid": [1024, 1024, 1], "dim": 10**9},
    "10^6 futures": {"future": list(range(1, 10**6))},
    "a future of text": {"future": ["\x1b[2J"]},
    "a future in the past": {"future": [-1.0]},
    "other times": {"at": AT},
    "times of text": {"at": "\x1b]0;owned\x07"},
    "times of 10^6 gaps": {"at": {"anchors": [0.0], "gaps": list(range(10**6))}},
    "times of other things": {"at": {**AT, "path": "../../victim"}},
    "a grid pooled from less": {"pooled_from": [1, 1, 1]},
    "a grid pooled from text": {"pooled_from": "everything"},
    "floats for int8": {"dtype": "float16"},
}


def _scale(value: float) -> np.ndarray[Any, Any]:
    scale = np.ones((ROWS, K), np.float16)
    scale[-1, -1] = value
    return scale


UNITS: dict[str, dict[str, Any]] = {
    "no scale": {"scale": None},
    "a scale that is no number": {"scale": _scale(float("nan"))},
    "an infinite scale": {"scale": _scale(float("inf"))},
    "a negative scale": {"scale": _scale(-1)},
    "a scale of rows": {"scale": _scale(1)[:, 0]},
    "scales of fewer rows": {"scale": _scale(1)[:-1]},
    "scales that are texts": {"scale": np.full((ROWS, K), "1")},
    "scales of 64 bits": {"scale": _scale(1).astype(np.float64)},
    "fewer tokens": {"rows": np.zeros((ROWS, K - 1, DIM), np.int8)},
    "vectors": {"rows": np.zeros((ROWS, DIM), np.int8)},
    "floats": {"rows": np.zeros((ROWS, K, DIM), np.float16)},
    "a dimension more": {"rows": np.zeros((ROWS, K, DIM, 1), np.int8)},
    "an array more": {"offset": np.zeros((ROWS, K), np.float16)},
}


def anywhere() -> Iterator[tuple[str, Spoil]]:
    """What can be done to either kind of store."""
    for name, changes in STREAMS.items():
        yield (
            f"tokens with {name}",
            lambda s, v, changes=changes: seals.group(s, STREAM, lambda own: own.update(changes)),
        )
    for name, arrays in UNITS.items():
        yield (
            f"a video of tokens with {name}",
            lambda s, v, arrays=arrays: seals.unit(s, VIDEO, arrays),
        )
    yield (
        "vectors that somebody calls tokens",
        lambda s, v: seals.group(s, "features/rgb", lambda own: own.update(grid=[1, 1, 1])),
    )


def in_zarr() -> Iterator[tuple[str, Spoil]]:
    """What can be done to a Zarr unit."""

    def described(name: str, *shape: int, chunk: tuple[int, ...] | None = None) -> Spoil:
        grid = {"name": "regular", "configuration": {"chunk_shape": list(chunk or shape)}}
        return lambda s, v: seals.zarr_unit(
            s,
            VIDEO,
            lambda files, _: seals.described(files, name, shape=list(shape), chunk_grid=grid),
        )

    yield "10^18 rows of tokens", described("rows", 10**18, K, DIM)
    yield "rows of 10^18 tokens", described("rows", ROWS, 10**18, DIM)
    yield "tokens in chunks of a part of a row", described("rows", ROWS, K, DIM, chunk=(1, 1, DIM))
    yield "10^18 scales", described("scale", 10**18, K)
    yield "a scale of 10^18 tokens", described("scale", ROWS, 10**18)

    def elsewhere(store: Store, victim: Path) -> None:
        path = store.backend.location(VIDEO) / "scale/c/0/0"
        path.unlink()
        path.symlink_to(victim / "rows.bin")

    yield "scales that are a link", elsewhere


def in_hdf5() -> Iterator[tuple[str, Spoil]]:
    """What can be done to an HDF5 unit."""

    def built(build: Callable[[h5py.File, Path], Any]) -> Spoil:
        return lambda s, v: seals.hdf5_unit(s, VIDEO, lambda file: build(file, v))

    def outside(file: h5py.File, victim: Path) -> None:
        del file["scale"]
        place = [(str(victim / "rows.bin"), 0, ROWS * K * 2)]
        file.create_dataset("scale", (ROWS, K), np.float16, external=place)

    def parts(file: h5py.File, victim: Path) -> None:
        del file["rows"]
        file.create_dataset("rows", data=np.zeros((ROWS, K, DIM), np.int8), chunks=(1, 1, DIM))

    def endless(file: h5py.File, victim: Path) -> None:
        del file["rows"]
        file.create_dataset("rows", (10**9, K, DIM), np.int8, chunks=(1 << 16, K, DIM))

    yield "scales in another file", built(outside)
    yield "tokens in chunks of a part of a row", built(parts)
    yield "10^9 rows of tokens that are not there", built(endless)
