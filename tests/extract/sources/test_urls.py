"""Videos at URLs: fetched into a bounded folder, compared, decoded, and gone again."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
import tarfile
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from contextvars import copy_context
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from antcache.cli.main import cli
from antcache.errors import BadConfig, NotFound, Unreachable, UnreadableVideo
from antcache.extract import SourceConfig, extract, find_videos, load_backbone
from antcache.extract.sources import urls
from antcache.extract.sources.scratch import Scratch, new_name
from antcache.extract.videos.decode import VideoSampler, source_of
from antcache.extract.videos.film_frames import FilmFile
from antcache.extract.videos.source import STILL_WANTED
from antcache.store import Store
from antcache.store.remote.files import STREAM_BYTES


def numbers(source: Any, video: Any, rate: int = 25) -> list[int]:
    return [video.number_on(seen) for _, seen in VideoSampler(source, rate=Fraction(rate))]


@pytest.fixture(scope="module")
def film(tmp_path_factory, video) -> Path:
    return video.write(tmp_path_factory.mktemp("film") / "a.mp4", video.steady(50))


@pytest.fixture
def scratch(tmp_path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def bucket(s3_options, monkeypatch) -> Iterator[Any]:
    """A folder in a bucket: its URL, and the server seen without antcache."""
    import s3fs
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", s3_options)
    fs = s3fs.S3FileSystem(use_listings_cache=False, **s3_options)
    url = f"s3://kitchen/{uuid.uuid4().hex}"
    yield url, fs
    fs.rm(url, recursive=True)


def test_videos_in_a_bucket(tmp_path, video, vit, film, bucket, scratch):
    """All below a URL, and one; as local ones; nothing stays in the scratch folder."""
    url, fs = bucket
    pictures = tmp_path / "P01_01"
    pictures.mkdir()
    for number in range(1, 31):
        Image.fromarray(video.barcode(number, 48, 80)).save(pictures / f"frame_{number:010d}.png")
    with tarfile.open(tmp_path / "P01_01.tar", "w") as tar:
        tar.add(pictures, ".")
    fs.pipe_file(f"{url}/day/a.mp4", film.read_bytes())
    fs.pipe_file(f"{url}/day/b.mp4", film.read_bytes()[:1000])
    fs.pipe_file(f"{url}/P01_01.tar", (tmp_path / "P01_01.tar").read_bytes())
    fs.pipe_file(f"{url}/notes.txt", b"x")
    fs.pipe_file(f"{url}/.hidden/c.mp4", b"x")
    words = ["--backbone", vit, "--image-fps", 30, "--scratch", scratch, "--scratch-size", "1MB"]
    run = CliRunner().invoke(cli, ["extract", f"{url}/", *map(str, [tmp_path / "s.zarr", *words])])
    assert run.exit_code == 1, run.output
    assert "2 videos written" in run.stdout
    assert f"failed: {url}/day/b.mp4: not a video that can be opened" in run.stderr
    assert f"note: {url}: passed over 1 .txt, 1 hidden" in run.stderr
    store = Store.open(tmp_path / "s.zarr")
    assert store.videos("rgb") == ["P01_01", "a"]
    assert store.backend.open("features/rgb/a")[1]["file"] == "a.mp4"
    local = Store.create(tmp_path / "local.zarr")
    found = find_videos(pictures, SourceConfig(image_fps=30)) | find_videos(film)
    extract(found, local, load_backbone(vit, device="cpu"))
    for name in ("P01_01", "a"):
        rows = [each.features("rgb", name) for each in (store, local)]
        np.testing.assert_array_equal(rows[0].read(), rows[1].read())
        assert rows[0].start_s == rows[1].start_s
    assert not [*scratch.rglob("*")]
    one = find_videos(f"{url}/day/a.mp4", SourceConfig(scratch=scratch))
    assert one.is_one
    (source,) = one.values()
    assert source.duration_s() is None
    source = pickle.loads(pickle.dumps(source))
    assert numbers(source, video) == list(range(50))
    assert numbers(source, video, 5) == list(range(0, 50, 5))
    file = Path("x.mp4")
    assert source_of(source, "nvdec").make(file) == FilmFile(file, decoder="nvdec")
    with pytest.raises(NotFound, match=r"nowhere: no videos here"):
        find_videos(f"{url}/nowhere")
    fs.rm_file(f"{url}/day/a.mp4")
    with pytest.raises(UnreadableVideo, match=r"^s3://.*/day/a\.mp4: nothing is there"):
        numbers(source, video)


class Server:
    """A web server of a few files, which can be told how to fail.

    Attributes:
        files: by path.
        in_parts: whether it gives parts of files.
        cut: bytes after which each answer breaks off, until so many have.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.in_parts = True
        self.sized = True
        self.cut = (0, 0)
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, body: bool) -> None:
                data = server.files.get(self.path.partition("?")[0])
                if data is None:
                    self.send_error(404)
                    return
                begin, end = 0, len(data)
                asked = self.headers.get("Range") if server.in_parts else None
                if asked:
                    first, _, last = asked.removeprefix("bytes=").partition("-")
                    begin, end = int(first), min(end, int(last or end) + 1)
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
                else:
                    self.send_response(200)
                if server.in_parts:
                    self.send_header("Accept-Ranges", "bytes")
                if server.sized:
                    self.send_header("Content-Length", str(end - begin))
                else:
                    self.send_header("Connection", "close")
                self.end_headers()
                if not body:
                    return
                server.asked.append(asked or "all")
                at, times = server.cut
                if times and end - begin > at:
                    server.cut = (at, times - 1)
                    self.wfile.write(data[begin : begin + at])
                    self.close_connection = True
                    self.connection.close()
                else:
                    self.wfile.write(data[begin:end])

            def do_GET(self) -> None:
                self.answer(True)

            def do_HEAD(self) -> None:
                self.answer(False)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *args: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def web() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


