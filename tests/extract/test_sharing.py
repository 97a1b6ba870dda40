"""Several processes extract into one store: each video is done once, and what one leaves undone
another takes over; what the disk refuses ends the pass with one line."""

from __future__ import annotations

import datetime
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import UnreadableVideo, WriteFailed
from antcache.extract import ExtractConfig, extract, find_videos, load_backbone
from antcache.extract import turns as turns_module
from antcache.extract.engines.decoders import Decoders
from antcache.extract.engines.video import PendingRows
from antcache.extract.plan import RowRecipe
from antcache.extract.turns import take_turns
from antcache.store import Store
from antcache.store.format import STAGING
from antcache.store.local import ledger as ledger_module
from antcache.store.local.ledger import Ledger

CLAIMER = """
import sys, time
from antcache.store import Store
with Store.open(sys.argv[1]).claim_features("rgb", sys.argv[2]) as ours:
    print(ours, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def backbone(vit):
    return load_backbone(vit, device="cpu")


@pytest.fixture
def folder(tmp_path, video):
    """Six videos of 1 to 2 seconds."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(6):
        video.write(videos / f"v{number}.mp4", video.steady(25 + 5 * number), codec="mpeg4")
    return videos


@pytest.fixture
def reference(tmp_path, folder, backbone):
    store = Store.create(tmp_path / "reference.zarr")
    extract(find_videos(folder), store, backbone)
    return {name: store.features("rgb", name).read() for name in store.videos("rgb")}


def check(store, reference):
    assert store.videos("rgb") == list(reference)
    for name, rows in reference.items():
        assert store.backend.damaged_parts(f"features/rgb/{name}") == []
        np.testing.assert_array_equal(store.features("rgb", name).read(), rows)
    if isinstance(store.path, str):
        assert store.backend.files.sizes(STAGING) == {}
    else:
        assert not (store.path / STAGING).exists()


