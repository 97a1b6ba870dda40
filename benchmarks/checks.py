"""What does it cost that values are compared with their hashes before they are used?

    python benchmarks/checks.py [--record] [--repeats N] [--folder FOLDER]

The windows of EPIC-KITCHENS-55 (272 videos at 4 fps, 1.6 GB of features; `ek55.py`) are opened and
packed by processes of their own, in turn, over and over: one that compares nothing, one that is the
first to read the store and compares every file in threads while it gathers, one that comes later
and finds that the files have not changed since. Page cache warm. A figure is the median; a ratio is
the median of the ratios within one turn.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import ek55
import numpy as np
import torch
from alone import alone
from record import Figure, finish

from antcache.store.reading import proof
from antcache.windows.reading.pack import PackedFeatures
from antcache.windows.reading.stream_rows import StreamRows

WAYS = ("nothing", "first", "later")


def pack(path: Path, way: str) -> dict[str, float]:
    """Open and pack as a process of one of the `WAYS`; seconds of both, and bytes of the pack."""
    if way == "nothing":
        proof.Proofs.require = lambda *args: None  # type: ignore[method-assign, assignment]
    started = time.perf_counter()
    asked = StreamRows.of(*ek55.open_windows(path, True))
    opened = time.perf_counter()
    found = PackedFeatures.gather([asked], torch.device("cpu"))
    done = time.perf_counter()
    return {
        "opening": opened - started,
        "packing": done - opened,
        "bytes": found.num_bytes,
        "windows": len(asked.rows),
    }


def measure(path: Path, way: str, cache: Path) -> dict[str, float]:
    """`pack` in a process of its own."""
    if way == "first":
        shutil.rmtree(cache, ignore_errors=True)
    found: dict[str, float] = alone(lambda: pack(path, way), {"XDG_CACHE_HOME": str(cache)})
    return found


def figures(folder: Path, repeats: int) -> list[Figure]:
    """All of it."""
    size = ek55.write(folder / "store")
    time.sleep(proof.FRESH_NS / 1e9)  # what was just written is not remembered
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(repeats + 1):
        for way in WAYS:
            said = measure(folder / "store", way, folder / "cache")
            if turn:  # the first warms the page cache
                seconds[way].append(said["packing"])
                rates[way].append(said["bytes"] / 1e9 / said["packing"])
    found = [Figure(figure="features in the store", value=round(size / 1e9, 3), unit="GB")]
    for way in WAYS:
        found.append(figure(f"packing EK55, {way} compared", rates[way], "GB/s", repeats, None))
    for way, bound in (("first", None), ("later", 0.8)):
        ratios = np.array(seconds["nothing"]) / np.array(seconds[way])
        name = f"packing EK55: rate of a {way} process over one that compares nothing"
        found.append(figure(name, ratios.tolist(), "x", repeats, bound))
    return found


def figure(name: str, values: list[float], unit: str, n: int, bound: float | None) -> Figure:
    """Median and spread of some values."""
    return Figure(
        figure=name,
        value=round(float(np.median(values)), 3),
        unit=unit,
        at_least=bound,
        spread=round(float(np.std(values, ddof=1)), 3) if n > 1 else 0.0,
        n=n,
    )


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--repeats", type=int, default=7, help="turns, at least 2")
    parser.add_argument("--folder", type=Path, help="where the data goes (default: temporary)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = figures(Path(folder), arguments.repeats)
    for each in found:
        print(f"{each.figure:70}{each.value:10,.3f} {each.unit}")
    finish("checks", found, record=arguments.record)


if __name__ == "__main__":
    main()
