"""What lies at a URL is believed only where it is as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from bucket import ROWS, S3, fill, units

from antcache.errors import (
    DamagedStore,
    Unreachable,
    WriteFailed,
)
from antcache.store import Store
from antcache.store.format import digest
from antcache.store.seal import attributes_of, sealed
from antcache.testing import SEGMENTS, TAXONOMY, add_stream, soft_targets


def test_every_flipped_bit_and_lost_object_is_named(memory: str) -> None:
    import fsspec

    store = Store.create(memory)
    add_stream(store)
    fill(store)
    fs = fsspec.filesystem("memory")
    rng = np.random.default_rng(0)
    tried = 0
    for key in units(store):
        for path in fs.find(f"{memory}/{key}"):
            name = path.partition(f"{key}/")[2]
            expected = ["metadata"] if name == "zarr.json" else [name.partition("/")[0]]
            right = fs.cat_file(path)
            place = int(rng.integers(len(right)))
            wrong = right[:place] + bytes((right[place] ^ 1 << rng.integers(8),))
            fs.pipe_file(path, wrong + right[place + 1 :])
            assert store.backend.damaged_parts(key) == expected
            fs.rm_file(path)
            assert store.backend.damaged_parts(key) == expected
            fs.pipe_file(path, right)
            assert store.backend.damaged_parts(key) == []
            tried += 1
    assert tried == 32
    path = f"{memory}/features/rgb/zarr.json"
    fs.pipe_file(path, fs.cat_file(path).replace(b"test", b"text"))
    assert store.backend.group_damaged("features/rgb")
    with pytest.raises(DamagedStore, match=r"features/rgb/zarr\.json: not as it was written"):
        store.stream("rgb")


def test_a_lost_chunk_is_damage_and_never_zeros(s3: S3, store: Store, url: str) -> None:
    store.write_features("rgb", "v1", ROWS)
    features = Store.open(url).features("rgb", "v1")
    other = Store.open(url).features("rgb", "v1")
    s3.fs.rm_file(f"{url}/features/rgb/v1/rows/c/0/0")
    with pytest.raises(DamagedStore, match="v1/rows/c/0/0: can't be read"):
        features.read()  # was there when it was opened
    with pytest.raises(DamagedStore, match=r"v1: can't be read .a file of rows is gone"):
        Store.open(url).features("rgb", "v1")
    assert store.backend.damaged_parts("features/rgb/v1") == ["rows"]
    s3.fs.rm_file(f"{url}/features/rgb/v1/rows/zarr.json")
    with pytest.raises(DamagedStore, match="v1/rows"):
        other.read()


def test_every_flipped_bit_is_refused_when_it_is_read(memory: str) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    store = Store.create(memory)
    add_stream(store, compressed=True)
    store.write_labels("train", SEGMENTS, TAXONOMY, source="test")
    store.write_targets("dense", soft_targets())
    store.write_features("rgb", "v1", ROWS, times=np.arange(9) / 3)
    read: dict[str, Callable[[], Any]] = {
        "labels/train": lambda: store.labels("train"),
        "targets/dense": lambda: store.targets("dense"),
        "features/rgb/v1": lambda: store.features("rgb", "v1").read(),
    }
    tried = 0
    for key, reading in read.items():
        for path in fs.find(f"{memory}/{key}"):
            right = fs.cat_file(path)
            for byte in (0, len(right) // 2, len(right) - 1):
                fs.pipe_file(path, right[:byte] + bytes((right[byte] ^ 8,)) + right[byte + 1 :])
                with pytest.raises(DamagedStore, match=key):
                    reading()
                tried += 1
            fs.pipe_file(path, right)
        reading()
    assert tried >= 60
    assert store.backend.damaged_parts("features/rgb/v1") == []


def test_what_an_object_claims_is_believed_only_where_its_bytes_are(memory: str) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    store = Store.create(memory)
    add_stream(store)
    store.write_features("rgb", "v1", ROWS)
    folder = f"{memory}/features/rgb/v1"

    def sealed_with(changes: dict[str, Any], files: dict[str, Any] | None = None) -> None:
        described = json.loads(fs.cat_file(f"{folder}/rows/zarr.json"))
        text = json.dumps({**described, **changes}).encode()
        fs.pipe_file(f"{folder}/rows/zarr.json", text)
        attributes = attributes_of(fs.cat_file(f"{folder}/zarr.json"))
        listed = {**attributes["files"], "rows/zarr.json": digest(text), **(files or {})}
        around = {"zarr_format": 3, "node_type": "group"}
        fs.pipe_file(f"{folder}/zarr.json", sealed({**attributes, "files": listed}, around))

    right = {path: fs.cat_file(path) for path in fs.find(folder)}
    grid = {"name": "regular", "configuration": {"chunk_shape": [10**15, 8]}}
    for changes, files in (
        ({"shape": [10**15, 8]}, None),
        ({"shape": [10**15, 8], "chunk_grid": grid}, None),
        ({"shape": [10**6]}, None),
        ({"data_type": "object"}, None),
        ({}, {"../../../../labels/zarr.json": "0" * 32}),
        ({}, {"rows/c/1/0": "0" * 32}),
    ):
        sealed_with(changes, files)
        with pytest.raises(DamagedStore, match="features/rgb/v1"):
            store.features("rgb", "v1")
        assert store.backend.damaged_parts("features/rgb/v1")
        for path, value in right.items():
            fs.pipe_file(path, value)
    assert store.features("rgb", "v1").num_rows == len(ROWS)
    for name in ("zarr.json", "rows/zarr.json"):
        fs.pipe_file(f"{folder}/{name}", bytes(17 << 20))
        with pytest.raises(DamagedStore, match=r"17825792 bytes are too many|not as it was"):
            store.features("rgb", "v1")
        fs.pipe_file(f"{folder}/{name}", right[f"{folder}/{name}".removeprefix("memory:/")])
    fs.pipe_file(f"{memory}/features/rgb/zarr.json", bytes(17 << 20))
    with pytest.raises(DamagedStore, match=r"features/rgb/zarr\.json: gone"):
        store.stream("rgb")


def test_a_unit_in_the_place_of_another_is_refused(memory: str) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    store = Store.create(memory)
    add_stream(store)
    for video in ("v1", "v2"):
        store.write_features("rgb", video, ROWS)
    fs.copy(f"{memory}/features/rgb/v1/zarr.json", f"{memory}/features/rgb/v2/zarr.json")
    with pytest.raises(DamagedStore, match=r"v2: another unit stands here.*features/rgb/v1"):
        store.features("rgb", "v2")
    assert store.backend.damaged_parts("features/rgb/v2") == ["place"]


def test_long_objects_are_compared_a_part_at_a_time(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setattr("antcache.store.remote.files.BATCH_BYTES", 1000)
    store = Store.create(memory)
    add_stream(store)
    store.write_features("rgb", "v1", np.resize(ROWS, (900, 8)))
    counted: list[int] = []
    assert store.backend.damaged_parts("features/rgb/v1", counted.append) == []
    assert sum(counted) > 900 * 16
    assert max(counted) < 2000
    path = f"{memory}/features/rgb/v1/rows/c/0/0"
    fs = fsspec.filesystem("memory")
    right = fs.cat_file(path)
    fs.pipe_file(path, right[:-1] + b"x")
    assert store.backend.damaged_parts("features/rgb/v1") == ["rows"]


def test_a_network_that_is_away_is_no_damage(
    s3: S3, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_features("rgb", "v1", ROWS)
    opened = store.features("rgb", "v1")
    away = s3.options["endpoint_url"].rpartition(":")[0] + ":9"  # nobody listens there
    options = {
        **s3.options,
        "endpoint_url": away,
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    for files in (store.backend.files, opened.rows._source._files):  # type: ignore[attr-defined]
        monkeypatch.setattr(files, "_options", options)
        monkeypatch.setattr(files, "_connected", None)
    asked: list[Callable[[], Any]] = [
        partial(store.backend.damaged_parts, "features/rgb/v1"),
        partial(store.backend.group_damaged, "features"),
        partial(store.backend.has, "features/rgb/v1"),
        partial(store.videos, "rgb"),
        partial(store.features, "rgb", "v1"),
        opened.read,
    ]
    for ask in asked:
        with pytest.raises(Unreachable, match=r"can't be reached .*Could not connect"):
            ask()
    assert not issubclass(Unreachable, OSError)  # what readers of files take for damage
    with pytest.raises(WriteFailed, match="Could not connect"):
        store.backend.publish("features/rgb/v3", {"rows": ROWS}, {}, overwrite=True)


# Errors
