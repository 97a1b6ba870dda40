"""How long does a store of many videos take to be opened, listed, planned for and summed up?

    python benchmarks/scale.py [--record] [--videos N] [--repeats N] [--only KIND]

A stream of N videos of four rows each, as Zarr and as HDF5 on a local disk, and as Zarr on an S3
server on loopback (moto, which takes a part of the same cores), first without and then with an
index of the stream (`antcache store index`). Each figure is the wall time of one call in a process
of its own that has imported everything; to `plan`, all videos but the last hundred are done, and
those are files. Peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from record import Figure, finish

from antcache.store import Store

VIDEOS = 20_000
LEFT = 100
"""Videos that `plan` finds still to do."""
LONGEST_S, MOST_MB = 2.0, 500.0
CALLS = ("open", "list", "plan", "info")
LISTING, LEAST_GAIN = "S3", 5.0
"""The kind of store that is slow without an index, and how much faster it is to be with one."""
INDEXED = "S3, indexed"
KINDS = ("zarr", "hdf5", LISTING, INDEXED)
BUCKET, KEYS = "kitchen", {"key": "scale", "secret": "scale"}


class Means:
    """A backbone that is there at once: the plan needs no features."""

    name, dim, num_frames, fingerprint = "means", 8, 1, "scale-1"

    def preprocess(self, pictures: Any) -> Any:
        """Pictures as they are, as floats."""
        return pictures.float().permute(0, 3, 1, 2)

    def __call__(self, pixels: Any) -> Any:
        """Features (B, 8)."""
        return pixels.mean((1, 2, 3, 4))[:, None].expand(-1, 8)


def write(folder: Path, kind: str, videos: int) -> Path:
    """A store of so many videos, as the settings of `Means` ask for."""
    from antcache.extract import ExtractConfig
    from antcache.extract.plan import RowRecipe

    store = Store.create(folder / f"store.{kind}", backend=kind)
    recipe = RowRecipe.of(Means(), ExtractConfig(fps=4.0))
    store.create_stream(**recipe.stream(None))
    rows = np.zeros((4, 8), np.float16)
    os.fsync, kept = lambda handle: None, os.fsync  # whether it outlives a power cut is not asked
    try:
        for number in range(videos):
            store.write_features("rgb", name_of(number), rows)
    finally:
        os.fsync = kept
    return Path(store.path)


def name_of(number: int) -> str:
    """Names in the order of their numbers."""
    return f"P{number:06d}"


def write_video(path: Path) -> None:
    """A video of ten small frames."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.time_base = Fraction(1, 10)
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number * 9, np.uint8))
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def serve(folder: Path) -> None:
    """An S3 server with the files of `folder`; says its address, and runs until it is killed."""
    import boto3
    from moto.moto_server import werkzeug_app as moto
    from moto.s3.models import s3_backends
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    class Handler(moto.MotoRequestHandler):
        protocol_version = "HTTP/1.1"

    app = moto.create_backend_app("s3")
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = {"aws_access_key_id": KEYS["key"], "aws_secret_access_key": KEYS["secret"]}
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **names)
    client.create_bucket(Bucket=BUCKET)
    (account,) = [each for each in s3_backends.values() if BUCKET in each["aws"].buckets]
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        key = f"{folder.name}/{file.relative_to(folder).as_posix()}"
        account["aws"].put_object(BUCKET, key, file.read_bytes())
    print(address, flush=True)
    threading.Event().wait()


