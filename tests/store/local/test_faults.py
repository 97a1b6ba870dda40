"""What goes wrong with a disk: a clear error, all that was there intact, and a re-run that works.

Full disks are real (a small tmpfs, where mounting is allowed) and imitated (a limit on the length
of files, which always works, and system calls that fail one after another).
"""

from __future__ import annotations

import datetime
import errno
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.cli.common import log_to
from antcache.cli.main import cli
from antcache.errors import (
    AlreadyExists,
    DamagedStore,
    WriteFailed,
)
from antcache.store import Store
from antcache.store.format import STAGING

KINDS = {"zarr": "s.zarr", "hdf5": "s.h5"}
Failing = Callable[[int, int], AbstractContextManager[list[str]]]
STREAM = {"dim": 64, "dtype": "float32", "fps": 1.0, "source": "test", "config": {}}
NOBODY = 65534


def rows(value: float, number: int = 100) -> np.ndarray:
    return np.full((number, 64), value, np.float32)


def make_store(folder: Path, kind: str) -> Store:
    """A store with the video `before`."""
    store = Store.create(folder / KINDS[kind], backend=kind)
    store.create_stream("rgb", **STREAM)
    store.write_features("rgb", "before", rows(1))
    return store


def check(store: Store, *videos: str) -> None:
    """These videos are there, whole, and nothing else is."""
    again = Store.open(store.path)
    assert again.videos("rgb") == sorted(["before", *videos])
    for name in again.videos("rgb"):
        assert again.backend.damaged_parts(f"features/rgb/{name}") == []
    np.testing.assert_array_equal(again.features("rgb", "before").read(), rows(1))
    assert not (store.path / STAGING).exists()


@contextmanager
def longest_file(num_bytes: int) -> Iterator[None]:
    """Writing past so many bytes of a file fails (EFBIG), as it would on a full disk (ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(*, kib: int = 512) -> Iterator[Path]:
    """A file system of its own; skips where mounting is not allowed."""
    folder = Path(tempfile.mkdtemp())
    try:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    finally:
        folder.rmdir()


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user without rights, where we are root."""
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


# Full disks


@pytest.mark.parametrize("kind", KINDS)
def test_full_disk(kind: str) -> None:
    with small_disk() as disk:
        store = make_store(disk, kind)
        filler = disk / "filler"
        with pytest.raises(
            WriteFailed, match=r"features/rgb/big: can't be written \(No space left"
        ):
            store.write_features("rgb", "big", rows(2, 4000))
        check(store)
        full = pytest.raises(OSError, match="No space left")
        with full, filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with pytest.raises(WriteFailed, match="No space left on device"):
            store.write_features("rgb", "small", rows(3))
        with pytest.raises(WriteFailed, match="No space left on device"):
            store.create_stream("flow", **STREAM)
        with pytest.raises(WriteFailed, match="No space left on device"):
            Store.create(disk / "other.zarr")
        assert store.streams() == ["rgb"]
        check(store)
        filler.unlink()
        store.write_features("rgb", "small", rows(3))
        store.create_stream("flow", **STREAM)
        check(store, "small")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compressed", [False, True])
def test_file_too_long(tmp_path: Path, kind: str, compressed: bool) -> None:
    store = make_store(tmp_path, kind)
    settings = {**STREAM, "compressed": compressed}
    store.create_stream("flow", **settings)
    noise = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
    for limit in (0, 100, 600, 3000, 10_000):
        with longest_file(limit), pytest.raises(WriteFailed, match="File too large"):
            store.write_features("flow", "v", noise)
        with longest_file(min(limit, 100)), pytest.raises(WriteFailed, match="File too large"):
            store.create_stream("obj", **settings)
        assert store.videos("flow") == []
        assert store.streams() == ["flow", "rgb"]
        check(store)
    store.write_features("flow", "v", noise)
    np.testing.assert_array_equal(store.features("flow", "v").read(), noise)


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_met_a_full_disk_ends_well(tmp_path: Path, kind: str) -> None:
    """Nothing on stderr and no crash, not even when Python ends; HDF5 is prone to both."""
    make_store(tmp_path, kind)
    code = (
        "import resource, sys, numpy as np\n"
        "from antcache.errors import WriteFailed\n"
        "from antcache.store import Store\n"
        "store = Store.open(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))\n"
        "try: store.write_features('rgb', 'v', np.ones((100, 64), np.float32))\n"
        "except WriteFailed: print('refused')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / KINDS[kind])]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "refused\n", "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["publish", "overwrite", "group", "remove"])
