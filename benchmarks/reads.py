"""How fast are windows read: antcache against Zarr, HDF5, LMDB and a bare memory map?

    python benchmarks/reads.py [--record] [--repeats N] [--videos N] [--rows N] [--folder FOLDER]

Two parts. Part one: 20 videos of 3,000 rows of 1,024 float16 features in every form, random windows
of 10 rows spaced 15 (30 fps features, 2 fps windows), read in batches of 256 into one reused
buffer. Part two: the windows of EPIC-KITCHENS-55 (its real annotations and video lengths if they
are there), 272 videos at 4 fps, gathered into one pack.

One thread; page cache warm. All forms are measured in turn, over and over: a figure is the median,
a ratio the median of the ratios within one turn. Comparators are in their stronger form:
  - LMDB: one read transaction per window (RULSTM and AVT open one per frame), float16 values, half
    the bytes of the float32 that they keep; bounds are on these, float32 is shown beside them.
    "150 gets" fetches every frame of a window's 5 s and keeps every 15th, as AVT does.
  - Zarr and HDF5 through their APIs: arrays opened once. A Zarr read takes whole chunks, so small
    chunks are shown beside the store's own.
  - raw memory map: `numpy.memmap` of plain files, opened once, `take` into the buffer per window.
Memory over the pack is the peak of a fresh process's resident memory while it gathers, mapped pages
of the page cache included, less what it was before and less the pack's own bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ek55
import h5py
import lmdb
import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from record import Figure, finish

from antcache.store import Store
from antcache.windows.index import stream_features
from antcache.windows.lazy import LazyStream
from antcache.windows.pack import PackedFeatures
from antcache.windows.stream_rows import StreamRows

DIM, TIME, SPACING, BATCH = 1_024, 10, 15, 256
SMALL_CHUNK = 64
CPU = torch.device("cpu")
Read = Callable[[NDArray[np.int64]], None]
"""Reads the windows at some positions into the buffer."""


def write_store(path: Path, backend: str, videos: dict[str, NDArray[np.float16]]) -> Store:
    """A store with one stream of these videos."""
    store = Store.create(path, backend=backend)
    store.create_stream("rgb", dim=DIM, dtype="float16", fps=30, source="random", config={})
    for name, rows in videos.items():
        store.write_features("rgb", name, rows)
    return store


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


def lmdb_reader(
    env: lmdb.Environment,
    video: NDArray[np.str_],
    rows: NDArray[np.int64],
    out: NDArray[Any],
    every_frame: bool,
) -> Read:
    """Windows out of an LMDB: 10 gets, or all frames in between as well."""

    def read(positions: NDArray[np.int64]) -> None:
        for place, window in enumerate(positions.tolist()):
            name, numbers, row_out = video[window], (rows[window] + 1).tolist(), out[place]
            with env.begin() as transaction:
                if every_frame:
                    last = numbers[-1]
                    wanted = range(last - SPACING * TIME + 1, last + 1)
                    values = [transaction.get(frame_key(name, n)) for n in wanted]
                    decoded = [np.frombuffer(value, out.dtype) for value in values]
                    np.stack(decoded[SPACING - 1 :: SPACING], out=row_out)
                else:
                    for t, number in enumerate(numbers):
                        value = transaction.get(frame_key(name, number))
                        row_out[t] = np.frombuffer(value, out.dtype)

    return read


def readers(
    folder: Path, rng: np.random.Generator, windows: int, num_videos: int, num_rows: int
) -> dict[str, tuple[Read, int]]:
    """Every form of part one: how to read windows, and how many to read in a turn."""
    videos = {f"P{v:02d}": ek55.random_rows(num_rows, rng) for v in range(num_videos)}
    names = list(videos)
    which = rng.integers(0, num_videos, windows)
    start = rng.integers(SPACING - 1, num_rows - SPACING * (TIME - 1), windows)
    rows = start[:, None] + SPACING * np.arange(TIME)
    video = np.array(names)[which]
    out = np.empty((BATCH, TIME, DIM), np.float16)
    wide = np.empty((BATCH, TIME, DIM), np.float32)

    lazy, packs, plain = {}, {}, {}
    for backend in ("zarr", "hdf5"):
        store = write_store(folder / f"store-{backend}", backend, videos)
        features = {name: store.features("rgb", name) for name in names}
        asked = StreamRows(features=features, video=video, rows=rows)
        lazy[backend] = LazyStream.of(asked, CPU)
        packs[backend] = PackedFeatures.gather([asked], CPU)
    for name, values in videos.items():
        values.tofile(folder / f"{name}.raw")
    maps = [np.memmap(folder / f"{n}.raw", np.float16, "r", shape=(num_rows, DIM)) for n in names]
    root = zarr.open_group(folder / "store-zarr", mode="r")
    plain["zarr"] = [root[f"features/rgb/{name}/rows"] for name in names]
    small = zarr.open_group(folder / "small.zarr", mode="w")
    plain["zarr, 64-row chunks"] = [
        small.create_array(name, data=values, chunks=(SMALL_CHUNK, DIM), compressors=None)
        for name, values in videos.items()
    ]
    files = [h5py.File(folder / f"store-hdf5/features/rgb/{name}.h5") for name in names]
    plain["h5py"] = [file["rows"] for file in files]
    narrow_lmdb = write_lmdb(folder / "float16.lmdb", videos)
    wide_lmdb = write_lmdb(
        folder / "float32.lmdb", {n: v.astype(np.float32) for n, v in videos.items()}
    )

    def mapped(backend: str) -> Read:
        own = lazy[backend]
        return lambda positions: own.read(positions, out[: len(positions)])

    def packed(positions: NDArray[np.int64]) -> None:
        for _ in packs["zarr"].batches(torch.from_numpy(positions), BATCH):
            pass

    def raw(positions: NDArray[np.int64]) -> None:
        for place, window in enumerate(positions.tolist()):
            maps[which[window]].take(rows[window], axis=0, out=out[place], mode="clip")

    def api(kind: str) -> Read:
        arrays = plain[kind]

        def read(positions: NDArray[np.int64]) -> None:
            for place, window in enumerate(positions.tolist()):
                first, last = int(rows[window, 0]), int(rows[window, -1])
                out[place] = arrays[which[window]][first : last + 1 : SPACING]

        return read

    def gets(env: lmdb.Environment, target: NDArray[Any], every_frame: bool) -> Read:
        return lmdb_reader(env, video, rows, target, every_frame)

    found: dict[str, tuple[Read, int]] = {
        "antcache map": (mapped("zarr"), windows),
        "antcache map, hdf5": (mapped("hdf5"), windows),
        "antcache pack": (packed, windows),
        "raw memory map": (raw, windows),
        "LMDB, 10 gets": (gets(narrow_lmdb, out, False), windows // 8),
        "LMDB, 10 gets, float32": (gets(wide_lmdb, wide, False), windows // 8),
        "LMDB, 150 gets": (gets(narrow_lmdb, out, True), windows // 64),
        "LMDB, 150 gets, float32": (gets(wide_lmdb, wide, True), windows // 64),
        **{name: (api(name), windows // 80) for name in plain},
    }
    first = np.arange(4)
    for name, (read, _) in found.items():  # all read the same, or the race means nothing
        if name != "antcache pack":
            read(first)
            got = wide if "float32" in name else out
            wanted = np.stack([videos[video[w]][rows[w]] for w in first])
            np.testing.assert_array_equal(got[:4], wanted.astype(got.dtype), err_msg=name)
    return found


def race(
    found: dict[str, tuple[Read, int]], rng: np.random.Generator, windows: int, repeats: int
) -> dict[str, NDArray[np.float64]]:
    """Windows per second of each form, in each turn."""
    speeds: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(repeats + 1):
        order = rng.permutation(windows)
        for name, (read, share) in found.items():
            batches = np.split(order[:share], range(BATCH, share, BATCH))
            started = time.perf_counter()
            for positions in batches:
                read(positions)
            if turn:  # the first warms up
                speeds[name].append(share / (time.perf_counter() - started))
    return {name: np.array(values) for name, values in speeds.items()}


def part_one(folder: Path, repeats: int, num_videos: int, num_rows: int) -> list[Figure]:
    """All forms side by side."""
    rng = np.random.default_rng(0)
    windows = 80 * BATCH
    found = readers(folder, rng, windows, num_videos, num_rows)
    speeds = race(found, rng, windows, repeats)
    mapped = speeds["antcache map"]
    bounds = {"LMDB, 10 gets": 5.0, "LMDB, 150 gets": 30.0, "raw memory map": 0.7}
    figures = [
        Figure(
            figure=name,
            value=round(float(np.median(values)), 1),
            unit="windows/s",
            spread=round(float(values.std(ddof=1)), 1),
            n=repeats,
        )
        for name, values in speeds.items()
    ]
    for other, values in speeds.items():
        if other.startswith("antcache"):
            continue
        ratio = mapped / values
        figures.append(
            Figure(
                figure=f"antcache map over {other}",
                value=round(float(np.median(ratio)), 3),
                unit="x",
                at_least=bounds.get(other),
                spread=round(float(ratio.std(ddof=1)), 3),
                n=repeats,
            )
        )
    return figures


def memory_status() -> dict[str, int]:
    """Bytes of this process by kind: VmHWM, VmRSS, RssAnon, RssFile."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    names = ("VmHWM", "VmRSS", "RssAnon", "RssFile")
    return {name: int(fields[name].split()[0]) * 1024 for name in names}