@contextmanager
def served(folder: Path) -> Iterator[dict[str, Any]]:
    """fsspec's options for a server with the files of `folder`."""
    command = [sys.executable, __file__, "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        try:
            yield {**KEYS, "endpoint_url": address}
        finally:
            server.kill()


def call(
    name: str, place: str, options: dict[str, Any] | None, videos: dict[str, Path]
) -> tuple[float, float]:
    """Seconds of one call, and the peak memory of this process in MB."""
    from antcache.extract import ExtractConfig, make_plan
    from antcache.store.integrity.indexes import write_index
    from antcache.store.integrity.info import describe

    store, config, backbone = Store.open(place, storage_options=options), ExtractConfig(), Means()
    calls = {
        "open": lambda: Store.open(place, storage_options=options),
        "list": lambda: store.videos("rgb"),
        "plan": lambda: make_plan(videos, store, backbone, config),
        "info": lambda: describe(store),
        "index": lambda: write_index(store, "rgb"),
    }
    began = time.perf_counter()
    calls[name]()
    seconds = time.perf_counter() - began
    return seconds, peak_mb()


def peak_mb() -> float:
    """Largest resident memory of this process; that of `getrusage` knows its parent's, too."""
    status = Path("/proc/self/status").read_text("ascii")
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peak) / 1024


def measure(folder: Path, count: int, repeats: int, kinds: Collection[str]) -> Iterator[Figure]:
    """Every call on these kinds of stores."""
    videos = {name_of(n): folder / f"{name_of(n)}.mp4" for n in range(count + LEFT)}
    first, *others = (videos[name_of(count + n)] for n in range(LEFT))
    write_video(first)
    for each in others:
        os.link(first, each)
    local = ("zarr", "hdf5") if "hdf5" in kinds else ("zarr",)
    stores = {kind: write(folder, kind, count) for kind in local}
    with served(stores["zarr"]) as options:
        at_url = f"s3://{BUCKET}/{stores['zarr'].name}"
        places = {kind: (str(path), None) for kind, path in stores.items()}
        places[LISTING] = places[INDEXED] = (at_url, options)
        medians = {}
        for kind, (place, how) in ((kind, places[kind]) for kind in KINDS if kind in kinds):
            if kind == INDEXED:
                seconds, _ = run("index", place, how, videos)
                yield Figure(figure=f"{kind}: writing the index", value=seconds, unit="s", n=1)
            for name in CALLS:
                found = [run(name, place, how, videos) for _ in range(repeats)]
                medians[kind, name] = float(np.median([seconds for seconds, _ in found]))
                yield from figures(kind, name, found)
    for name in CALLS[1:] if {LISTING, INDEXED} <= set(kinds) else ():
        yield Figure(
            figure=f"{INDEXED}: {name}, times faster",
            value=medians[LISTING, name] / medians[INDEXED, name],
            unit="x",
            at_least=LEAST_GAIN,
            n=repeats,
        )


def run(*arguments: Any) -> tuple[float, float]:
    """`call`, in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["antcache.extract.run", "antcache.store.integrity.info", "s3fs"]
    )
    with context.Pool(1) as pool:
        return pool.apply(call, arguments)


def figures(kind: str, name: str, found: list[tuple[float, float]]) -> Iterator[Figure]:
    """The median time and the largest memory of a call."""
    seconds, megabytes = np.array(found).T
    yield Figure(
        figure=f"{kind}: {name}",
        value=round(float(np.median(seconds)), 3),
        unit="s",
        at_most=None if kind == LISTING and name != "open" else LONGEST_S,
        spread=round(float(np.ptp(seconds)), 3),
        n=len(found),
    )
    yield Figure(
        figure=f"{kind}: {name}, peak memory",
        value=round(float(megabytes.max()), 1),
        unit="MB",
        at_most=MOST_MB,
        n=len(found),
    )


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--videos", type=int, default=VIDEOS, help="of the stream")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each call")
    parser.add_argument("--only", choices=KINDS, help="one kind of store")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        kinds = (arguments.only,) if arguments.only else KINDS
        for each in measure(Path(folder), arguments.videos, arguments.repeats, kinds):
            print(f"{each.figure:40}{each.value:10,.3f} {each.unit}", flush=True)
            found.append(each)
    finish("scale", found, record=arguments.record)


if __name__ == "__main__":
    main()
