"""Locks in a store: claims, sweeping, and a file system without them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from antcache.errors import AlreadyExists
from antcache.files import locks
from antcache.store import Store
from antcache.store.format import STAGING
from antcache.store.local import folder as folder_module

KINDS = {"zarr": "s.zarr", "hdf5": "s.h5"}


def make_store(tmp_path: Path, kind: str, name: str = "") -> Store:
    store = Store.create(tmp_path / (name or KINDS[kind]), backend=kind)
    store.create_stream("rgb", dim=4, dtype="float32", fps=1, source="test", config={})
    return store


def rows(value: float = 1) -> np.ndarray:
    return np.full((5, 4), value, np.float32)


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
def test_what_killed_writers_left_is_swept_whatever_its_age(
    tmp_path: Path, kind: str, held_elsewhere
) -> None:
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
    store.backend.remove_leftovers()
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
    store.backend.remove_leftovers()
    assert store.backend.open(key)[0]["rows"][0, 0] == 2
    assert store.backend.damaged_parts(key) == []
    assert not (store.path / STAGING).exists()
