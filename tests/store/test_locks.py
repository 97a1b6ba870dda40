"""Locks: exclusive, gone with their process, and no state left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from antcache.errors import AlreadyExists
from antcache.store import Store, locks
from antcache.store import folder as folder_module
from antcache.store.folder import STAGING
from antcache.store.locks import exchange, hold

KINDS = {"zarr": "s.zarr", "hdf5": "s.h5"}

HOLDER = """
import sys, time
from pathlib import Path
from antcache.store.locks import hold
with hold(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    time.sleep(600)
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that holds the lock at `path`."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def make_store(tmp_path: Path, kind: str, name: str = "") -> Store:
    store = Store.create(tmp_path / (name or KINDS[kind]), backend=kind)
    store.create_stream("rgb", dim=4, dtype="float32", fps=1, source="test", config={})
    return store


def rows(value: float = 1) -> np.ndarray:
    return np.full((5, 4), value, np.float32)


def test_one_holder_at_a_time_and_nothing_stays(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with hold(lock) as ours:
        assert ours
        with hold(lock) as theirs:
            assert not theirs
        assert lock.exists()  # whoever did not get it leaves it alone
    assert not lock.exists()
    with hold(lock) as ours:
        assert ours


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with held_elsewhere(lock) as process:
        with hold(lock) as ours:
            assert not ours
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock.exists()
        with hold(lock) as ours:
            assert ours
    assert not lock.exists()


def test_nobody_holds_a_lock_file_that_was_removed(tmp_path: Path) -> None:
    """Many threads count in a file; an update is lost if two ever hold the lock at once."""
    lock, file = tmp_path / "x.lock", tmp_path / "count"
    file.write_text("0")

    def work() -> None:
        for _ in range(50):
            with hold(lock, wait=True) as ours:
                assert ours
                number = int(file.read_text())
                time.sleep(0)
                file.write_text(str(number + 1))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text() == "400"
    assert not lock.exists()


def no_locks(*args: object) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_system_without_locks(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Work goes on and is safe, but nothing of others is swept away, and it is said once."""
    store = make_store(tmp_path, kind)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    locks._warn.cache_clear()
    other = store.path / STAGING / "other"
    other.mkdir(parents=True)
    with store.claim_features("rgb", "a") as first, store.claim_features("rgb", "a") as second:
        assert (first, second) == (True, True)
        store.write_features("rgb", "a", rows())
        with pytest.raises(AlreadyExists, match="features/rgb/a"):
            store.write_features("rgb", "a", rows(2))
    np.testing.assert_array_equal(store.features("rgb", "a").read(), rows())
    assert [p.name for p in (store.path / STAGING).iterdir()] == ["other"]
    assert caplog.text.count("this file system has no locks (Function not implemented)") == 1


def test_other_errors_of_locks_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="Input/output"), hold(tmp_path / "x.lock"):
        pass
    with pytest.raises(FileNotFoundError), hold(tmp_path / "nowhere" / "x.lock"):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("kind", KINDS)
def test_claims(tmp_path: Path, kind: str) -> None:
    store = make_store(tmp_path, kind)
    with store.claim_features("rgb", "a") as ours:
        assert ours
        with store.claim_features("rgb", "a") as again, store.claim_features("rgb", "b") as other:
            assert (again, other) == (False, True)
        store.write_features("rgb", "c", rows())  # sweeps, but not what is held
        with store.claim_features("rgb", "a") as again:
            assert not again
    with store.claim_features("rgb", "a") as ours:
        assert ours
    assert not (store.path / STAGING).exists()
    with store.claim_features("rgb", "v" * 250) as ours:  # as long as a name may be
        assert ours


def test_staging_goes_just_as_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer has made it when we want to make it, and has removed it when we use it."""
    store = make_store(tmp_path, "zarr")
    mkdir = os.mkdir
    made: list[str] = []

    def late(path: Path, *rest: int) -> None:
        made.append(Path(path).name)
        if made == [STAGING]:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        mkdir(path, *rest)

    monkeypatch.setattr(os, "mkdir", late)
    with store.claim_features("rgb", "a") as ours:
        assert ours
    assert made == [STAGING, STAGING]


@pytest.mark.parametrize("kind", KINDS)
def test_what_killed_writers_left_is_swept_whatever_its_age(tmp_path: Path, kind: str) -> None:
    """Only whether it is held counts; what is held may look as old as it likes."""
    store = make_store(tmp_path, kind)
    staging = store.path / STAGING
    staging.mkdir()
    for name in ("new", "old", "held"):
        (staging / name).mkdir()
        (staging / name / "unit").write_text("half")
    (staging / "claimed.lock").touch()
    for path in (staging / "old", staging / "held"):
        os.utime(path, (0, 0))
    future = 4_000_000_000
    os.utime(staging / "new", (future, future))
    with held_elsewhere(staging / "held.lock"):
        store.write_features("rgb", "a", rows())
        assert sorted(p.name for p in staging.iterdir()) == ["held", "held.lock"]
        assert (staging / "held" / "unit").exists()
    store.backend.sweep()
    assert not staging.exists()


def test_sweeping_and_writing_at_once(tmp_path: Path) -> None:
    """Writers that all sweep never take a folder from under one another."""
    store = make_store(tmp_path, "zarr")
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for each in range(12):
                store.write_features("rgb", f"v{number}-{each}", rows(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(store.videos("rgb")) == 48
    assert not (store.path / STAGING).exists()


def test_exchange(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for path in (new, old):
        path.mkdir()
        (path / "name").write_text(path.name)
    if not exchange(new, old):
        pytest.skip("this file system can't exchange")
    assert (old / "name").read_text() == "new"
    assert (new / "name").read_text() == "old"
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "nothing", old)


def no_exchange(new: Path, old: Path) -> bool:
    return False


def test_overwriting_without_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two renames: if the second fails, or we are killed before it, the old unit is put back."""
    store = make_store(tmp_path, "zarr")
    monkeypatch.setattr(folder_module, "exchange", no_exchange)
    publish = store.backend.publish
    key = "features/rgb/a"
    publish(key, {"rows": rows(1)}, {})
    publish(key, {"rows": rows(2)}, {}, overwrite=True)
    assert store.backend.open(key)[0]["rows"][0, 0] == 2

    rename = Path.rename
    child = os.fork()
    if child == 0:  # killed between the two renames
        signal.alarm(30)

        def killed(self: Path, target: Path) -> Path:
            if self.name == "unit":
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(self, target)

        try:
            Path.rename = killed  # type: ignore[method-assign]
            publish(key, {"rows": rows(3)}, {}, overwrite=True)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert not store.backend.has(key)
    store.backend.sweep()
    assert store.backend.open(key)[0]["rows"][0, 0] == 2
    assert store.backend.damage(key) == []
    assert not (store.path / STAGING).exists()
