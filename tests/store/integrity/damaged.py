"""Where the parts of a store lie, and ways to damage them."""

from __future__ import annotations

from pathlib import Path

from antcache.store import Store
from antcache.store.backend import Backend
from antcache.store.integrity.repair import RepairAction
from antcache.store.integrity.verify import verify


def place(store: Store, key: str) -> Path:
    """The file of a unit that holds its rows."""
    unit = store.backend.location(key)
    return unit if unit.is_file() else unit / "rows/c/0/0"


def metadata(store: Store, key: str) -> Path:
    unit = store.backend.location(key)
    return unit if unit.is_file() else unit / "zarr.json"


def group_file(store: Store, key: str) -> Path:
    return Path(store.path) / key / store.backend.group_file


def found(store: Store | Backend) -> set[tuple[str, str]]:
    return {(finding.key, finding.what) for finding in verify(store).damaged}


def of(actions: tuple[RepairAction, ...], done: str) -> set[str]:
    return {action.key for action in actions if action.done == done}


def state(path: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, inode and time of each file."""
    files = {p: p.stat() for p in path.rglob("*") if p.is_file()}
    return {str(p): (p.read_bytes(), s.st_ino, s.st_mtime_ns) for p, s in files.items()}


def flip(path: Path, byte: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[byte] ^= 4
    path.write_bytes(whole)
