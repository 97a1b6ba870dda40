"""A store that was cloned without Git LFS: its pointers are called that, and none is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import AntcacheError, ReadFailed
from antcache.store import Store
from antcache.store.integrity.repair import repair
from antcache.store.integrity.verify import verify
from antcache.testing import SEGMENTS, TAXONOMY, add_stream, soft_targets

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 3456\n"
WORDS = "a Git LFS pointer in place of the file, which git lfs pull fetches"
ROWS = np.arange(72, dtype=np.float16).reshape(9, 8)


@pytest.fixture(params=["zarr", "hdf5"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "s", backend=request.param)
    add_stream(store)
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    store.write_features("rgb", "v1", ROWS, times=np.arange(9) ** 2.0)
    store.write_targets("t", soft_targets())
    return store


def files_of(store: Store) -> list[Path]:
    return sorted(path for path in Path(store.path).rglob("*") if path.is_file())


def invoke(*words: object) -> str:
    """What a command says that ends with exit code 2 and one line."""
    result = CliRunner().invoke(cli, [*map(str, words)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.output
    return result.stderr


def test_each_file_is_named_and_kept(store: Store) -> None:
    for path in files_of(store):
        own = path.read_bytes()
        path.write_bytes(POINTER)
        words = f"{path}: {WORDS}"
        for command in ("verify", "repair", *(["doctor"] if path.parent == store.path else [])):
            assert words in invoke("store", command, store.path)
        with pytest.raises(ReadFailed, match=WORDS):
            verify(store)
        with pytest.raises(ReadFailed, match=WORDS):
            repair(store)
        silent = path.parent.name in ("features", "targets")  # these say nothing
        # Rows are counted by their bytes; nothing else of a video in Zarr is looked at.
        unread = "/v1/" in path.as_posix() and "/v1/rows/c/" not in path.as_posix()
        if not silent and not unread:
            assert words in invoke("store", "info", store.path)
        assert path.read_bytes() == POINTER
        path.write_bytes(own)
    assert verify(store).intact


def test_all_of_a_clone_are_kept(store: Store) -> None:
    """Nothing is written over them, asked or unasked."""
    files = [path for path in files_of(store) if path.name != store.backend.group_file]
    files += [path for path in files_of(store) if path.parent.name in ("v1", "train", "t")]
    for path in files:
        path.write_bytes(POINTER)
    kept = {path: path.read_bytes() for path in files_of(store)}
    again = Store.open(store.path)
    for read in (
        lambda: again.labels("train"),
        lambda: again.features("rgb", "v1").read(),
        lambda: again.targets("t"),
        lambda: again.write_features("rgb", "v1", ROWS),
        lambda: again.write_targets("t", soft_targets()),
        lambda: again.write_targets("t", soft_targets(), overwrite=True),
        lambda: again.write_labels("train", SEGMENTS, TAXONOMY, source="x"),
        lambda: again.write_labels("train", SEGMENTS, TAXONOMY, source="x", overwrite=True),
    ):
        with pytest.raises(AntcacheError, match=WORDS):
            read()
    assert {path: path.read_bytes() for path in files_of(store)} == kept


def test_one_whose_root_is_a_pointer_is_no_empty_place(store: Store) -> None:
    root = Path(store.path) / store.backend.group_file
    root.write_bytes(POINTER)
    with pytest.raises(ReadFailed, match=f"{root}: {WORDS}"):
        Store.open_or_create(store.path)


def test_a_store_at_a_url(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    fs, url = fsspec.filesystem("memory"), f"memory://{tmp_path.name}"
    store = Store.create(url)
    add_stream(store)
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    store.write_features("rgb", "v1", ROWS)
    paths = fs.find(tmp_path.name)
    assert len(paths) > 10
    for path in paths:
        own = fs.cat_file(path)
        fs.pipe_file(path, POINTER)
        for command in ("verify", "repair"):
            said = invoke("store", command, url)
            assert f"memory:/{path}: {WORDS}" in said
        assert fs.cat_file(path) == POINTER
        fs.pipe_file(path, own)
    assert verify(store).intact
