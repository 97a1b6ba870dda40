"""What do more machines gain, and what does the cluster cost?

    python benchmarks/cluster.py [--record] [--videos N] [--sleep S]

A Ray cluster of three nodes with a CPU each, all on loopback, extracts short videos with a backbone
that sleeps: work that no other process of this machine slows down, as on GPUs of their own.
  - gain: videos per second of three workers over those of one, on the same videos;
  - overhead: what a video takes with one worker beyond what its backbone sleeps, in milliseconds:
    decoding, claims, the store on disk, and the way there and back.

Both from the first video that is done to the last: workers have started by then.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import torch
from record import Figure, finish
from torch import Tensor

from antcache.extract import ExtractConfig, extract, find_videos
from antcache.extract.engines.on_ray import on_ray
from antcache.store import Store

ROWS = 4
NODE = {
    "node_ip_address": "127.0.0.1",
    "num_cpus": 1,
    "num_gpus": 0,
    "object_store_memory": 80 << 20,
}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class Sleeper:
    """Mean colours, after a while."""

    dim, num_frames, fingerprint = 3, 1, "a sleeper, version 1"

    def __init__(self, sleep_s: float) -> None:
        self.sleep_s = sleep_s

    def preprocess(self, pictures: Tensor) -> Tensor:
        """The mean colour of each picture."""
        return pictures.float().mean((1, 2)) / 255

    def __call__(self, pixels: Tensor) -> Tensor:
        """The same, later."""
        time.sleep(self.sleep_s)
        return pixels.flatten(1)


@contextmanager
def three_nodes() -> Iterator[None]:
    """This process is connected to a cluster of its own."""
    with mock.patch.dict(os.environ, QUIET):
        import ray
        from ray._private import services
        from ray.cluster_utils import Cluster

        # Else the driver looks for a cluster on loopback at this machine's other address.
        with mock.patch.object(services, "resolve_ip_for_localhost", lambda host: host):
            head = {**NODE, "include_dashboard": False}
            cluster = Cluster(initialize_head=True, head_node_args=head)
            try:
                for _ in range(2):
                    cluster.add_node(wait=False, **NODE)
                cluster.wait_for_nodes()
                about: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
                ray.init(cluster.address, _node_ip_address="127.0.0.1", **about)
                yield
            finally:
                ray.shutdown()
                cluster.shutdown()


def write_videos(folder: Path, count: int) -> None:
    """Videos of a second each."""
    folder.mkdir()
    for number in range(count):
        with av.open(str(folder / f"v{number:03}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=ROWS)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for shade in range(ROWS):
                picture = np.full((64, 64, 3), 50 * shade, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


def seconds_per_video(folder: Path, workers: int, sleep_s: float) -> float:
    """With so many workers, from the first video that is done to the last."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    done: dict[float, float] = {}

    def note(label: str, count: float, _: float) -> None:
        if label == "videos" and count:
            done.setdefault(count, time.perf_counter())

    videos = find_videos(folder / "videos")
    store = Store.create(folder / f"{workers}.zarr")
    config = ExtractConfig(fps=ROWS, batch_size=1, dtype="float32")
    report = extract(
        videos,
        store,
        Sleeper(sleep_s),
        config,
        note,
        engine=on_ray(device="cpu", actors=workers),
    )
    assert len(report.written) == len(videos) > 1
    assert report.rows == ROWS * len(videos)
    return (max(done.values()) - min(done.values())) / (len(videos) - 1)


def figures(folder: Path, videos: int, sleep_s: float, most: int = 3) -> list[Figure]:
    """Gain of `most` workers, and overhead."""
    write_videos(folder / "videos", videos)
    found = {workers: seconds_per_video(folder, workers, sleep_s) for workers in (1, most)}
    gain = found[1] / found[most]
    overhead_ms = 1e3 * (found[1] - ROWS * sleep_s)
    print(f"{'workers':>8} {'videos/s':>9}")
    for workers, seconds in found.items():
        print(f"{workers:>8} {1 / seconds:>9.2f}")
    return [
        Figure(figure=f"{most} nodes over one", value=gain, unit="x", at_least=2.5, n=videos),
        Figure(figure="overhead a video", value=overhead_ms, unit="ms", at_most=50.0, n=videos),
    ]


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--sleep", type=float, default=0.1, help="seconds of each row")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, three_nodes():
        found = figures(Path(folder), arguments.videos, arguments.sleep)
    finish("cluster", found, record=arguments.record)


if __name__ == "__main__":
    main()
