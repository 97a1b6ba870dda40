"""Files and folders that appear as a whole, whatever happens to their writer."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

import pytest

from antcache.errors import AlreadyExists, WriteFailed, interrupt_behind
from antcache.files import (
    FolderKind,
    atomic,
    atomic_file,
    atomic_folder,
    clear_leftovers,
    disk,
    is_leftover,
    is_vacant,
)
from antcache.files.disk import exchange, remove_folder, rename_new

BOOK = FolderKind(what="a book", mark="book.json")
HEX = "0123456789abcdef" * 2


def write(path: Path, text: str, *, overwrite: bool = False) -> None:
    """A file, or a folder if the name has no ending, that holds `text`."""
    if path.suffix:
        with atomic_file(path, overwrite=overwrite) as staged:
            staged.write_text(text)
        return
    with atomic_folder(path, BOOK, overwrite=overwrite) as staged:
        (staged / "book.json").write_text(text)
        (staged / "pages").mkdir()
        (staged / "pages" / "1").write_text(text)


def write_and(then: Callable[[], None], path: Path, *, overwrite: bool = False) -> None:
    """`write`, during which something happens."""
    how = atomic_file if path.suffix else partial(atomic_folder, kind=BOOK)
    with how(path, overwrite=overwrite) as staged:
        (staged / "book.json" if staged.is_dir() else staged).write_text("late")
        then()


def read(path: Path) -> str:
    """The text that `write` wrote; that of a folder's files must be one."""
    if path.is_file():
        return path.read_text()
    assert sorted(p.name for p in path.iterdir()) == ["book.json", "pages"]
    (text,) = {(path / name).read_text() for name in ("book.json", "pages/1")}
    return text


@pytest.fixture(params=["a.txt", "book"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a file, and where a folder goes."""
    return tmp_path / "shelf" / str(request.param)


@pytest.fixture(params=["exchange", "no exchange"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A system that knows `renameat2`, and one that does not."""
    if request.param == "no exchange":
        monkeypatch.setattr(disk, "_renameat2", lambda *_: False)
    return str(request.param)


@pytest.mark.usefixtures("system")
def test_what_was_written_is_there_and_nothing_else(target: Path) -> None:
    write(target, "one")
    assert read(target) == "one"
    with pytest.raises(AlreadyExists, match=r"already here.*--overwrite \(overwrite=True\)"):
        write(target, "two")
    assert read(target) == "one"
    write(target, "two", overwrite=True)
    assert read(target) == "two"
    assert [p.name for p in target.parent.iterdir()] == [target.name]


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), ValueError(), OSError(errno.ENOSPC, "No space left")]
)
def test_what_fails_changes_nothing(target: Path, there: bool, failure: BaseException) -> None:
    if there:
        write(target, "one")

    def fail() -> None:
        raise failure

    expected = WriteFailed if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected) as caught:
        write_and(fail, target, overwrite=there)
    if isinstance(failure, OSError):
        hint = "(run the command again when the disk has room and allows it)"
        assert str(caught.value) == f"{target}: can't be written (No space left) {hint}"
    assert [p.name for p in target.parent.iterdir()] == [target.name] * there
    if there:
        assert read(target) == "one"


def test_what_another_file_does_is_not_called_a_failed_write(target: Path) -> None:
    with pytest.raises(FileNotFoundError, match="source"), atomic_file(target) as staged:
        staged.write_text((target.parent / "source").read_text())
    with pytest.raises(WriteFailed, match="No such file"), atomic_file(target) as staged:
        (staged / "x").write_text("below what is not there")
    assert list(target.parent.iterdir()) == []


def test_permissions_are_those_of_the_umask(target: Path) -> None:
    """Whatever the writer gave its files: safetensors lets their owner alone read them."""
    before = os.umask(0)
    try:
        for number, mask in enumerate((0o022, 0o077, 0o027, 0o002)):
            os.umask(mask)
            path = target.with_name(f"{number}{target.name}")
            how = atomic_folder if not target.suffix else atomic_file
            with how(path) as staged:
                inside = staged / "x" if staged.is_dir() else staged
                inside.touch(0o600)
                if staged.is_dir():
                    (staged / "sub").mkdir()
                    (staged / "sub" / "y").touch(0o600)
            for each in (path, *path.rglob("*")):
                wanted = (0o777 if each.is_dir() else 0o666) & ~mask
                assert stat.S_IMODE(each.stat().st_mode) == wanted, each
    finally:
        os.umask(before)


def test_links_stay_links(target: Path) -> None:
    real = target.parent / "elsewhere" / f"real{target.suffix}"
    target.parent.mkdir()
    target.symlink_to(real)
    for number in ("one", "two"):
        write(target, number, overwrite=True)
        assert target.is_symlink()
        assert not real.is_symlink()
        assert read(real) == number
    with pytest.raises(AlreadyExists, match="already here"):
        write(target, "three")
    assert [p.name for p in real.parent.iterdir()] == [real.name]


