"""LMDBs read page by page: what liblmdb reads, and nothing from a damaged page."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from antcache.errors import BadConfig
from antcache.interop.lmdb.pages import DATA_FILE, HEAD, NODE, open_lmdb

PAGE = 4096


def make(path: Path, seed: int, count: int, *, longest: int = 9000) -> Path:
    """An LMDB of `count` keys in several transactions, a third of them deleted again."""
    rng = random.Random(seed)
    keys = [rng.randbytes(rng.randint(1, 60)) for _ in range(count)]
    with lmdb.open(str(path), map_size=1 << 26) as env:
        for start in range(0, count, 40):
            with env.begin(write=True) as transaction:
                for key in keys[start : start + 40]:
                    transaction.put(key, rng.randbytes(rng.randint(0, longest)))
        with env.begin(write=True) as transaction:
            for key in keys[::3]:
                transaction.delete(key)
    return path


def expected(path: Path) -> list[tuple[bytes, bytes]]:
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return list(transaction.cursor())


def read(path: Path, first: bytes = b"") -> list[tuple[bytes, bytes]]:
    with open_lmdb(path) as found:
        return [(node.key, found.value(node)) for node in found.nodes(first)]


@pytest.mark.parametrize(("seed", "count"), [(0, 0), (1, 1), (2, 5), (3, 300), (4, 2000)])
def test_equals_liblmdb(tmp_path: Path, seed: int, count: int) -> None:
    path = make(tmp_path / "x", seed, count, longest=9000 if count < 1000 else 300)
    whole = expected(path)
    assert read(path) == whole
    assert count != 300 or {len(value) > PAGE for _, value in whole} == {True, False}
    rng = random.Random(seed)
    for _ in range(20):
        first = rng.randbytes(rng.randint(1, 3))
        assert read(path, first) == [item for item in whole if item[0] >= first]
    for key, _ in whole[:: max(1, len(whole) // 9)]:
        assert read(path, key)[0][0] == key


def test_the_younger_meta_page_counts(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for n in range(5):
        with lmdb.open(str(path), map_size=1 << 20) as env, env.begin(write=True) as transaction:
            transaction.put(b"key", b"%d" % n)
        assert read(path) == [(b"key", b"%d" % n)]


def write_at(path: Path, offset: int, data: bytes) -> None:
    with (path / DATA_FILE).open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two levels; values on the leaves and on pages of their own."""
    with (
        lmdb.open(str(tmp_path / "x"), map_size=1 << 26) as env,
        env.begin(write=True) as transaction,
    ):
        for n in range(200):
            transaction.put(b"key %04d" % n, bytes(5000 if n % 10 == 0 else 200))
    return tmp_path / "x"


def layout(path: Path) -> tuple[int, list[int], list[int]]:
    """Pages of the root, the leaves and the first value of each leaf."""
    with open_lmdb(path) as found:
        root, _ = found._root, found._depth
        page, pointers = found._page(root, 1)
        leaves = found._children(root, page, pointers, b"")
        big = [int.from_bytes(n.near, "little") for n in found.nodes() if n.big]
    return root, leaves, big


def first_node(path: Path, page: int) -> int:
    """Where the first entry of a page lies in the file."""
    data = (path / DATA_FILE).read_bytes()
    return page * PAGE + struct.unpack_from("<H", data, page * PAGE + HEAD.size)[0]


