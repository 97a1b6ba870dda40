"""Bytes are compared before they are used: always once, and again when the file has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from antcache.errors import DamagedStore
from antcache.store import Store
from antcache.store.format import digest
from antcache.store.reading import proof
from antcache.store.reading.gather import Gatherer, proven
from antcache.store.reading.proof import Proof, Proofs

OLD_NS = 10**18
"""A time long ago, for files whose changes are told by their times."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where marks are kept, empty at first, as if this process had just started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    proof._read.cache_clear()
    yield tmp_path / "cache/antcache/verified"
    proof._read.cache_clear()


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each file that is compared with its hash."""
    calls: list[int] = []
    real = proof.digest_of

    def counted(handle: int, *rest: object) -> str:
        calls.append(handle)
        return real(handle, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(proof, "digest_of", counted)
    return calls


@pytest.fixture
def no_longer_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if files had been written long ago."""
    monkeypatch.setattr(proof, "FRESH_NS", -(10**18))


def require(path: Path, proofs: Proofs, wanted: bytes) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        size = len(wanted)
        proofs.require(handle, Proof(path.name, ((0, size),), digest(wanted)), path)
    finally:
        os.close(handle)


def another_process() -> None:
    """What is remembered on the disk is all that is left."""
    proof._read.cache_clear()


def test_what_differs_is_refused_again_and_again(tmp_path: Path, compared: list[int]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"other")
    proofs = Proofs()
    for _ in range(2):
        with pytest.raises(DamagedStore, match=f"{path}: .*values are not as they were written"):
            require(path, proofs, b"value")
    assert len(compared) == 2


def test_what_is_right_is_compared_once(tmp_path: Path, compared: list[int]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"value")
    proofs = Proofs()
    for _ in range(3):
        require(path, proofs, b"value")
    assert len(compared) == 1
    path.write_bytes(b"vAlue")
    os.utime(path, ns=(OLD_NS, OLD_NS))  # whoever changes a file may set its times, but not all
    with pytest.raises(DamagedStore, match="values are not as they were written"):
        require(path, proofs, b"value")


@pytest.mark.usefixtures("no_longer_fresh")
def test_a_later_process_need_not_compare(tmp_path: Path, cache: Path, compared: list[int]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"value")
    require(path, Proofs(), b"value")
    assert len(cache.read_bytes()) == 33
    assert cache.stat().st_mode & 0o077 == 0
    another_process()
    require(path, Proofs(), b"value")
    assert len(compared) == 1
    path.write_bytes(b"vAlue")  # as long, and perhaps within one tick of the clock
    another_process()
    with pytest.raises(DamagedStore, match="values are not as they were written"):
        require(path, Proofs(), b"value")


@pytest.mark.usefixtures("no_longer_fresh")
def test_a_mark_is_for_one_file_in_one_state(
    tmp_path: Path, compared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"value")
    other.write_bytes(b"value")
    require(path, Proofs(), b"value")
    for change in (
        lambda: other.replace(path),  # another file in its place
        lambda: os.utime(path),
        lambda: path.chmod(0o600),
        lambda: monkeypatch.setattr(proof, "boot_id", lambda: "another start of the machine"),
    ):
        before = len(compared)
        require(path, Proofs(), b"value")
        assert len(compared) == before
        change()
        another_process()
        require(path, Proofs(), b"value")
        assert len(compared) == before + 1
    # What is to be there counts, too.
    with pytest.raises(DamagedStore, match="values are not as they were written"):
        require(path, Proofs(), b"valuf")


def test_what_was_written_just_now_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    """Clocks of file systems are coarse: the next change might leave the times as they are."""
    path = tmp_path / "file"
    path.write_bytes(b"value")
    require(path, Proofs(), b"value")
    assert not cache.exists()


@pytest.mark.usefixtures("no_longer_fresh")
def test_marks_that_are_lost_or_rubbish_cost_time_only(
    tmp_path: Path, cache: Path, compared: list[int]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"value")
    require(path, Proofs(), b"value")
    for text in (b"", b"\xff" * 100, b"zz\n\n0", cache.read_bytes()[:20]):
        cache.write_bytes(text)
        another_process()
        before = len(compared)
        require(path, Proofs(), b"value")
        assert len(compared) == before + 1
        another_process()  # and it was remembered behind the rubbish, or begins the next line
        require(path, Proofs(), b"value")
    cache.unlink()
    with cache.open("wb") as file:
        file.truncate(proof.MEMORY_BYTES + 1)
    another_process()
    require(path, Proofs(), b"value")
    assert cache.stat().st_size == 33


