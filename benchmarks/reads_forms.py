"""The ways to read windows that `reads.py` races: antcache's, and what else there is.

Promise: before anything is timed, every way has read the same windows as were written. Each reads
into one buffer that it keeps. Rows are vectors, or int8 tokens; the scales of these, one of 500
bytes, are read by antcache and the raw map alone, which favours the others.
Letters: N windows, T rows of a window, R rows of a video, K tokens of a row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from reads_others import Others, Read

from antcache.store import Store
from antcache.windows.reading.lazy import LazyStream
from antcache.windows.reading.pack import PackedFeatures
from antcache.windows.reading.stream_rows import StreamRows

CPU = torch.device("cpu")
Batches = Sequence[NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Windows of videos that are all of one length.

    Attributes:
        videos: rows (R, ...) by name.
        which: (N,) number of each window's video.
        rows: (N, T) its rows, evenly spaced.
        spacing: of these.
        batch: how many windows are read at once.
        small: rows of the smaller chunks in which Zarr is shown, too.
        grid: tokens of a row in time, height and width; None: a row is one vector.
        scales: (R, K) of int8 tokens, by video.
    """

    videos: dict[str, NDArray[Any]]
    which: NDArray[np.int64]
    rows: NDArray[np.int64]
    spacing: int
    batch: int
    small: int
    grid: tuple[int, int, int] | None = None
    scales: Mapping[str, NDArray[np.float16]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of the videos."""
        return list(self.videos)

    @property
    def any(self) -> NDArray[Any]:
        """The rows of one video."""
        return self.videos[self.names[0]]

    def buffer(self, dtype: str | None = None) -> NDArray[Any]:
        """Room for a batch, in the rows' type or another."""
        shape = (self.batch, self.rows.shape[1], *self.any.shape[1:])
        return np.empty(shape, dtype or self.any.dtype)

    def values(
        self, positions: NDArray[np.int64], of: Mapping[str, NDArray[Any]] | None = None
    ) -> NDArray[Any]:
        """What was written of some windows, or what another array has at their rows."""
        arrays, names = of or self.videos, self.names
        return np.stack([arrays[names[self.which[w]]][self.rows[w]] for w in positions])

    def scale_buffer(self) -> NDArray[np.float16] | None:
        """Room for the scales of a batch, if there are any."""
        scales = [*self.scales.values()][:1]
        shape = (self.batch, self.rows.shape[1])
        return np.empty((*shape, scales[0].shape[1]), np.float16) if scales else None


@dataclass(frozen=True, kw_only=True)
class Form:
    """A way to read windows.

    Attributes:
        seconds: how long it takes for some batches.
        values: some windows as it reads them; None: not in this form.
        part: it is given one of so many windows in each turn.
        scales: where it leaves the scales of tokens, if it reads them.
    """

    seconds: Callable[[Batches], float]
    values: Callable[[NDArray[np.int64]], NDArray[Any]] | None
    part: int = 1
    scales: NDArray[np.float16] | None = None


def here(
    read: Read,
    out: NDArray[Any] | None,
    part: int = 1,
    scales: NDArray[np.float16] | None = None,
) -> Form:
    """A way to read in this process, into `out`, and into `scales` if it reads those."""

    def seconds(batches: Batches) -> float:
        started = time.perf_counter()
        for positions in batches:
            read(positions)
        return time.perf_counter() - started

    def values(positions: NDArray[np.int64]) -> NDArray[Any]:
        read(positions)
        assert out is not None
        return out[: len(positions)]

    return Form(seconds=seconds, values=None if out is None else values, part=part, scales=scales)


def check(forms: dict[str, Form], asked: Asked) -> None:
    """All read the same, or the race means nothing."""
    few = np.arange(4)
    wanted = asked.values(few)
    for name, form in forms.items():
        if form.values is not None:
            got = form.values(few)
            np.testing.assert_array_equal(got, wanted.astype(got.dtype), err_msg=name)
            if form.scales is not None:
                wanted_scales = asked.values(few, asked.scales)
                np.testing.assert_array_equal(form.scales[: len(few)], wanted_scales, err_msg=name)


def write_store(path: Path, backend: str, asked: Asked) -> Store:
    """A store with one stream of these videos."""
    store = Store.create(path, backend=backend)
    rows = asked.any
    store.create_stream(
        "rgb",
        dim=rows.shape[-1],
        dtype=str(rows.dtype),
        fps=30,
        source="random",
        config={},
        grid=asked.grid,
    )
    for name, rows in asked.videos.items():
        store.write_features("rgb", name, rows, scale=asked.scales.get(name))
    return store


def of_antcache(folder: Path, asked: Asked) -> dict[str, Form]:
    """From the memory maps of both backends, and out of a pack, if that is of what is read: tokens
    come out of it as floats (`tokens.py`)."""
    found = {}
    video = np.array(asked.names)[asked.which]
    for backend, more in (("zarr", ""), ("hdf5", ", hdf5")):
        store = write_store(folder / f"store-{backend}", backend, asked)
        features = {name: store.features("rgb", name) for name in asked.names}
        windows = StreamRows(features=features, video=video, rows=asked.rows)
        out, scales = asked.buffer(), asked.scale_buffer()
        buffers = (out,) if scales is None else (out, scales)
        read = partial(mapped, lazy=LazyStream.of(windows, CPU), buffers=buffers)
        found[f"antcache map{more}"] = here(read, out, scales=scales)
    if asked.grid is not None:
        return found
    pack = PackedFeatures.gather([windows], CPU)

    def packed(positions: NDArray[np.int64]) -> None:
        for _ in pack.batches(torch.from_numpy(positions), asked.batch):
            pass

    return {**found, "antcache pack": here(packed, None)}


def mapped(positions: NDArray[np.int64], lazy: LazyStream, buffers: Sequence[NDArray[Any]]) -> None:
    """Read windows as they are stored: rows, and the scales of tokens."""
    lazy.read(positions, *(buffer[: len(positions)] for buffer in buffers))


def of_map(folder: Path, asked: Asked) -> dict[str, Form]:
    """From plain files, mapped once."""
    out, scales = asked.buffer(), asked.scale_buffer()
    pairs = [(mapped_files(folder, "raw", asked.videos), out)]
    if scales is not None:
        pairs.append((mapped_files(folder, "scales", asked.scales), scales))

    def read(positions: NDArray[np.int64]) -> None:
        for place, window in enumerate(positions.tolist()):
            which, rows = asked.which[window], asked.rows[window]
            for maps, buffer in pairs:
                maps[which].take(rows, axis=0, out=buffer[place], mode="clip")

    return {"raw memory map": here(read, out, scales=scales)}


def mapped_files(
    folder: Path, ending: str, arrays: Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    """Each array as the map of a plain file `NAME.ending`."""
    maps: list[NDArray[Any]] = []
    for name, values in arrays.items():
        path = folder / f"{name}.{ending}"
        values.tofile(path)
        maps.append(np.memmap(path, values.dtype, "r", shape=values.shape))
    return maps


def small_chunks(folder: Path, asked: Asked) -> None:
    """The videos once more as Zarr, in small chunks."""
    group = zarr.open_group(folder / "small.zarr", mode="w")
    for name, rows in asked.videos.items():
        chunks = (min(asked.small, len(rows)), *rows.shape[1:])
        group.create_array(name, data=rows, chunks=chunks, compressors=None)


def chunkings(asked: Asked) -> dict[str, str]:
    """Where a video's rows lie as Zarr, by what the chunks are called."""
    return {
        "": "store-zarr/features/rgb/{name}/rows",
        f", {asked.small}-row chunks": "small.zarr/{name}",
    }


def of_apis(folder: Path, asked: Asked, part: int, zarr_part: int) -> dict[str, Form]:
    """By h5py and this Python's Zarr from arrays that are opened once."""
    arrays = {
        f"zarr{chunks}": [
            zarr.open_array(folder / path.format(name=name), mode="r") for name in asked.names
        ]
        for chunks, path in chunkings(asked).items()
    }
    files = [h5py.File(folder / f"store-hdf5/features/rgb/{name}.h5") for name in asked.names]
    arrays["h5py"] = [file["rows"] for file in files]
    out = asked.buffer()

    def read(positions: NDArray[np.int64], own: list[Any]) -> None:
        for place, window in enumerate(positions.tolist()):
            first, last = int(asked.rows[window, 0]), int(asked.rows[window, -1])
            out[place] = own[asked.which[window]][first : last + 1 : asked.spacing]

    return {
        name: here(partial(read, own=own), out, part if name == "h5py" else zarr_part)
        for name, own in arrays.items()
    }


def of_lmdb(folder: Path, asked: Asked, dtype: str, part: int) -> dict[str, Form]:
    """By one get for each row of a window, in one transaction; also by as many as lie between."""
    out, time_ = asked.buffer(dtype), asked.rows.shape[1]
    videos = {name: rows.astype(dtype) for name, rows in asked.videos.items()}
    env = write_lmdb(folder / f"{dtype}.lmdb", videos)
    names, spacing = asked.names, asked.spacing

    def read(positions: NDArray[np.int64], every: bool) -> None:
        for place, window in enumerate(positions.tolist()):
            name, numbers = names[asked.which[window]], (asked.rows[window] + 1).tolist()
            row_out = out[place].reshape(time_, -1)
            with env.begin() as transaction:
                if every:
                    last = numbers[-1]
                    wanted = range(last - spacing * time_ + 1, last + 1)
                    values = [transaction.get(frame_key(name, n)) for n in wanted]
                    decoded = [np.frombuffer(value, out.dtype) for value in values]
                    np.stack(decoded[spacing - 1 :: spacing], out=row_out)
                else:
                    for t, number in enumerate(numbers):
                        value = transaction.get(frame_key(name, number))
                        row_out[t] = np.frombuffer(value, out.dtype)

    more = "" if dtype == asked.any.dtype else f", {dtype}"
    gets = "get" if time_ == 1 else "gets"
    found = {f"LMDB, {time_} {gets}{more}": here(partial(read, every=False), out, part)}
    if spacing > 1:
        every = here(partial(read, every=True), out, 8 * part)
        found[f"LMDB, {spacing * time_} gets{more}"] = every
    return found


def write_lmdb(path: Path, videos: dict[str, NDArray[Any]]) -> lmdb.Environment:
    """One value per frame, keyed as RULSTM's."""
    with lmdb.open(str(path), map_size=1 << 32, sync=False) as env:
        for name, rows in videos.items():
            with env.begin(write=True) as transaction:
                for number, row in enumerate(rows, start=1):
                    transaction.put(frame_key(name, number), row.tobytes())
    return lmdb.open(str(path), readonly=True, lock=False, readahead=False)


def frame_key(video: str, number: int) -> bytes:
    """RULSTM's key of a frame, counted from 1."""
    return f"{video}_frame_{number:010d}.jpg".encode()


def leave_for_others(folder: Path, asked: Asked) -> None:
    """Say in the folder what is asked for, beside what `of_antcache`, `of_map` and `small_chunks`
    have written."""
    np.savez(folder / "asked.npz", which=asked.which, rows=asked.rows)
    said = {
        "names": asked.names,
        "num_rows": len(asked.any),
        "row": asked.any.shape[1:],
        "dtype": str(asked.any.dtype),
        "spacing": asked.spacing,
        "batch": asked.batch,
        "chunks": chunkings(asked),
    }
    (folder / "asked.json").write_text(json.dumps(said), "utf-8")


def of_others(process: Others, part: int) -> dict[str, Form]:
    """In the process of another Python."""
    return {
        name: Form(
            seconds=partial(process.seconds, name), values=partial(process.values, name), part=part
        )
        for name in process.there
    }