@pytest.mark.parametrize("name", ["a", "a b", ".hidden", "ü" * 127, "x" * 255, "-", "a\nb"])
def test_names_of_all_kinds(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_file(Path(name)) as staged:
        staged.write_text("x")
    left = next(iter({f".{n}.{HEX}" for n in (name,) if len(os.fsencode(n)) < 200}), None)
    if left is not None:
        assert is_leftover(left)
        assert is_leftover(f"{left}.lock")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_nothing_but_its_own_kind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("years of work")
    for name in ("notes", "file"):
        with pytest.raises(AlreadyExists, match=f"{name}: something that is not a book"):
            write(tmp_path / name, "x", overwrite=True)
    with pytest.raises(AlreadyExists, match="already here"), atomic_folder(tmp_path / "notes"):
        pass
    with (
        pytest.raises(AlreadyExists, match="a folder is here"),
        atomic_file(tmp_path / "notes", overwrite=True),
    ):
        pass
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "one")
    assert read(tmp_path / "empty") == "one"


def test_what_has_come_meanwhile_is_not_replaced(target: Path) -> None:
    """Neither unasked, nor where something of another kind has come."""
    with pytest.raises(AlreadyExists, match="already here"):
        write_and(partial(write, target, "early"), target)
    assert read(target) == "early"
    other = target.with_name(f"other{target.suffix}")

    def come() -> None:
        other.mkdir()
        (other / "thesis.txt").write_text("years of work")

    with pytest.raises(AlreadyExists, match=r"a folder is here|not a book is already here"):
        write_and(come, other, overwrite=True)
    assert (other / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in target.parent.iterdir()) == sorted([other.name, target.name])


NO_LINK = errno.EPERM


@pytest.fixture(params=["renameat2", "link", "neither"])
def naming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a file system has to give a name only once."""

    def no_link(*_: object) -> None:
        raise OSError(NO_LINK, os.strerror(NO_LINK))

    if request.param != "renameat2":
        monkeypatch.setattr(disk, "_renameat2", lambda *_: False)
    if request.param == "neither":
        monkeypatch.setattr(os, "link", no_link)
    return str(request.param)


def test_a_name_is_given_once(tmp_path: Path, naming: str) -> None:
    (tmp_path / "one").write_text("one")
    (tmp_path / "two").write_text("two")
    rename_new(tmp_path / "one", tmp_path / "name")
    with pytest.raises(FileExistsError):
        rename_new(tmp_path / "two", tmp_path / "name")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        rename_new(tmp_path / "two", tmp_path / "link")
    assert (tmp_path / "name").read_text() == "one"
    write(tmp_path / "a.txt", "one")
    with pytest.raises(AlreadyExists, match="already here"):
        write(tmp_path / "a.txt", "two")


@pytest.mark.parametrize("naming", ["renameat2", "link"], indirect=True)
def test_of_many_writers_one_wins(target: Path, naming: str) -> None:
    for number in range(10):
        path, barrier = target.with_name(f"{number}{target.name}"), threading.Barrier(8)
        won: list[str] = []

        def work(
            text: str, path: Path = path, barrier: threading.Barrier = barrier, won: list = won
        ) -> None:
            barrier.wait()
            with suppress(AlreadyExists):
                write(path, text)
                won.append(text)

        threads = [threading.Thread(target=work, args=(str(n),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [read(path)]
    assert len(list(target.parent.iterdir())) == 10


def test_what_comes_at_the_last_moment_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer is done after we looked for the last time, and before we give the name."""
    book, look, looks = tmp_path / "book", atomic._check_folder, itertools.count(1)

    def look_and_be_late(path: Path, kind: FolderKind | None, overwrite: bool) -> None:
        look(path, kind, overwrite)
        if next(looks) == 2:
            path.mkdir()
            (path / BOOK.mark).write_text("theirs")

    monkeypatch.setattr(atomic, "_check_folder", look_and_be_late)
    with pytest.raises(AlreadyExists, match="already here"):
        write(book, "ours")
    assert next(looks) == 3
    assert [file.read_text() for file in book.iterdir()] == ["theirs"]
    assert [each.name for each in tmp_path.iterdir()] == ["book"]


def test_the_old_one_is_never_absent(target: Path) -> None:
    """A reader that looks all the time finds the old one or the new one."""
    write(target, "0")
    if not target.suffix:
        (target.parent / "other").mkdir()
        if not exchange(target, target.parent / "other"):
            pytest.skip("this file system can't exchange")
        assert exchange(target, target.parent / "other")
        (target.parent / "other").rmdir()
    file, found, over = target if target.suffix else target / "book.json", [], threading.Event()

    def look() -> None:
        while not over.is_set():
            try:
                found.append(int(file.read_text()))
            except OSError as error:
                found.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(1, 100):
        write(target, str(number), overwrite=True)
    over.set()
    reader.join()
    assert [each for each in found if not isinstance(each, int)] == []
    assert found == sorted(found)


# Killed writers


