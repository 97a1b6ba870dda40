"""Locks: exclusive, gone with their process, and no state left behind."""

from __future__ import annotations

import errno
import fcntl
import signal
import threading
import time
from pathlib import Path

import pytest

from antcache.errors import AlreadyExists, WriteFailed
from antcache.files import locks
from antcache.files.locks import exclusively, hold, lock_beside


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


def test_a_killed_holder_holds_nothing(tmp_path: Path, held_elsewhere) -> None:
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


def no_locks(*args: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_one_at_a_time_and_the_others_are_told(tmp_path: Path, held_elsewhere) -> None:
    folder = tmp_path / "deep" / "run"
    with (
        exclusively(folder / ".lock", "another process trains", where=folder, hint="wait"),
        pytest.raises(AlreadyExists, match=r"deep/run: another process trains \(wait\)"),
        exclusively(folder / ".lock", "another process trains", where=folder, hint="wait"),
    ):
        pass
    assert not folder.parent.exists()  # nothing came into it
    folder.mkdir(parents=True)
    with held_elsewhere(folder / ".lock") as process:
        with (
            pytest.raises(AlreadyExists, match="busy"),
            exclusively(folder / ".lock", "busy", where=folder),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with exclusively(folder / ".lock", "busy", where=folder):
            (folder / "result").write_text("")
    assert [p.name for p in folder.iterdir()] == ["result"]


def test_refused_ones_do_not_take_the_folder_from_under_one_another(tmp_path: Path) -> None:
    """Threads that all make it, and all remove it again."""
    folder, done = tmp_path / "run", []

    def work() -> None:
        for _ in range(50):
            try:
                with exclusively(folder / ".lock", "busy", where=folder):
                    assert folder.is_dir()
            except AlreadyExists:
                pass
        done.append(True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 8
    assert not folder.exists() or not list(folder.iterdir())


def test_where_no_lock_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place in ("file", "link"):
        lock = tmp_path / place / ".lock"
        with (
            pytest.raises(WriteFailed, match="can't be written"),
            exclusively(lock, "", where=place),
        ):
            pass


def test_without_locks_work_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks)
    locks._warn.cache_clear()
    lock = tmp_path / ".lock"
    with exclusively(lock, "busy", where=tmp_path), exclusively(lock, "busy", where=tmp_path):
        pass
    assert caplog.text.count("this file system has no locks (No locks available)") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_an_output_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "place")
    monkeypatch.chdir(tmp_path)
    for output in ("place", "link", "./place"):
        assert lock_beside(Path(output)) == tmp_path / ".place.lock"
    assert lock_beside(Path()) == tmp_path.with_name(f".{tmp_path.name}.lock")