DAMAGE: dict[str, tuple[str, Callable[[Path, int, list[int], list[int]], tuple[int, bytes]]]] = {
    "a child behind the end": (
        "no such page",
        lambda path, root, leaves, big: (first_node(path, root), struct.pack("<HH", 9999, 9)),
    ),
    "a child that is a meta page": (
        "no such page",
        lambda path, root, leaves, big: (first_node(path, root), struct.pack("<HH", 1, 0)),
    ),
    "a child that is the root": (
        r"flags 0x1",
        lambda path, root, leaves, big: (first_node(path, root), struct.pack("<HH", root, 0)),
    ),
    "a child twice": (
        "keys that do not ascend",
        lambda path, root, leaves, big: (
            first_node(path, root),
            struct.pack("<HH", leaves[1], 0),
        ),
    ),
    "a page of another number": (
        r"flags 0x2, page 7777",
        lambda path, root, leaves, big: (leaves[0] * PAGE, struct.pack("<Q", 7777)),
    ),
    "free space outside the page": (
        "free space from 20 to 60000",
        lambda path, root, leaves, big: (leaves[0] * PAGE + 12, struct.pack("<HH", 20, 60000)),
    ),
    "no entries": (
        "free space from 16",
        lambda path, root, leaves, big: (leaves[0] * PAGE + 12, struct.pack("<H", 16)),
    ),
    "an entry outside the page": (
        "an entry outside the page",
        lambda path, root, leaves, big: (leaves[0] * PAGE + HEAD.size, struct.pack("<H", 4095)),
    ),
    "a key outside the page": (
        "an entry that is no key with a value",
        lambda path, root, leaves, big: (first_node(path, leaves[0]) + 6, struct.pack("<H", 60000)),
    ),
    "an empty key": (
        "an entry that is no key with a value",
        lambda path, root, leaves, big: (first_node(path, leaves[0]) + 6, struct.pack("<H", 0)),
    ),
    "a value outside the leaf": (
        "an entry that is no key with a value",
        lambda path, root, leaves, big: (
            first_node(path, leaves[1]),
            struct.pack("<HHH", 0, 9, 0),
        ),
    ),
    "a database in the database": (
        "an entry that is no key with a value",
        lambda path, root, leaves, big: (first_node(path, leaves[0]) + 4, struct.pack("<H", 2)),
    ),
    "a value of 4 GB": (
        "behind the end of the file",
        lambda path, root, leaves, big: (
            first_node(path, leaves[0]),
            struct.pack("<HH", 0xFFFF, 0xFFFF),
        ),
    ),
    "a value of more than its pages": (
        "not the pages of a value",
        lambda path, root, leaves, big: (first_node(path, leaves[0]), struct.pack("<HH", 9000, 0)),
    ),
    "a value that is no value": (
        "not the pages of a value",
        lambda path, root, leaves, big: (big[0] * PAGE + 10, struct.pack("<H", 2)),
    ),
    "a value behind the end": (
        "no such page",
        lambda path, root, leaves, big: (
            first_node(path, leaves[0]) + NODE.size + 8,
            struct.pack("<Q", 1 << 40),
        ),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(tree: Path, damage: str) -> None:
    message, where = DAMAGE[damage]
    write_at(tree, *where(tree, *layout(tree)))
    with pytest.raises(BadConfig, match=rf"data\.mdb: the LMDB is damaged at page \d+.*{message}"):
        read(tree)


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (20, struct.pack("<I", 2), "version 2"),
        (40, struct.pack("<I", 3), "pages of 3 bytes"),
        (92, struct.pack("<H", 4), "keys of another kind"),
        (94, struct.pack("<H", 33), "33 levels"),
        (94, struct.pack("<H", 0), "0 levels"),
        (136, struct.pack("<Q", 1 << 60), "pages"),
        (120, struct.pack("<Q", 199), "200 keys, not 199 as stated"),
        (136, struct.pack("<Q", 1 << 20), "cut off"),
    ],
)
def test_meta_pages_are_checked(tree: Path, offset: int, data: bytes, message: str) -> None:
    for page in (0, PAGE) if offset != 40 else (PAGE,):
        write_at(tree, page + offset, data)
    with pytest.raises(BadConfig, match=message):
        read(tree)


def test_lmdbs_of_other_machines(tree: Path) -> None:
    path = tree / DATA_FILE
    data = path.read_bytes()
    path.write_bytes(data[4:])
    with pytest.raises(
        BadConfig, match="can't be opened as an LMDB: found one of a 32-bit machine"
    ):
        read(path)
    path.write_bytes(data.replace(b"\xde\xc0\xef\xbe", b"\xbe\xef\xc0\xde"))
    with pytest.raises(BadConfig, match="found one of a big-endian machine"):
        read(path)


def test_databases_in_the_database_are_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "named"), map_size=1 << 20, max_dbs=2) as env:
        named = env.open_db(b"features")
        with env.begin(write=True, db=named) as transaction:
            transaction.put(b"a", b"b")
    with pytest.raises(BadConfig, match=r"holds named databases.*found features"):
        read(tmp_path / "named")


def test_no_flip_is_the_end(tree: Path) -> None:
    """A flipped bit anywhere: the keys as they were, another key or value, or a `BadConfig`."""
    rng = random.Random(0)
    data = (tree / DATA_FILE).read_bytes()
    refused = 0
    for _ in range(400):
        place = (
            rng.randrange(len(data))
            if rng.random() < 0.3
            else rng.randrange(len(data) // PAGE) * PAGE + rng.randrange(120)
        )
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        (tree / DATA_FILE).write_bytes(changed)
        try:
            assert len(read(tree)) == 200
        except BadConfig:
            refused += 1
    assert refused > 30


def test_the_file_is_cut_while_it_is_read(tree: Path) -> None:
    """liblmdb's memory map would end the process (SIGBUS)."""
    with open_lmdb(tree) as found:
        nodes = found.nodes()
        next(nodes)
        with (tree / DATA_FILE).open("r+b") as file:
            file.truncate(3 * PAGE)
        with pytest.raises(BadConfig, match="behind the end of the file"):
            list(nodes)
