"""Only what lies in the store is opened, by the system call and step by step alike."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from antcache.errors import DamagedStore
from antcache.store.reading import inside as module
from antcache.store.reading.inside import FILE, FOLDER, LINK, OTHER, Inside


@pytest.fixture(params=["openat2", "step by step"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "openat2":
        monkeypatch.setattr(module, "_open_beneath", module._open_step_by_step)
    return request.param


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file two folders down, and a neighbour beside it."""
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour/file").write_text("secret")
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_text("ours")
    return root


def test_a_file_is_read_wherever_the_root_lies(root: Path, tmp_path: Path) -> None:
    assert Inside(root).read("a/b/file") == b"ours"
    (tmp_path / "elsewhere").symlink_to("root")  # people put whole stores elsewhere
    assert Inside(tmp_path / "elsewhere").read("a/b/file") == b"ours"
    assert pickle.loads(pickle.dumps(Inside(root))).read("a/b/file") == b"ours"


def test_kinds_are_told_without_following(root: Path) -> None:
    (root / "link").symlink_to("a")
    os.mkfifo(root / "pipe")
    inside = Inside(root)
    assert inside.entries("") == {"a": FOLDER, "link": LINK, "pipe": OTHER}
    assert inside.entries("link") == inside.entries("nothing") == {}
    assert inside.entries("a/b") == {"file": FILE}
    kinds = ("a", "a/b/file", "link", "pipe", "link/b", "a/b/file/x", "nothing", "", "..")
    found = [inside.kind(name) for name in kinds]
    assert found == [FOLDER, FILE, LINK, OTHER, None, None, None, FOLDER, None]
    assert Inside(root / "nothing").kind("a") is None


def link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def listen(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


INSTEAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link out": (lambda p: link(p, "../../../neighbour/file"), LINK),
    "a link inside": (lambda p: link(p, "../b/file2"), LINK),
    "a link to itself": (lambda p: link(p, "file"), LINK),
    "a link to nothing": (lambda p: link(p, "nothing"), LINK),
    "a link to a device": (lambda p: link(p, "/dev/zero"), LINK),
    "a pipe": (pipe, OTHER),
    "a socket": (listen, OTHER),
    "a folder": (folder, FOLDER),
}


@pytest.mark.parametrize("name", INSTEAD)
def test_what_is_no_file_is_refused_at_once(root: Path, name: str) -> None:
    (root / "a/b/file2").write_text("also ours")
    make, kind = INSTEAD[name]
    make(root / "a/b/file")
    for use in (lambda file: Inside(root).opened(file).__enter__(), Inside(root).read):
        with pytest.raises(DamagedStore, match=f"root/a/b/file: {kind}, which no store has here"):
            use("a/b/file")
    with Inside(root).at("a/b") as b, pytest.raises(DamagedStore, match=kind):
        b.size("file")


@pytest.mark.parametrize("where", ["a", "a/b"])
def test_a_folder_that_is_a_link_is_never_entered(root: Path, where: str) -> None:
    """Not even where it leads to what was there."""
    path = root / where
    aside = root / "aside"
    path.rename(aside)
    path.symlink_to(aside)
    inside = Inside(root)
    with pytest.raises(DamagedStore, match=f"root/{where}: {LINK}, which no store has here"):
        inside.read("a/b/file")
    assert inside.entries("a/b") == {}
    assert inside.kind("a/b/file") is None
    with pytest.raises(DamagedStore, match=LINK):
        inside.require_no_link("a/b/file")


@pytest.mark.parametrize(
    "name",
    [
        *("../neighbour/file", "a/../../neighbour/file", "a/b/../b/file", "/etc/passwd"),
        *("a//b/file", "./a/b/file", "a/b/file/", "a/b/fi\0le"),
    ],
)
def test_names_that_no_file_has_are_refused(root: Path, name: str) -> None:
    with pytest.raises(DamagedStore, match="not a name of a file in a store"):
        Inside(root).read(name)
    assert Inside(root).kind(name) is None


def test_a_file_that_is_too_long_is_not_read(root: Path) -> None:
    with (root / "a/b/file").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(
        DamagedStore, match=r"too long .*at most 16777216 bytes, found 1099511627776"
    ):
        Inside(root).read("a/b/file")


def test_what_is_not_there_is_not_there(root: Path) -> None:
    for name in ("nothing", "a/nothing", "nothing/file"):
        with pytest.raises(FileNotFoundError, match=f"root/{name}"):
            Inside(root).read(name)
    with pytest.raises(FileNotFoundError):
        Inside(root / "nothing").read("a")
    with pytest.raises(DamagedStore, match=f"a/b/file: {FILE}, which no store has here"):
        Inside(root).read("a/b/file/more")


def test_nothing_stays_open(root: Path) -> None:
    (root / "link").symlink_to("a")
    inside = Inside(root)
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        inside.read("a/b/file")
        inside.entries("a")
        inside.kind("a/b")
        for bad in ("link/b/file", "a/b", "nothing/x"):
            with pytest.raises(OSError, match=r"link|folder|No such"):
                inside.read(bad)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
