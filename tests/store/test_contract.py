"""One contract for every backend: written through `Store`, checked behind its back on the disk."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from antcache.annotations import Segments
from antcache.errors import (
    AlreadyExists,
    BadConfig,
    DamagedStore,
    FingerprintMismatch,
    MissingKey,
    NotAStore,
    NotFound,
    WriteFailed,
)
from antcache.store import Store
from antcache.store.integrity.info import describe
from antcache.testing import (
    ODD_NAMES,
    SEGMENTS,
    TAXONOMY,
    VIDEO_NAMES,
    StoreContract,
    add_stream,
)


def apart(segments: Segments, *names: str) -> dict[str, Segments]:
    """Splits that are alike but for their uids: a segment is in one."""
    return {name: replace(segments, uid=np.char.add(name, segments.uid)) for name in names}


class PlaceContract(StoreContract):
    """What `Store` promises of a place that can be looked into behind its back."""

    backend: str
    suffix: str
    hashed = 3  # on writing: the values, what is stored, and what is read back of that
    dies_before_publishing = "store.backend._rename = lambda *a: os.kill(os.getpid(), 9)"

    def read_plain(self, path: Path, key: str, name: str) -> np.ndarray[Any, Any]:
        """An array of a unit, read without antcache."""
        raise NotImplementedError

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / f"toy{self.suffix}"

    @pytest.fixture
    def store(self, path: Path) -> Store:
        store = Store.create(path, backend=self.backend)
        add_stream(store)
        return store

    def listing(self, path: Path) -> set[str]:
        return {str(p.relative_to(path)) for p in path.rglob("*")}

    def once_written(self, store: Store, patch: pytest.MonkeyPatch, then: Any) -> None:
        """Call `then` once, between the writing of the next unit and its publication."""
        write = store.backend._write

        def writing(*args: Any) -> None:
            write(*args)
            patch.setattr(store.backend, "_write", write)
            then()

        patch.setattr(store.backend, "_write", writing)

    def write_wrong(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        """Write other values than those that are given."""
        write = store.backend._write

        def corrupting(path: Path, arrays: Any, *rest: Any) -> None:
            write(path, {name: array + 1 for name, array in arrays.items()}, *rest)

        patch.setattr(store.backend, "_write", corrupting)

    def move(self, path: Path, name: str) -> Path:
        """Move the store at `path` and return where it is then."""
        return Path(shutil.move(path, path.with_name(name)))

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_features_come_back_equal_and_plain_readers_agree(self, path: Path, dtype: str) -> None:
        store = Store.create(path, backend=self.backend)
        add_stream(store, dtype=dtype)
        rows = np.random.default_rng(1).normal(size=(70_000, 8)).astype(dtype)  # several chunks
        store.write_features("rgb", "v1", rows, start_s=0.5)
        features = Store.open(path).features("rgb", "v1")
        np.testing.assert_array_equal(features.read(), rows)
        picked = np.array([[3, 69_999], [3, 0]])
        np.testing.assert_array_equal(features.read(picked), rows[picked])
        assert (features.num_rows, features.fps, features.start_s) == (70_000, 4.0, 0.5)
        np.testing.assert_array_equal(self.read_plain(path, "features/rgb/v1", "rows"), rows)

    def test_a_rename_race_is_lost_politely(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process publishes the video while ours is being written."""
        other = partial(store.write_features, "rgb", "v1", np.full((2, 8), 7, np.float16))
        self.once_written(store, monkeypatch, other)
        with pytest.raises(AlreadyExists, match="features/rgb/v1"):
            store.write_features("rgb", "v1", np.zeros((3, 8), np.float16))
        np.testing.assert_array_equal(store.features("rgb", "v1").read(), 7)

    def test_a_failed_write_leaves_no_trace(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = self.listing(store.path)

        def broken() -> None:
            raise OSError(28, "No space left on device")

        self.once_written(store, monkeypatch, broken)
        with pytest.raises(WriteFailed, match=r"features/rgb/v1: can't be written \(No space left"):
            store.write_features("rgb", "v1", np.zeros((3, 8), np.float16))
        assert self.listing(store.path) == before
        assert store.videos("rgb") == []

    def test_what_was_not_written_right_is_not_published(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.write_wrong(store, monkeypatch)
        with pytest.raises(DamagedStore, match="not what was written"):
            store.write_features("rgb", "v1", np.zeros((3, 8), np.float16))
        assert store.videos("rgb") == []

    @pytest.mark.parametrize("compressed", [False, True])
    def test_values_are_hashed_once_for_each_purpose(
        self, path: Path, compressed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, seen = Store.create(path, backend=self.backend), []
        store.create_stream(
            "rgb", dim=8, dtype="float32", fps=1, source="", config={}, compressed=compressed
        )
        blake2b = hashlib.blake2b

        class Counted:
            def __init__(self, data: Any = b"", *, digest_size: int) -> None:
                self.total = blake2b(digest_size=digest_size)
                self.update(data)

            def update(self, data: Any) -> None:
                seen.append(memoryview(data).nbytes)
                self.total.update(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(self.total, name)

        monkeypatch.setattr(hashlib, "blake2b", Counted)
        rows = np.random.default_rng(0).normal(size=(10_000, 8)).astype(np.float32)
        store.write_features("rgb", "v1", rows)
        assert sum(seen) < (self.hashed + 0.2) * rows.nbytes

    def test_a_killed_writer_leaves_nothing_visible(self, store: Store, path: Path) -> None:
        code = (
            "import os, sys, numpy as np\n"
            "from antcache.store import Store\n"
            "store = Store.open(sys.argv[1])\n"
            "store.write_features('rgb', 'v1', np.ones((5, 8), np.float16))\n"
            f"{self.dies_before_publishing}\n"
            "store.write_features('rgb', 'v2', np.ones((5, 8), np.float16))\n"
        )
        result = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
        assert result.returncode == -9
        again = Store.open(path)
        assert again.videos("rgb") == ["v1"]
        again.write_features("rgb", "v2", np.ones((5, 8), np.float16))
        assert again.videos("rgb") == ["v1", "v2"]
        assert describe(again)["features"]["rgb"]["videos"] == 2

    def test_what_is_refused_leaves_nothing(self, store: Store, path: Path) -> None:
        rows = np.zeros((3, 8), np.float16)
        store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
        before = self.listing(path)
        for name in ODD_NAMES:
            with pytest.raises(BadConfig, match="not a name for a video"):
                store.write_features("rgb", name, rows)
        with pytest.raises(FingerprintMismatch, match="another dataset"):
            Store.open_or_create(path, dataset="egtea")
        with pytest.raises(AlreadyExists, match="other labels of train"):
            store.write_labels("train", SEGMENTS[:1], TAXONOMY, source="a test")
        with pytest.raises(MissingKey, match="not in the store"):
            store.backend.remove("features/rgb/v1/rows")
        assert self.listing(path) == before

    def test_plain_readers_find_the_names_of_people(self, store: Store, path: Path) -> None:
        for number, name in enumerate(VIDEO_NAMES):
            store.write_features("rgb", name, np.full((3, 8), number, np.float16))
            found = self.read_plain(path, f"features/rgb/{name}", "rows")
            np.testing.assert_array_equal(found, number)

    def test_a_later_format_is_refused(self, store: Store, path: Path) -> None:
        store.backend.set_group_attributes("", {"antcache": {"format": 4}})
        with pytest.raises(NotAStore, match="expected format 1 or 2 or 3, found format 4"):
            Store.open(path)

    def test_a_store_can_be_moved(self, store: Store, path: Path) -> None:
        store.write_features("rgb", "v1", np.ones((3, 8), np.float16))
        moved = Store.open(self.move(path, "elsewhere"))
        np.testing.assert_array_equal(moved.features("rgb", "v1").read(), 1)

    def reopen(self, store: Store) -> Store:
        return Store.open(str(store.path))


class TestZarr(PlaceContract):
    backend, suffix = "zarr", ".zarr"

    def read_plain(self, path: Path, key: str, name: str) -> np.ndarray[Any, Any]:
        array = zarr.open_group(path, mode="r")[f"{key}/{name}"]
        assert isinstance(array, zarr.Array)
        return np.asarray(array[...])

    def test_plain_zarr_walks_the_whole_hierarchy(self, store: Store, path: Path) -> None:
        store.write_features("rgb", "v1", np.zeros((3, 8), np.float16))
        store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
        members = dict(
            zarr.open_group(path, mode="r").members(max_depth=None)
        )  # warns of strangers
        assert {"features/rgb/v1/rows", "labels/train/uid"} <= members.keys()

    def test_absent_chunks_never_stand_for_zeros(self, store: Store, path: Path) -> None:
        store.write_features("rgb", "v1", np.zeros((3, 8), np.float16))
        assert (path / "features/rgb/v1/rows/c/0/0").stat().st_size == 3 * 8 * 2


class TestHdf5(PlaceContract):
    backend, suffix = "hdf5", ".h5"

    def read_plain(self, path: Path, key: str, name: str) -> np.ndarray[Any, Any]:
        with h5py.File(path / f"{key}.h5", "r") as file:
            assert file[name].chunks is None  # contiguous: can be memory-mapped
            return np.asarray(file[name][...])


@pytest.mark.parametrize("kind", ["missing", "file", "folder", "other zarr", "broken"])
def test_what_is_no_store_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("hello")
    elif kind == "folder":
        (path / "y").mkdir(parents=True)
    elif kind == "other zarr":
        zarr.open_group(path, mode="w")
    elif kind == "broken":
        path.mkdir()
        (path / "zarr.json").write_text("{not json")
    with pytest.raises(NotFound if kind == "missing" else NotAStore, match=str(path)):
        Store.open(path)
    if kind != "missing":
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(NotAStore, match=str(path)):
            Store.open_or_create(path)
        with pytest.raises(AlreadyExists, match=str(path)):
            Store.create(path)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_unit_is_named(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s.h5")
    add_stream(store)
    store.write_features("rgb", "v1", np.zeros((3, 8), np.float16))
    (tmp_path / "s.h5/features/rgb/v1.h5").write_bytes(b"rubbish")
    with pytest.raises(DamagedStore, match=r"features/rgb/v1: can't be read"):
        store.features("rgb", "v1")