def test_every_system_call_may_fail(tmp_path: Path, kind: str, what: str, failing: Failing) -> None:
    """Whichever call the disk refuses: our error, and the store as before or as wanted."""
    store = make_store(tmp_path, kind)
    backend = store.backend
    key = "features/rgb/v"
    work: dict[str, Callable[[], Any]] = {
        "publish": lambda: store.write_features("rgb", "v", rows(3)),
        "overwrite": lambda: backend.publish(key, {"rows": rows(3)}, {}, overwrite=True),
        "remove": lambda: backend.remove(key),
        "group": lambda: store.create_stream("flow", **STREAM),
    }
    expected = {"publish": {3}, "overwrite": {2, 3}, "remove": {2}}
    for number in range(100):
        if what in ("overwrite", "remove"):
            backend.publish(key, {"rows": rows(2)}, {}, overwrite=True)
        elif backend.has(key):  # published, and then something failed
            backend.remove(key)
        code = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)[number % 4]
        refused: BaseException | None = None
        with failing(number, code) as made:
            try:
                work[what]()
            except WriteFailed as error:
                refused = error
        assert refused is None or os.strerror(code) in str(refused)
        assert all(store.stream(name).dim == 64 for name in store.streams())
        if backend.has(key):
            assert float(backend.open(key)[0]["rows"][0, 0]) in expected[what]
        else:
            assert what != "overwrite"
        check(store, *(["v"] if backend.has(key) else []))
        if refused is None:
            break
    assert len(made) <= number
    assert number >= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["features/rgb", "features/new"])