def at(web: Server, path: str, scratch: Path, **settings: Any) -> Any:
    (source,) = find_videos(web.url + path, SourceConfig(scratch=scratch, **settings)).values()
    return source


@pytest.mark.parametrize("in_parts", [True, False])
def test_connections_that_break_are_taken_up(video, film, web, scratch, in_parts, monkeypatch):
    """Where the server can, from where it broke off; a file that never comes whole is refused."""
    part, padding = 1 << 17, 1 << 20  # more than a client holds of what it has not read yet
    monkeypatch.setattr("antcache.store.remote.files.STREAM_BYTES", part)
    data = film.read_bytes() + struct.pack(">I4s", padding + 8, b"free") + bytes(padding)
    web.files["/v/a.mp4"], web.in_parts = data, in_parts
    source = at(web, "/v/a.mp4?key=1", scratch)
    assert numbers(source, video) == list(range(50))
    assert web.asked == ["all"]
    web.asked.clear()
    web.cut = (6 * part, 1)
    assert numbers(source, video) == list(range(50))
    first, *rest = web.asked
    assert first == "all"
    if in_parts:  # what came is not asked for again, and all else once
        bounds = [tuple(map(int, r.removeprefix("bytes=").split("-"))) for r in rest]
        assert part < bounds[0][0] <= 6 * part
        assert [low for low, _ in bounds[1:]] == [high + 1 for _, high in bounds[:-1]]
        assert bounds[-1][1] == len(data) - 1
    else:
        assert rest == ["all", "all"]  # the first of these is a part that was refused
    web.cut = (1000, 10**9)
    whole = rf"^{web.url}/v/a\.mp4: it does not come as a whole: expected "
    with pytest.raises(UnreadableVideo, match=whole):
        numbers(source, video)
    assert not [*scratch.rglob("*")]


def test_what_is_not_there_not_sized_or_changed(video, film, web, scratch, monkeypatch):
    with pytest.raises(UnreadableVideo, match=r"gone\.mp4: nothing is there"):
        numbers(at(web, "/gone.mp4", scratch), video)
    web.files["/a.mp4"] = film.read_bytes()
    source = at(web, "/a.mp4", scratch)
    web.sized = False
    web.in_parts = False
    with pytest.raises(UnreadableVideo, match="does not say how large it is"):
        numbers(source, video)
    web.sized = True
    stream = urls.RemoteFiles.stream

    def changed(self: Any, *args: Any, **options: Any) -> Iterator[bytes]:
        yield from stream(self, *args, **options)
        web.files["/a.mp4"] = film.read_bytes() + b"x"

    with monkeypatch.context() as patch:
        patch.setattr(urls.RemoteFiles, "stream", changed)
        with pytest.raises(UnreadableVideo, match="changed while it was fetched"):
            numbers(source, video)
    (nobody,) = find_videos("http://127.0.0.1:9/a.mp4", SourceConfig(scratch=scratch)).values()
    with pytest.raises(UnreadableVideo, match=r"a\.mp4: it can't be fetched"):
        numbers(nobody, video)
    assert not [*scratch.rglob("*")]


def test_keys_in_urls_are_not_said(video, scratch, monkeypatch, tmp_path):
    """Neither in the name, nor in messages; two files that differ by them alone are two."""
    url = "http://me:secret@127.0.0.1:9/d/a.mp4?token=secret"
    (source,) = find_videos(url, SourceConfig(scratch=scratch)).values()
    assert source.path == "http://127.0.0.1:9/d/a.mp4"
    with pytest.raises(UnreadableVideo, match="it can't be fetched") as refused:
        numbers(source, video)
    assert "secret" not in str(refused.value)
    (tmp_path / "v.txt").write_text("http://x/a.mp4?id=1\nhttp://x/a.mp4?id=2\nhttp://x/b.mp4")
    found = find_videos(tmp_path / "v.txt")
    assert (list(found), len(found.refused)) == (["b"], 2)


