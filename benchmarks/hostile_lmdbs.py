"""LMDBs whose pages lead nowhere, or to themselves.

Promise: see `cases.py`.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

from cases import InputCase
from hostile_writers import EVIL, Write, case, pipe

LMDB = ("import lmdb new.zarr rgb=lmdb --dry-run", "import lmdb new.zarr rgb=lmdb")
PAGE = 4096


def _page(change: Callable[[bytearray, int], object]) -> Write:
    """An LMDB whose root page, and the page's place in the file, `change` gets."""

    def write(folder: Path) -> None:
        path = folder / "lmdb/data.mdb"
        data = bytearray(path.read_bytes())
        root = max(struct.unpack_from("<Q8xQ", data, meta + 128)[::-1] for meta in (0, PAGE))[1]
        change(data, root * PAGE)
        path.write_bytes(data)

    return write


def _to_itself(data: bytearray, root: int) -> None:
    for pointer in struct.unpack_from(
        f"<{(struct.unpack_from('<H', data, root + 12)[0] - 16) // 2}H", data, root + 16
    ):
        struct.pack_into("<HHH", data, root + pointer, root // PAGE, 0, 0)


def _far_away(data: bytearray, root: int) -> None:
    pointer = struct.unpack_from("<H", data, root + 16)[0]
    struct.pack_into("<HHH", data, root + pointer, 0xFFFF, 0xFFFF, 0xFFFF)


def _no_end(data: bytearray, root: int) -> None:
    struct.pack_into("<HH", data, root + 12, 0xFFFE, 0xFFFF)


def cases() -> list[InputCase]:
    """The cases of LMDBs."""
    whole = _page(lambda data, root: data.__delitem__(slice(len(data) // 2, None)))
    return [
        case("LMDB: cut off", whole, *LMDB),
        case("LMDB: pages that lead to themselves", _page(_to_itself), *LMDB),
        case("LMDB: a page behind the end", _page(_far_away), *LMDB),
        case("LMDB: entries outside their page", _page(_no_end), *LMDB),
        case("LMDB: keys with escapes", _evil_keys, *LMDB),
        case("LMDB: a named pipe", pipe("lmdb/data.mdb"), *LMDB),
    ]


def _evil_keys(folder: Path) -> None:
    import lmdb

    shutil.rmtree(folder / "lmdb")
    with lmdb.open(str(folder / "lmdb"), lock=False) as env, env.begin(write=True) as transaction:
        transaction.put(f"{EVIL}_frame_0000000001.jpg".encode(), bytes(32))