def test_only_the_last_step_of_a_group_fails(
    tmp_path: Path, kind: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk's refusal is not taken for another process's group, which would be waited for."""
    store = make_store(tmp_path, kind)

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        for name in ("rename", "replace"):
            patch.setattr(Path, name, refused)
        with pytest.raises(WriteFailed, match=f"{key}: can't be written .No space"):
            store.backend.set_group_attributes(key, {"note": 1})
    assert store.streams() == ["rgb"]
    assert "note" not in store.backend.group_attributes("features/rgb")
    check(store)


# Other refusals


@pytest.mark.parametrize("kind", KINDS)
def test_permission_denied(kind: str) -> None:
    """Of a store that we may only read, and of one that we may not even read."""
    folder = Path(tempfile.mkdtemp())
    try:
        store = make_store(folder, kind)
        folder.chmod(0o755)
        mode = 0o555 if os.geteuid() else 0o755
        paths = [store.path, *(p for p in store.path.rglob("*") if p.is_dir())]
        for path in paths:
            path.chmod(mode)
        with as_nobody():
            assert Store.open(store.path).features("rgb", "before").num_rows == 100
            with pytest.raises(WriteFailed, match=r"rgb/v: can't be written \(Permission denied"):
                store.write_features("rgb", "v", rows(2))
            refused = pytest.raises(WriteFailed, match="Permission denied")
            with refused, store.claim_features("rgb", "v"):
                pass
            with pytest.raises(WriteFailed, match="Permission denied"):
                store.create_stream("flow", **STREAM)
            # Who writes soft targets waits for those who write labels, and writes none.
            words = f"{store.path}: can't be written (Permission denied)"
            refused = pytest.raises(WriteFailed, match=re.escape(words))
            with refused, store.backend.exclusively("labels"):
                pass
        store.path.chmod(0o000)
        with as_nobody():
            result = CliRunner().invoke(cli, ["store", "info", str(store.path)])
        assert result.exit_code == 2
        assert "Permission denied" in result.stderr
        assert str(store.path) in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        for path in paths:
            path.chmod(0o755)
        check(store)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_read_only_disk(kind: str) -> None:
    with small_disk() as disk:
        store = make_store(disk, kind)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert Store.open(store.path).features("rgb", "before").num_rows == 100
        assert store.create_stream("rgb", **STREAM).dim == 64  # it is there: nothing to write
        with pytest.raises(WriteFailed, match="Read-only file system"):
            store.write_features("rgb", "v", rows(2))
        with pytest.raises(WriteFailed, match="Read-only file system"):
            store.create_stream("flow", **STREAM)
        check(store)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["staging", "stream", "store"])
def test_removed_while_writing(
    tmp_path: Path, kind: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, kind)
    gone = {"staging": STAGING, "stream": "features/rgb", "store": ""}[what]
    write = store.backend._write

    def interfered(*args: Any) -> None:
        write(*args)
        shutil.rmtree(store.path / gone)

    with monkeypatch.context() as patch:
        patch.setattr(store.backend, "_write", interfered)
        with pytest.raises(WriteFailed, match="features/rgb/v") as caught:
            store.write_features("rgb", "v", rows(2))
    assert ("the store is gone" in str(caught.value)) == (what == "store")
    if what == "store":  # it is not made anew, with one video and nothing else
        assert not store.path.exists()
        gone_for_good = pytest.raises(WriteFailed, match="the store is gone")
        with gone_for_good, store.claim_features("rgb", "v"):
            pass
        assert not store.path.exists()
        make_store(tmp_path, kind)
    elif what == "stream":  # nor a stream without its settings
        assert store.streams() == []
        store.create_stream("rgb", **STREAM)
        store.write_features("rgb", "before", rows(1))
    store.write_features("rgb", "v", rows(2))
    check(store, "v")


@pytest.mark.parametrize("kind", KINDS)
def test_something_is_in_the_way(tmp_path: Path, kind: str) -> None:
    """What is no readable unit is neither overwritten nor taken for one."""
    store = make_store(tmp_path, kind)
    target = store.backend.location("features/rgb/v")
    if kind == "zarr":
        (target / "rows").mkdir(parents=True)
        (target / "rows" / "zarr.json").write_text("{}")
    else:
        target.write_bytes(b"half a file")
    with pytest.raises(DamagedStore, match=r"rgb/v.*no readable unit is in the way.*repair"):
        store.write_features("rgb", "v", rows(2))
    store.remove("features/rgb/v")
    if kind == "zarr":
        target.write_text("a file where a folder belongs")
    else:
        target.mkdir()
    assert not store.has_features("rgb", "v")
    with pytest.raises(DamagedStore, match="in the way"):
        store.write_features("rgb", "v", rows(2))
    check(store)


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_way_at_the_last_moment(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, kind)
    target = store.backend.location("features/rgb/v")
    write = store.backend._write

    def interfered(*args: Any) -> None:
        write(*args)
        target.mkdir()
        (target / "stray").touch()

    monkeypatch.setattr(store.backend, "_write", interfered)
    expected = DamagedStore if kind == "zarr" else AlreadyExists
    with pytest.raises(expected, match="features/rgb/v"):
        store.write_features("rgb", "v", rows(2))
    assert [p.name for p in target.iterdir()] == ["stray"]


@pytest.mark.parametrize("kind", KINDS)
def test_clock_jumps(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Years back at every look at the clock: nothing depends on it."""
    looks = iter(range(10**6))

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            return cls.fromtimestamp(time.time(), tz)

    monkeypatch.setattr(time, "time", lambda: 2e9 - 1e8 * (next(looks) % 20))
    monkeypatch.setattr(datetime, "datetime", Jumping)
    store = make_store(tmp_path, kind)
    with log_to(tmp_path / "log"):
        for number in range(5):
            with store.claim_features("rgb", f"v{number}") as ours:
                assert ours
                logging.getLogger("antcache").info("video %d", number)
                store.write_features("rgb", f"v{number}", rows(number))
    assert len((tmp_path / "log").read_text().splitlines()) == 5
    check(store, *(f"v{number}" for number in range(5)))