@pytest.mark.usefixtures("no_longer_fresh")
def test_a_home_that_can_not_be_written_is_no_reason_to_stop(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"value")
    cache.parent.parent.write_text("a file where a folder should be")
    require(path, Proofs(), b"value")
    another_process()
    for unknown in (lambda: None, None):
        monkeypatch.setattr(proof, "boot_id", unknown or (lambda: None))
        require(path, Proofs(), b"value")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    require(path, Proofs(), b"value")


# Stores


@pytest.fixture(params=["zarr", "hdf5"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store", backend=request.param)
    store.create_stream("rgb", dim=4, dtype="float16", fps=4, source="x", config={})
    for video in range(3):
        store.write_features("rgb", f"v{video}", np.full((50, 4), video + 1, np.float16))
    return store


def values_of(store: Store, video: str) -> Path:
    unit = store.backend.location(f"features/rgb/{video}")
    return unit if unit.is_file() else unit / "rows/c/0/0"


def flip(path: Path, video: int) -> None:
    """One bit of the values."""
    whole = bytearray(path.read_bytes())
    whole[whole.index(np.full(200, video + 1, np.float16).tobytes()) + 7] ^= 4
    path.write_bytes(whole)


@pytest.mark.usefixtures("no_longer_fresh")
def test_a_mark_that_comes_with_a_store_is_worth_nothing(
    store: Store, tmp_path: Path, cache: Path, compared: list[int]
) -> None:
    """A store is copied as a whole, and whoever gives it away may put anything into it."""
    store.features("rgb", "v0").read()
    (Path(store.path) / "verified").write_bytes(cache.read_bytes())
    moved = Path(store.path).rename(tmp_path / "given")
    flip(values_of(Store.open(moved), "v0"), 0)
    another_process()
    with pytest.raises(DamagedStore, match="values are not as they were written"):
        Store.open(moved).features("rgb", "v0").read()


def test_threads_compare_ahead_and_nobody_compares_again(store: Store, compared: list[int]) -> None:
    features = {video: store.features("rgb", video) for video in store.videos("rgb")}
    compared.clear()  # each video was read once when it was written
    with proven(features) as wait_for:
        for video in features:
            wait_for(video)
        seen = len(compared)
        for video, own in features.items():
            np.testing.assert_array_equal(own.read(), int(video[1:]) + 1)
    assert seen == len(compared) == 3


def test_who_waits_for_a_damaged_video_is_told(store: Store) -> None:
    flip(values_of(store, "v1"), 1)
    features = {video: store.features("rgb", video) for video in store.videos("rgb")}
    with proven(features) as wait_for:
        wait_for("v0")
        with pytest.raises(DamagedStore, match="v1"):
            wait_for("v1")
        wait_for("v2")


def test_a_gatherer_that_was_pickled_or_released_refuses_what_has_changed(store: Store) -> None:
    gatherer = Gatherer([store.features("rgb", "v0")])
    out = np.empty((1, 2, 4), np.float16)
    which, rows = np.array([0]), np.array([[3, 4]])
    gatherer.into(out, which, rows)
    flip(values_of(store, "v0"), 0)
    features = store.features("rgb", "v0")
    with pytest.raises(DamagedStore, match="values are not as they were written"):
        Gatherer([features]).into(out, which, rows)


def test_marks_are_kept_where_caches_are(tmp_path: Path) -> None:
    code = "from antcache.store.reading import proof; print(proof._path())"

    def path(**environment: str) -> str:
        own = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "HOME")}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env={**own, **environment}, capture_output=True, text=True)
        return done.stdout.strip()

    assert path(HOME="/home/u") == "/home/u/.cache/antcache/verified"
    assert path(HOME="/home/u", XDG_CACHE_HOME="/c") == "/c/antcache/verified"
    assert path(HOME="/home/u", XDG_CACHE_HOME="relative") == "/home/u/.cache/antcache/verified"
