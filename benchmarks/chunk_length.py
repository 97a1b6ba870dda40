"""How long should a chunk be?

    python benchmarks/chunk_length.py [--record] [--repeats N] [--share S] [--folder FOLDER]

Stores with chunks of at most 0.25, 1, 4, 16 and 64 MiB (`CHUNK_BYTES`), of two kinds of videos:
short ones (10 minutes at 4 fps, 1,024 float16: 4.9 MB) and long ones (30 minutes at 30 fps, 1,024
float32: 221 MB). Windows of 10 rows, 2 per second. For each length:
  - map: random windows per second, batches of 256 into a reused buffer, read lazily;
  - pack: output of `PackedFeatures.gather`, in GB/s, from memory maps and from a compressed store;
  - API: random windows per second through plain Zarr, array opened once, a slice per window;
  - memory: the most that packing the compressed store holds beside the pack (peak resident memory);
  - files: that 100 hours at 30 fps and 1,024 float32 (EPIC-KITCHENS-100) are kept in. Each is one
    memory map, and Linux allows 65,530 (`vm.max_map_count`).

One thread; page cache warm; lengths are measured in turn, over and over; medians.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from reads import memory_status
from record import Figure, finish

from antcache.store import Store
from antcache.store import format as store_format
from antcache.windows.reading.lazy import LazyStream
from antcache.windows.reading.pack import PackedFeatures
from antcache.windows.reading.stream_rows import StreamRows

MIB = (0.25, 1, 4, 16, 64)
DIM, TIME, BATCH = 1_024, 10, 256
CPU = torch.device("cpu")
KINDS = {  # frames per second, minutes, dtype, videos, windows
    "short": (4, 10, "float16", 20, 8_192),
    "long": (30, 30, "float32", 2, 4_096),
}
MAX_MAPS = 65_530
EK100_HOURS = 100


def rows_of(kind: str, share: float) -> int:
    """Rows of a video; of the whole length, or of a share of it."""
    fps, minutes, *_ = KINDS[kind]
    return int(fps * minutes * 60 * share)


def videos_of(kind: str, share: float) -> int:
    """How many videos; of a small share of them at least two."""
    return max(2, round(KINDS[kind][3] * share))


def write(path: Path, kind: str, mib: float, share: float, *, compressed: bool) -> None:
    """A store of one kind of videos with chunks of one length; half of its values are 0."""
    fps, _, dtype, *_ = KINDS[kind]
    count = videos_of(kind, share)
    rng = np.random.default_rng(0)
    num_rows = rows_of(kind, share)
    usual, store_format.CHUNK_BYTES = store_format.CHUNK_BYTES, int(mib * 2**20)
    try:
        store = Store.create(path)
        store.create_stream(
            "rgb", dim=DIM, dtype=dtype, fps=fps, source="x", config={}, compressed=compressed
        )
        for video in range(count):
            block = np.maximum(rng.standard_normal((600, DIM), dtype=np.float32), 0)
            store.write_features("rgb", f"v{video}", np.resize(block, (num_rows, DIM)))
    finally:
        store_format.CHUNK_BYTES = usual


def rows_of_windows(
    kind: str, share: float, *, ordered: bool
) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Video and rows of random windows, or the same by video and time as labels have them."""
    fps, *_, number = KINDS[kind]
    count = videos_of(kind, share)
    number = max(1, int(number * share) // BATCH) * BATCH
    rng = np.random.default_rng(1)
    which = rng.integers(0, count, number)
    spacing = fps // 2
    start = rng.integers(0, rows_of(kind, share) - spacing * TIME, number)
    if ordered:
        order = np.lexsort([start, which])
        which, start = which[order], start[order]
    rows = start[:, None] + spacing * np.arange(TIME)
    return np.array([f"v{v}" for v in range(count)])[which], rows


def windows_of(path: Path, kind: str, share: float, *, ordered: bool) -> StreamRows:
    """The windows of `rows_of_windows`, in a store."""
    store = Store.open(path)
    features = {f"v{v}": store.features("rgb", f"v{v}") for v in range(videos_of(kind, share))}
    video, rows = rows_of_windows(kind, share, ordered=ordered)
    return StreamRows(features=features, video=video, rows=rows)


def mapped(path: Path, kind: str, share: float) -> Callable[[], float]:
    """Windows per second, read lazily."""
    lazy = LazyStream.of(windows_of(path, kind, share, ordered=False), CPU)
    out = np.empty((BATCH, TIME, DIM), KINDS[kind][2])
    count = len(lazy.stream.rows)
    batches = np.split(np.arange(count), range(BATCH, count, BATCH))

    def measure() -> float:
        started = time.perf_counter()
        for positions in batches:
            lazy.read(positions, out)
        return count / (time.perf_counter() - started)

    return measure


def packed(path: Path, kind: str, share: float) -> Callable[[], float]:
    """GB/s of output of `PackedFeatures.gather`."""
    asked = windows_of(path, kind, share, ordered=True)

    def measure() -> float:
        started = time.perf_counter()
        pack = PackedFeatures.gather([asked], CPU)
        return pack.num_bytes / 1e9 / (time.perf_counter() - started)

    return measure


def plain(path: Path, kind: str, share: float) -> Callable[[], float]:
    """Windows per second through Zarr alone."""
    root = zarr.open_group(path, mode="r")
    arrays = {f"v{v}": root[f"features/rgb/v{v}/rows"] for v in range(videos_of(kind, share))}
    videos, windows = rows_of_windows(kind, share, ordered=False)
    out = np.empty((TIME, DIM), KINDS[kind][2])
    spacing, number = KINDS[kind][0] // 2, 48

    def measure() -> float:
        started = time.perf_counter()
        for video, rows in zip(videos[:number].tolist(), windows[:number], strict=True):
            out[:] = arrays[video][int(rows[0]) : int(rows[-1]) + 1 : spacing]
        return number / (time.perf_counter() - started)

    return measure


def memory(folder: Path, kind: str, share: float) -> dict[float, float]:
    """MB that packing holds beside the pack, by length of chunks, in a process of its own."""
    command = [sys.executable, __file__, "--memory", kind, "--folder", str(folder)]
    command += ["--share", str(share)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = map(float, done.stdout.split())
    return {mib: held / 1e6 for mib, held in zip(MIB, found, strict=True)}


def pack_alone(folder: Path, kind: str, share: float) -> None:
    """What a process says about its peak of memory while it packs, once for each length."""
    for turn, mib in enumerate((MIB[0], *MIB)):
        asked = windows_of(folder / f"{kind}-{mib}-compressed", kind, share, ordered=True)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from now
        before = memory_status()["VmRSS"]
        pack = PackedFeatures.gather([asked], CPU)
        if turn:  # the first loads what all need
            print(memory_status()["VmHWM"] - before - pack.num_bytes)
        del pack


def measure_all(
    folder: Path, kind: str, repeats: int, share: float
) -> dict[tuple[str, float], NDArray[Any]]:
    """Every speed of one kind of videos, by name and length, in each turn."""
    ways: dict[tuple[str, float], Callable[[], float]] = {}
    values: dict[tuple[str, float], list[float]] = {}
    for mib in MIB:
        path, zipped = folder / f"{kind}-{mib}", folder / f"{kind}-{mib}-compressed"
        write(path, kind, mib, share, compressed=False)
        write(zipped, kind, mib, share, compressed=True)
        ways["map, windows/s", mib] = mapped(path, kind, share)
        ways["pack, GB/s", mib] = packed(path, kind, share)
        ways["pack of a compressed store, GB/s", mib] = packed(zipped, kind, share)
        ways["API, windows/s", mib] = plain(path, kind, share)
    for turn in range(repeats + 1):
        for key, measure in ways.items():
            value = measure()
            if turn:  # the first warms up
                values.setdefault(key, []).append(value)
    for mib, held in memory(folder, kind, share).items():
        values["memory beside a compressed pack, MB", mib] = [held]
    return {key: np.array(found) for key, found in values.items()}


def files_of_ek100(mib: float) -> int:
    """Chunk files of 100 hours at 30 fps, in videos of half an hour."""
    rows = 30 * 60 * 30
    return EK100_HOURS * 2 * math.ceil(rows / max(1, int(mib * 2**20) // (DIM * 4)))


def is_chosen(mib: float) -> bool:
    """Whether stores are written with chunks of this length."""
    return int(mib * 2**20) == store_format.CHUNK_BYTES


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--repeats", type=int, default=5, help="turns, at least 2")
    parser.add_argument("--share", type=float, default=1.0, help="of lengths and numbers")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("--memory", choices=list(KINDS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        pack_alone(arguments.folder, arguments.memory, arguments.share)
        return
    torch.set_num_threads(1)
    figures = []
    for kind in KINDS:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            found = measure_all(folder, kind, arguments.repeats, arguments.share)
        finally:
            shutil.rmtree(folder)
        print(f"{kind + ' videos':45}" + "".join(f"{mib:>10g} MiB" for mib in MIB))
        for name in dict.fromkeys(name for name, _ in found):
            medians = {mib: float(np.median(found[name, mib])) for mib in MIB}
            print(f"{name:45}" + "".join(f"{value:14,.2f}" for value in medians.values()))
            unit = name.rpartition(" ")[2]
            for mib, value in medians.items():
                values = found[name, mib]
                figures.append(
                    Figure(
                        figure=f"{kind}, {mib:g} MiB: {name.rpartition(',')[0]}",
                        value=round(value, 3),
                        unit=unit,
                        at_most=200.0 if unit == "MB" and is_chosen(mib) else None,
                        spread=round(float(values.std(ddof=1)), 3) if len(values) > 1 else None,
                        n=len(values),
                    )
                )
    print(f"{'files of EPIC-KITCHENS-100':45}" + "".join(f"{files_of_ek100(m):14,}" for m in MIB))
    for mib in MIB:
        figures.append(
            Figure(
                figure=f"{mib:g} MiB: files of EPIC-KITCHENS-100",
                value=files_of_ek100(mib),
                unit="files",
                at_most=MAX_MAPS / 4 if is_chosen(mib) else None,
            )
        )
    finish("chunk_length", figures, record=arguments.record)


if __name__ == "__main__":
    main()