def test_folders_of_the_web_cannot_be_listed(web, tmp_path):
    for path in ("/videos", "/videos/", "", "/videos.d/list.html"):
        with pytest.raises(BadConfig, match=r"over http, folders can't be listed.*videos\.txt"):
            find_videos(web.url + path)
    with pytest.raises(BadConfig, match="not a URL that fsspec"):
        find_videos("nothing://x/y")
    (tmp_path / "l.txt").write_text(f"{web.url}/1/a.mp4\n{web.url}/2/a.mp4\n")
    with pytest.raises(BadConfig, match="two videos are called 'a'"):
        find_videos(tmp_path / "l.txt")


def test_what_nobody_answers_for(monkeypatch, s3_options):
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {**s3_options, "endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(Unreachable, match="can't be reached"):
        find_videos("s3://kitchen/videos")


def test_a_file_that_is_left_early_goes(video, film, web, scratch):
    web.files["/a.mp4"] = film.read_bytes()
    frames = at(web, "/a.mp4", scratch).frames(max_gap_s=2, allow_partial=False)
    given = iter(frames)
    next(given)
    assert len([*scratch.rglob("*.mp4")]) == 1
    given.close()
    assert not [*scratch.rglob("*")]


@pytest.mark.parametrize("waiting", ["for its bytes", "for room"])
def test_a_fetch_ends_when_nobody_waits_for_it(web, scratch, waiting):
    """Not with the file: it may be hours long."""
    web.files["/a.mp4"] = bytes(5 * STREAM_BYTES)
    source = at(web, "/a.mp4", scratch)
    asked = []

    class Enough(Exception):
        pass

    def check() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise Enough

    def fetch() -> None:
        STILL_WANTED.set(check)
        if waiting == "for room":
            with source.scratch.room(source.scratch.size, new_name(), "all of it"):
                list(source.frames(max_gap_s=2.0, allow_partial=False))
        list(source.frames(max_gap_s=2.0, allow_partial=False))

    with pytest.raises(Enough):
        copy_context().run(fetch)
    assert len(asked) == 2
    assert not [path for path in scratch.iterdir() if path.is_dir()]


def test_never_more_than_the_bound(video, film, web, scratch):
    """What is too large is refused; what would be too much waits for room."""
    web.files["/a.mp4"] = film.read_bytes()
    size = len(web.files["/a.mp4"])
    with pytest.raises(
        UnreadableVideo, match=rf"at most {size - 1} bytes, found {size} .*--scratch-s"
    ):
        numbers(at(web, "/a.mp4", scratch, scratch_size=size - 1), video)
    assert not web.asked
    source = at(web, "/a.mp4", scratch, scratch_size=size + 10)
    frames = [source.frames(max_gap_s=2, allow_partial=False) for _ in range(2)]
    first, second = map(iter, frames)
    next(first)
    done = threading.Event()

    def ask() -> None:
        next(second)
        done.set()

    waiting = threading.Thread(target=ask)
    waiting.start()
    assert not done.wait(0.3)
    assert len([*scratch.rglob("*.mp4")]) == 1
    first.close()
    waiting.join(60)
    assert done.is_set()
    second.close()
    assert not [*scratch.rglob("*")]


def hold_and_die(scratch: Scratch) -> None:
    stack = ExitStack()
    folder = stack.enter_context(scratch.room(80, new_name(), "x"))
    (folder / "video.mp4").write_bytes(b"x" * 80)
    os._exit(0)


def test_what_a_killed_process_held_is_cleared(tmp_path):
    (tmp_path / "antcache-mine.txt").touch()
    scratch = Scratch(tmp_path, 100)
    child = multiprocessing.get_context("fork").Process(target=hold_and_die, args=(scratch,))
    child.start()
    child.join()
    assert [*tmp_path.rglob("video.mp4")]
    with scratch.room(80, new_name(), "x") as folder:
        assert [*tmp_path.rglob("*.mp4")] == []
        assert folder.is_dir()
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".lock"] == [
        "antcache-mine.txt"
    ]


def test_the_default_folder_is_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = Scratch(None, 1).path()
    assert (path.parent, path.stat().st_mode & 0o777) == (tmp_path, 0o700)
    path.rmdir()
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadConfig, match="no folder of ours"):
        Scratch(None, 1).path()
    path.unlink()
    path.mkdir()
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
        with pytest.raises(BadConfig, match="no folder of ours"):
            Scratch(None, 1).path()