def fork(work: Callable[[], None]) -> int:
    """Exit code of a process that does `work` (negative: killed by that signal)."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("there", [False, True])
def test_a_killed_writer_hinders_nobody(target: Path, there: bool) -> None:
    if there:
        write(target, "old")

    new = target.with_name(f"new{target.suffix}")
    assert fork(partial(write_and, die, new)) == -signal.SIGKILL
    names = {p.name for p in target.parent.iterdir()} - {target.name}
    assert len(names) == 2
    assert all(map(is_leftover, names))
    assert is_vacant(target.parent) == (not there)
    write(target, "new", overwrite=True)  # whatever is written there clears up
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_what_a_live_writer_has_is_left_alone(target: Path, held_elsewhere) -> None:
    target.parent.mkdir()
    left = target.parent / f".{target.name}.{HEX}"
    left.mkdir()
    with held_elsewhere(left.with_name(f"{left.name}.lock")):
        write(target, "one")
        assert left.is_dir()
    write(target, "two", overwrite=True)
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_names_that_are_not_ours_are_left_alone(target: Path) -> None:
    target.parent.mkdir()
    mine = {f".{target.name}", f".{target.name}.{HEX[:-1]}", f"{target.name}.{HEX}", f"..{HEX}x"}
    for name in mine:
        (target.parent / name).write_text("")
    write(target, "one")
    assert {p.name for p in target.parent.iterdir()} == {target.name} | mine


def test_a_link_for_a_leftover_leads_nowhere(tmp_path: Path) -> None:
    """It may have come with a folder of somebody else."""
    outside = tmp_path / "outside"
    (outside / "replaced").mkdir(parents=True)
    (outside / "replaced" / "thesis.txt").write_text("years of work")
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / f".a.{HEX}").symlink_to(outside)
    other = shelf / f".b.{HEX}"
    other.mkdir()
    (other / "replaced").symlink_to(outside / "replaced")
    clear_leftovers(shelf)
    write(shelf / "a.txt", "one")
    assert (outside / "replaced" / "thesis.txt").read_text() == "years of work"
    assert not (shelf / "thesis.txt").exists()


@pytest.mark.parametrize("ends", ["killed", "refused"])
def test_without_an_exchange_the_old_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Between two renames nothing is there, and nothing is lost."""
    book = tmp_path / "book"
    write(book, "old")
    monkeypatch.setattr(disk, "_renameat2", lambda *_: False)
    rename = os.rename

    def second(old: Path, new: Path) -> None:
        if Path(new) == book and "replaced" not in Path(old).parts:
            if ends == "killed":
                die()
            raise OSError(errno.EIO, "Input/output error")
        rename(old, new)

    def work() -> None:
        monkeypatch.setattr(os, "rename", second)
        write(book, "new", overwrite=True)

    if ends == "killed":
        assert fork(work) == -signal.SIGKILL
        assert not book.exists()
        with pytest.raises(AlreadyExists, match="a book is already here"):
            BOOK.check(book)
    else:
        with pytest.raises(WriteFailed, match="Input/output error"):
            work()
        monkeypatch.setattr(os, "rename", rename)
    assert read(book) == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["book"]
    write(book, "new", overwrite=True)
    assert read(book) == "new"


# Disks that refuse

Failing = Callable[[int, int], AbstractContextManager[list[str]]]


def codes() -> Iterator[int]:
    yield from itertools.cycle((errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT))


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("there", [False, True])
def test_every_call_may_fail(target: Path, there: bool, failing: Failing) -> None:
    """Whichever the disk refuses: our error, the old or the new, and nothing in anybody's way."""
    for number, code in zip(range(100), codes(), strict=False):
        if there:
            write(target, "old", overwrite=True)
        refused = None
        with failing(number, code) as made:
            try:
                write(target, "new", overwrite=there)
            except WriteFailed as error:
                refused = error
        assert refused is None or os.strerror(code) in str(refused)
        if refused is None:
            break
        clear_leftovers(target.parent)
        if there:
            assert read(target) in ("old", "new")
        elif target.exists():
            assert read(target) == "new"
            write(target, "x", overwrite=True)
            for path in sorted(target.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            target.rmdir() if target.is_dir() else target.unlink()
    assert len(made) <= number
    assert number >= 5
    assert read(target) == "new"
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_an_interrupt_is_not_lost_while_a_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal is heard as the system's `close` comes back: what is closed, is closed again."""
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    closed: list[int] = []
    close = os.close

    def interrupted(handle: int) -> None:
        close(handle)
        closed.append(handle)
        if len(closed) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(folder)
    assert closed
    remove_folder(folder)
    assert not folder.exists()
    remove_folder(folder)  # which is gone


def test_an_interrupt_is_found_behind_what_came_of_it() -> None:
    assert interrupt_behind(None) is None
    assert interrupt_behind(OSError()) is None

    def fail() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ValueError("at last") from None

    with pytest.raises(ValueError, match="at last") as later:
        fail()
    assert isinstance(interrupt_behind(later.value), KeyboardInterrupt)
