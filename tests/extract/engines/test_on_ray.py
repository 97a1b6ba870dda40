"""A Ray cluster makes the rows that one process makes, also when a node is lost with its work."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from colours_text import COLOURS

from antcache.cli.main import cli
from antcache.errors import MissingExtra
from antcache.extract import ExtractConfig, Ledger, extract, find_videos, load_backbone
from antcache.extract.engines.on_ray import on_ray
from antcache.extract.videos.film_frames import FilmFile
from antcache.store import Store

CONFIG = ExtractConfig(fps=8, dtype="float32", batch_size=2)


def until(holds, what):
    """Wait for what other processes do."""
    end = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.01)


class HeldFrames:
    """The frames of a video, of which the tenth does not come while a file is there."""

    def __init__(self, frames, folder):
        self._frames, self._folder = frames, folder

    @property
    def facts(self):
        return self._frames.facts

    def picture(self, frame):
        return self._frames.picture(frame)

    def __iter__(self):
        for number, each in enumerate(self._frames):
            if number == 10 and (self._folder / "hold").exists():
                (self._folder / f"{os.getpid()}.held").touch()
                while (self._folder / "hold").exists():
                    time.sleep(0.01)
            yield each


class HeldFilm:
    """A video file whose frames are held."""

    def __init__(self, path):
        self._film = FilmFile(path)

    @property
    def path(self):
        return self._film.path

    def duration_s(self):
        return self._film.duration_s()

    def files(self):
        return self._film.files()

    def frames(self, *args, **options):
        return HeldFrames(self._film.frames(*args, **options), self.path.parent)


def workers(ray):
    """Actor, node and process of each worker that lives."""
    from ray._private import state

    found = state.actors().values()
    return [a for a in found if a["State"] == "ALIVE" and a["ActorClassName"] == "VideoWorker"]


@pytest.mark.slow
def test_a_lost_node_loses_nothing(tmp_path, video, vit, s3_server, ray_cluster, monkeypatch):
    """Killed in mid-video: all are complete, each is written once, as by a single process."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.chdir(tmp_path)
    videos = Path("videos")  # relative names mean the same everywhere
    videos.mkdir()
    for number in range(6):
        video.write(videos / f"v{number}.mp4", video.steady(25 + 5 * number), codec="mpeg4")
    (videos / "bad.mp4").write_text("no film")
    backbone = load_backbone(vit, device="cpu")
    alone = Store.create(tmp_path / "alone.zarr")
    extract(find_videos(videos), alone, backbone, CONFIG)

    place = f"kitchen/{uuid.uuid4().hex}/s.zarr"
    store = Store.create(f"s3://{place}", storage_options=s3_server.options)
    sources = {name: HeldFilm(path) for name, path in find_videos(videos).items()}
    (videos / "hold").touch()
    reports, shown = [], []

    def drive():
        engine = on_ray(device="cpu", actors=2)
        progress = lambda *call: shown.append(call)  # noqa: E731
        reports.append(extract(sources, store, backbone, CONFIG, progress, engine=engine))

    driver = threading.Thread(target=drive)
    driver.start()
    until(lambda: len(list(videos.glob("*.held"))) == 2, "a decoder of each worker is in mid-video")
    first, second = workers(ray)
    assert first["Address"]["NodeID"] != second["Address"]["NodeID"]
    ray_cluster.lose(first["Address"]["NodeID"])
    until(lambda: not Path(f"/proc/{first['Pid']}").exists(), "the worker goes with its node")
    (videos / "hold").unlink()
    driver.join(300)
    (report,) = reports
    names = [f"v{i}" for i in range(6)]
    assert (list(report.written), report.skipped, report.shares) == (names, (), {})
    assert [each.video for each in report.failed] == ["bad"]
    assert [each.video for each in Ledger(store.path).read()] == ["bad"]
    assert report.rows == sum(len(alone.features("rgb", name).read()) for name in names)
    assert shown[-1] == ("videos", 7, 7)
    assert store.videos("rgb") == names
    assert store.stream("rgb") == alone.stream("rgb")
    for name in names:
        key = f"features/rgb/{name}"
        assert store.backend.damaged_parts(key) == []
        ours, theirs = (each.features("rgb", name).read() for each in (store, alone))
        np.testing.assert_array_equal(ours, theirs)
        assert store.backend.open(key)[1] == alone.backend.open(key)[1]
        assert s3_server.written.count(f"{place}/{key}/zarr.json") == 1
    assert store.backend.files.sizes(".staging") == {}
    ray_cluster.add()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_command_of_the_page(tmp_path, video, repo, monkeypatch):
    """With a backbone of one's own, which lies in the working folder of the driver alone."""
    page = (repo / "docs/clusters.md").read_text("utf-8")
    (line,) = re.findall(r"^antcache (extract .*--engine ray.*)$", page, re.MULTILINE)
    instead = {
        "VIDEOS": "a.mp4",
        "STORE": "there.zarr",
        "facebook/dinov2-small": "colours_on_ray:Colours",
    }
    words = [instead.get(word, word) for word in line.split()]
    monkeypatch.chdir(tmp_path)
    video.write(tmp_path / "a.mp4", video.steady(30))
    (tmp_path / "colours_on_ray.py").write_text(COLOURS)
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "stream rgb: 1 videos written (5 rows" in done.stdout
    alone = [word for word in words if word not in ("--engine", "ray", "--address", "auto")]
    alone[2] = "here.zarr"
    assert CliRunner().invoke(cli, alone).exit_code == 0
    ours, theirs = (Store.open(p).features("rgb", "a").read() for p in ("there.zarr", "here.zarr"))
    np.testing.assert_array_equal(ours, theirs)
    local = CliRunner().invoke(cli, [*alone, "--actors", "2", "--address", "auto"])
    assert local.stderr == "Error: --address and --actors only with --engine ray\n"


def test_without_ray_the_extra_is_named(tmp_path, video, vit, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    path = video.write(tmp_path / "a.mp4", video.steady(10))
    store = Store.create(tmp_path / "s.zarr")
    with pytest.raises(MissingExtra, match=r"antcache\[ray\]"):
        extract({"a": path}, store, load_backbone(vit, device="cpu"), engine=on_ray())