def gather_alone(path: Path, memory_map: bool) -> None:
    """What a fresh process says about its memory while it gathers, as one JSON line."""
    torch.set_num_threads(1)
    asked = StreamRows.of(*ek55.open_windows(path, memory_map))
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from now
    before = memory_status()
    anonymous = []

    def watch(label: str, done: float, total: float) -> None:
        anonymous.append(memory_status()["RssAnon"])

    size = PackedFeatures.gather([asked], CPU, progress=watch).num_bytes
    peak = memory_status()["VmHWM"] - before["VmRSS"] - size
    print(json.dumps({"peak": peak, "anonymous": max(anonymous) - before["RssAnon"] - size}))


def part_two(folder: Path, repeats: int) -> list[Figure]:
    """Packing EK55's windows."""
    path = folder / "ek55"
    size = ek55.write(path)
    opening, packing = [], []
    for turn in range(repeats + 1):
        segments, _ = ek55.segments_and_seconds()
        store = Store.open(path)
        started = time.perf_counter()
        stream_features(store, "rgb", segments)
        opening.append(time.perf_counter() - started)
        features, index = ek55.open_windows(path, True)
        assert len(index) == len(segments), len(index)
        started = time.perf_counter()
        pack = PackedFeatures.gather([StreamRows.of(features, index)], CPU)
        packing.append(pack.num_bytes / 1e9 / (time.perf_counter() - started))
        if not turn:
            for window in (0, len(index) // 3, len(index) - 1):
                rows = features[str(index.labels.video[window])].read(index.rows[window])
                assert np.array_equal(pack.take([window])[0].numpy(), rows)
        del pack
    speed, seconds = np.array(packing[1:]), np.array(opening[1:])
    figures = [
        Figure(figure="EK55: features in the store", value=round(size / 1e9, 3), unit="GB"),
        Figure(
            figure="EK55: opening 272 videos",
            value=round(float(np.median(seconds)), 4),
            unit="s",
            spread=round(float(seconds.std(ddof=1)), 4),
            n=repeats,
        ),
        Figure(
            figure="EK55: packing",
            value=round(float(np.median(speed)), 3),
            unit="GB/s",
            at_least=1.0,
            spread=round(float(speed.std(ddof=1)), 3),
            n=repeats,
        ),
    ]
    for way, option in (("map", "map"), ("API", "api")):
        command = [sys.executable, __file__, "--gather", option, "--folder", str(path)]
        said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for name, key, bound in (("peak", "peak", 200.0), ("anonymous", "anonymous", None)):
            figures.append(
                Figure(
                    figure=f"EK55: memory over the pack, {way}, {name}",
                    value=round(said[key] / 1e6, 1),
                    unit="MB",
                    at_most=bound,
                )
            )
    return figures


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--repeats", type=int, default=7, help="turns, at least 2")
    parser.add_argument("--videos", type=int, default=20, help="of part one")
    parser.add_argument("--rows", type=int, default=3_000, help="of each video of part one")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("--gather", choices=["map", "api"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.gather:
        gather_alone(arguments.folder, arguments.gather == "map")
        return
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        figures = part_one(folder, arguments.repeats, arguments.videos, arguments.rows)
        figures += part_two(folder, arguments.repeats)
    finally:
        shutil.rmtree(folder)
    for figure in figures:
        bound = f"  at least {figure.at_least}" if figure.at_least else ""
        bound += f"  at most {figure.at_most}" if figure.at_most else ""
        print(f"{figure.figure:42}{figure.value:14,.2f} {figure.unit}{bound}")
    finish("reads", figures, record=arguments.record)


if __name__ == "__main__":
    main()
