"""How fast are windows read: antcache against Zarr, HDF5, LMDB, Lance and a bare memory map?

    python benchmarks/reads.py [--record] [--repeats N] [--videos N] [--rows N] [--folder FOLDER]
        [--others PYTHON]

Three parts. Part one: 20 videos of 3,000 rows of 1,024 float16 features in every form, random
windows of 10 rows spaced 15 (30 fps features, 2 fps windows), read in batches of 256 into one
reused buffer. Part two: the same of tokens, as EPIC-KITCHENS-100's clips have them at 4 x 4 a
tubelet: 20 videos of 30 rows of 16 x 4 x 4 tokens of 1,024 int8 each, 0.26 MB a row, windows of one
row, batches of 128. Part three: the windows of EPIC-KITCHENS-55 (its real annotations and video
lengths if they are there), 272 videos at 4 fps, gathered into one pack.

One thread; page cache warm. All forms are measured in turn, over and over: a figure is the median,
a ratio the median of the ratios within one turn. Comparators are in their stronger form:
  - LMDB: one read transaction per window (RULSTM and AVT open one per frame), float16 values, half
    the bytes of the float32 that they keep; bounds are on these, float32 is shown beside them.
    "150 gets" fetches every frame of a window's 5 s and keeps every 15th, as AVT does.
  - Zarr and HDF5 through their APIs: arrays opened once. A Zarr read takes whole chunks, so small
    chunks are shown beside the store's own.
  - raw memory map: `numpy.memmap` of plain files, opened once, `take` into the buffer per window.
  - zarr-python 3.3 with each of its pipelines, and Lance: by another Python that has them, if one
    is given (`reads_others.py`); else, and of what it lacks, it says so.
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
from contextlib import ExitStack
from pathlib import Path

import ek55
import numpy as np
import torch
from numpy.typing import NDArray
from reads_forms import (
    CPU,
    Asked,
    Form,
    check,
    leave_for_others,
    of_antcache,
    of_apis,
    of_lmdb,
    of_map,
    of_others,
    small_chunks,
)
from reads_others import others
from record import Figure, finish

from antcache.store import Store
from antcache.windows.index import stream_features
from antcache.windows.reading.pack import PackedFeatures
from antcache.windows.reading.stream_rows import StreamRows

TIME, SPACING, BATCH = 10, 15, 256
GRID, TOKEN_BATCH, TOKENS = (16, 4, 4), 128, "tokens: "
BOUNDS = {"LMDB, 10 gets": 5.0, "LMDB, 150 gets": 30.0, "raw memory map": 0.7}
"""How many times as fast antcache's memory map has to be, at least."""


def vectors(rng: np.random.Generator, num_videos: int, num_rows: int, batches: int = 80) -> Asked:
    """The videos and windows of part one."""
    windows = batches * BATCH
    start = rng.integers(SPACING - 1, num_rows - SPACING * (TIME - 1), windows)
    return Asked(
        videos={f"P{v:02d}": ek55.random_rows(num_rows, rng) for v in range(num_videos)},
        which=rng.integers(0, num_videos, windows),
        rows=start[:, None] + SPACING * np.arange(TIME),
        spacing=SPACING,
        batch=BATCH,
        small=64,
    )


def tokens(rng: np.random.Generator, num_videos: int, num_rows: int, batches: int = 20) -> Asked:
    """Those of part two."""
    windows, num_tokens = batches * TOKEN_BATCH, int(np.prod(GRID))
    names = [f"P{v:02d}" for v in range(num_videos)]
    shape = (num_rows, num_tokens)
    return Asked(
        videos={n: rng.integers(-127, 128, (*shape, ek55.DIM), dtype=np.int8) for n in names},
        scales={n: rng.random(shape, dtype=np.float32).astype(np.float16) for n in names},
        which=rng.integers(0, num_videos, windows),
        rows=rng.integers(0, num_rows, (windows, 1)),
        spacing=1,
        batch=TOKEN_BATCH,
        small=1,
        grid=GRID,
    )


def race(
    forms: dict[str, Form], rng: np.random.Generator, asked: Asked, repeats: int
) -> dict[str, NDArray[np.float64]]:
    """Windows per second of each form, in each turn."""
    speeds: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(repeats + 1):
        order = rng.permutation(len(asked.rows))
        for name, form in forms.items():
            share = len(order) // form.part
            batches = np.split(order[:share], range(asked.batch, share, asked.batch))
            seconds = form.seconds(batches)
            if turn:  # the first warms up
                speeds[name].append(share / seconds)
    return {name: np.array(values) for name, values in speeds.items()}


def side_by_side(
    folder: Path, python: str | None, asked: Asked, repeats: int, title: str = ""
) -> list[Figure]:
    """All forms in turns; the names of their figures begin with the title."""
    folder.mkdir()
    # Slower forms get one window of so many in a turn. Short measurements are the luckier ones on a
    # busy machine, so that of tokens, which all forms read at nearer speeds, more are read.
    some, few = (8, 80) if asked.grid is None else (1, 4)
    forms = of_antcache(folder, asked) | of_map(folder, asked)
    for dtype in (str(asked.any.dtype), *(["float32"] if asked.grid is None else [])):
        forms |= of_lmdb(folder, asked, dtype, some)
    small_chunks(folder, asked)
    forms |= of_apis(folder, asked, some, few)
    with ExitStack() as stack:
        if python:
            leave_for_others(folder, asked)
            process = stack.enter_context(others(python, folder))
            forms |= of_others(process, few)
            for name, why in process.absent.items():
                print(f"{name} is left out: {why}")
        check(forms, asked)
        speeds = race(forms, np.random.default_rng(3), asked, repeats)
    mapped = speeds["antcache map"]
    figures = [
        Figure(
            figure=f"{title}{name}",
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
                figure=f"{title}antcache map over {other}",
                value=round(float(np.median(ratio)), 3),
                unit="x",
                at_least=BOUNDS.get(other),
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


def part_three(folder: Path, repeats: int) -> list[Figure]:
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
    parser.add_argument("--videos", type=int, default=20, help="of parts one and two")
    parser.add_argument(
        "--rows", type=int, default=3_000, help="of each video; of tokens a hundredth"
    )
    parser.add_argument("--batches", type=int, default=80, help="a turn; of tokens a quarter")
    parser.add_argument("--others", help="a Python with zarr 3.3, zarrs and pylance")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    parser.add_argument("--gather", choices=["map", "api"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.gather:
        gather_alone(arguments.folder, arguments.gather == "map")
        return
    if not arguments.others:
        print("zarr-python 3.3, zarrs and Lance are left out: no --others PYTHON")
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        repeats, python = arguments.repeats, arguments.others
        size = arguments.videos, arguments.rows, arguments.batches
        asked = vectors(np.random.default_rng(0), *size)
        figures = side_by_side(folder / "vectors", python, asked, repeats)
        shutil.rmtree(folder / "vectors")
        size = arguments.videos, arguments.rows // 100, arguments.batches // 4
        asked = tokens(np.random.default_rng(4), *size)
        figures += side_by_side(folder / "tokens", python, asked, repeats, TOKENS)
        shutil.rmtree(folder / "tokens")
        figures += part_three(folder, arguments.repeats)
    finally:
        shutil.rmtree(folder)
    for figure in figures:
        bound = f"  at least {figure.at_least}" if figure.at_least else ""
        bound += f"  at most {figure.at_most}" if figure.at_most else ""
        print(f"{figure.figure:42}{figure.value:14,.2f} {figure.unit}{bound}")
    finish("reads", figures, record=arguments.record)


if __name__ == "__main__":
    main()