@contextmanager
def claimed_elsewhere(store: Store, video: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that claims a video and does nothing."""
    command = [sys.executable, "-c", CLAIMER, str(store.path), video]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def longest_file(num_bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", ["zarr", "hdf5", "s3"])
def test_the_work_is_shared(tmp_path, folder, backbone, reference, kind, request, monkeypatch):
    """Three passes at once, each with its own handle: every video is written by just one."""
    path, about = tmp_path / "s", {"backend": kind}
    if kind == "s3":
        server = request.getfixturevalue("s3_server")
        path, about = f"s3://kitchen/{uuid.uuid4().hex}/s", {"storage_options": server.options}
        monkeypatch.chdir(tmp_path)  # for the list of failures
    barrier = threading.Barrier(3)
    reports = []

    def work():
        barrier.wait()
        store = Store.open_or_create(path, **about)
        reports.append(extract(find_videos(folder), store, backbone))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for r in reports for name in r.written) == list(reference)
    for report in reports:  # and each pass ends when all of it is there
        assert sorted(report.written + report.skipped) == list(reference)
    check(Store.open(path, storage_options=about.get("storage_options")), reference)
    if kind == "s3":  # nor does anybody else begin with it
        works = [name for name in server.written if name.endswith(".work") and path[5:] in name]
        assert len(works) == len(reference)


def record_begun(monkeypatch):
    """Names of the videos that are decoded from now on."""
    begun, original = set(), Decoders._clips

    def clips(self, name):
        begun.add(name)
        return original(self, name)

    monkeypatch.setattr(Decoders, "_clips", clips)
    return begun


def test_what_a_killed_process_had_claimed_is_taken_over(
    tmp_path, folder, backbone, reference, caplog, monkeypatch
):
    caplog.set_level("INFO", "antcache")
    store = Store.create(tmp_path / "s.zarr")
    store.create_stream(**RowRecipe.of(backbone, ExtractConfig()).stream(None))
    calls, begun = [], record_begun(monkeypatch)
    with claimed_elsewhere(store, "v1") as process:

        def sleep(seconds):
            assert {"v0", "v2", "v3", "v4", "v5"} == begun  # nothing else to do
            calls.append(seconds)
            if len(calls) == 3:
                process.kill()
                process.wait()

        monkeypatch.setattr(turns_module.time, "sleep", sleep)
        shown = []
        report = extract(
            find_videos(folder), store, backbone, progress=lambda *call: shown.append(call)
        )
    assert calls == [0.05, 0.1, 0.2]
    assert report.written == ("v0", "v1", "v2", "v3", "v4", "v5")
    assert [call[1:] for call in shown if call[0] == "videos"][-3:-1] == [(5, 6)] * 2
    assert shown[-1] == ("videos", 6, 6)
    assert caplog.text.count("v1: another process is at it") == 1
    assert caplog.text.count("v1: the other process has left it undone; taken over") == 1
    check(store, reference)


def test_what_another_process_finishes_is_not_done_again(
    tmp_path, folder, backbone, reference, monkeypatch
):
    store = Store.create(tmp_path / "s.zarr")
    store.create_stream(**RowRecipe.of(backbone, ExtractConfig()).stream(None))
    claim = store.claim_features("rgb", "v1")
    assert claim.__enter__()
    decoded = record_begun(monkeypatch)

    def sleep(seconds):
        store.write_features("rgb", "v1", reference["v1"])
        claim.__exit__(None, None, None)

    monkeypatch.setattr(turns_module.time, "sleep", sleep)
    report = extract(find_videos(folder), store, backbone)
    assert report.skipped == ("v1",)
    assert decoded == {"v0", "v2", "v3", "v4", "v5"}
    check(store, reference)


def test_an_interrupt_while_waiting_frees_all_claims(tmp_path, folder, backbone, monkeypatch):
    store = Store.create(tmp_path / "s.zarr")
    store.create_stream(**RowRecipe.of(backbone, ExtractConfig()).stream(None))

    wait = time.sleep

    def interrupted(seconds):
        if len(store.videos("rgb")) == 5:  # they are stored while somebody waits for the other one
            raise KeyboardInterrupt
        wait(seconds)

    monkeypatch.setattr(turns_module.time, "sleep", interrupted)
    with store.claim_features("rgb", "v1"):
        with pytest.raises(KeyboardInterrupt):
            extract(find_videos(folder), store, backbone)
        with store.claim_features("rgb", "v2") as ours:
            assert ours
    assert not (store.path / STAGING).exists()
    assert len(store.videos("rgb")) == 5


def test_turns():
    """Each name once, whoever does it, in order as far as they are free."""
    done, busy, looks = {"b"}, {"c": 3, "d": 1}, []

    def claim(name):
        busy[name] = busy.get(name, 0) - 1
        return nullcontext(busy[name] < 0)

    def waiting():
        looks.append(dict(busy))
        done.add("c")

    turns = take_turns("abcde", claim=claim, is_done=done.__contains__, waiting=waiting)
    assert [(name, held is not None) for name, held in turns] == [
        ("a", True),
        ("b", False),
        ("e", True),
        ("d", True),
        ("c", False),
    ]
    assert len(looks) == 1


def test_done_between_the_look_and_the_claim():
    states = iter([False, True])
    turns = take_turns("a", claim=lambda name: nullcontext(True), is_done=lambda n: next(states))
    assert list(turns) == [("a", None)]


# The ledger


def test_no_entry_is_lost(tmp_path):
    ledger = Ledger(tmp_path / "s.zarr")
    names = [f"v{number}" for number in range(40)]

    def work(mine):
        for name in mine:
            Ledger(tmp_path / "s.zarr").failed("rgb", name, Path(name), UnreadableVideo("broken"))
            if name.endswith("0"):
                Ledger(tmp_path / "s.zarr").succeeded("rgb", name)

    threads = [threading.Thread(target=work, args=(names[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = sorted(name for name in names if not name.endswith("0"))
    assert sorted(f.video for f in ledger.read()) == wanted
    ledger.succeeded("rgb", *names)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_of_the_ledger(tmp_path):
    ledger = Ledger(tmp_path / "s.zarr")
    half = tmp_path / f".s.zarr.failures.jsonl.{'0' * 32}"
    half.mkdir()
    (half / "s.zarr.failures.jsonl").write_text('{"stream": "rg')
    (tmp_path / "s.zarr.failures.jsonl.lock").touch()
    assert ledger.read() == []
    ledger.failed("rgb", "a", Path("a"), UnreadableVideo("broken"))
    assert [f.video for f in ledger.read()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr.failures.jsonl"]


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path):
    ledger = Ledger(tmp_path / "s.zarr")
    ledger.failed("rgb", "a", Path("a"), UnreadableVideo("broken"))
    before = ledger.path.read_text()
    expected = pytest.raises(WriteFailed, match=r"s\.zarr\.failures\.jsonl: can't be written")
    with longest_file(100), expected:
        ledger.failed("rgb", "b", Path("b"), UnreadableVideo("broken"))
    assert ledger.path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr.failures.jsonl"]


def test_a_video_that_is_there_leaves_the_ledger(tmp_path, folder, backbone):
    """Its writer was killed between publishing it and saying so."""
    store = Store.create(tmp_path / "s.zarr")
    extract(find_videos(folder), store, backbone)
    ledger = Ledger(store.path)
    ledger.failed("rgb", "v1", folder / "v1.mp4", UnreadableVideo("broken"))
    ledger.failed("flow", "v1", folder / "v1.mp4", UnreadableVideo("broken"))
    extract(find_videos(folder), store, backbone)
    assert [f.stream for f in ledger.read()] == ["flow"]


# What the disk and the clock do


def lines_of(result):
    """What was said on stderr, but for the progress."""
    lines = result.stderr.strip().splitlines()
    return [line for line in lines if not line.startswith("progress: ")]


def run(*arguments):
    return CliRunner().invoke(cli, ["extract", *map(str, arguments)])


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_full_disk(tmp_path, video, folder, vit, reference, kind):
    """The command ends with one line and exit code 2; what was there stays; a re-run finishes."""
    store = tmp_path / "s"
    options = ("--backbone", vit, "--device", "cpu", "--format", kind)
    assert run(folder / "v0.mp4", store, *options).exit_code == 0
    log = tmp_path / "s.log"
    size = max(p.stat().st_size for p in [log, *store.rglob("*")] if p.is_file())
    big = tmp_path / "big"
    big.mkdir()
    video.write(big / "a.mp4", video.steady(60 * 25), codec="mpeg4", key_every=250)
    with longest_file(size + 2000):
        result = run(big, store, *options)
    assert result.exit_code == 2
    lines = lines_of(result)
    assert lines[0].startswith(f"Error: {store}: features/rgb/a: can't be written (File too large)")
    assert len(lines) == 1
    assert Store.open(store).videos("rgb") == ["v0"]
    result = run(folder, store, *options)
    assert (result.exit_code, lines_of(result)) == (0, [])
    check(Store.open(store), reference)


def test_full_disk_for_the_ledger_and_the_log(tmp_path, folder, vit):
    """A log that can't be written is said once; a ledger that can't be written ends the pass."""
    (folder / "v3.mp4").write_text("no film")
    store = tmp_path / "s.zarr"
    options = ("--backbone", vit, "--device", "cpu")
    run(folder / "v0.mp4", store, *options)
    log, ledger = tmp_path / "s.zarr.log", tmp_path / "s.zarr.failures.jsonl"
    log.write_text("." * 20_000)
    ledger.write_text(
        '{"stream": "rgb", "video": "x", "file": "x", "error": "%s", "date": ""}\n' % ("." * 20_000)
    )
    with longest_file(20_000):
        result = run(folder, store, *options)
    assert result.exit_code == 2
    lines = lines_of(result)
    assert lines[0] == f"Warning: {log}: File too large; the log is incomplete"
    assert lines[1].startswith(f"Error: {ledger}: can't be written (File too large)")
    assert len(lines) == 2
    assert Store.open(store).videos("rgb") == ["v0"]  # v3 states no length, so it came first
    result = run(folder, store, *options)
    assert result.exit_code == 1
    assert Store.open(store).videos("rgb") == ["v0", "v1", "v2", "v4", "v5"]
    assert [f.video for f in Ledger(store).read()] == ["x", "v3"]


def test_the_store_is_removed_meanwhile(tmp_path, folder, vit, monkeypatch):
    store = tmp_path / "s.zarr"
    original = PendingRows.publish

    def removing(self, *rest):
        if self.name == "v2":
            store.rename(tmp_path / "elsewhere")
        return original(self, *rest)

    monkeypatch.setattr(PendingRows, "publish", removing)
    result = run(folder, store, "--backbone", vit, "--device", "cpu")
    assert result.exit_code == 2
    assert len(lines_of(result)) == 1
    assert str(store) in result.stderr
    assert not store.exists()
    assert Store.open(tmp_path / "elsewhere").videos("rgb") == ["v3", "v4", "v5"]


def test_a_video_that_may_not_be_read(tmp_path, folder, backbone):
    """It is reported like any other that can't be read, and the rest is done."""
    (folder / "v1.mp4").chmod(0)
    place = Path(tempfile.mkdtemp())  # everybody may go to where this is
    try:
        shutil.copytree(folder, place / "videos", copy_function=shutil.move)
        place.chmod(0o777)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            store = Store.create(place / "s.zarr")
            report = extract(find_videos(place / "videos"), store, backbone)
        finally:
            if root:
                os.seteuid(0)
        assert [f.video for f in report.failed] == ["v1"]
        assert "Permission denied" in report.failed[0].error
        assert len(report.written) == 5
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_clock_jumps(tmp_path, folder, backbone, reference, kind, monkeypatch):
    """Years forth and back at every look at the clock."""
    looks = iter(range(10**6))

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(time.time(), tz)

    monkeypatch.setattr(time, "time", lambda: 2e9 - 1e8 * (next(looks) % 20))
    monkeypatch.setattr(ledger_module, "datetime", Jumping)
    (folder / "v9.mp4").write_text("no film")
    store = Store.create(tmp_path / "s", backend=kind)
    report = extract(find_videos(folder), store, backbone)
    assert 0 <= report.seconds < 60
    assert len(report.written) == 6
    check(store, reference)
    report = extract(find_videos(folder), store, backbone)
    assert (len(report.skipped), len(report.failed)) == (6, 1)
    assert [f.video for f in Ledger(store.path).read()] == ["v9"]
