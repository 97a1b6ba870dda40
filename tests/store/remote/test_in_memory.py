"""Promises of stores at a URL that need no server, each seen at the moment that matters."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import fsspec
import numpy as np
import pytest

from antcache.errors import AlreadyExists, NotAStore
from antcache.store import Store
from antcache.store.backends import format_of
from antcache.store.integrity.convert import ConvertConfig, convert
from antcache.store.integrity.verify import verify
from antcache.store.remote.claim import CLAIM, Claim, in_staging
from antcache.store.remote.files import RemoteFiles
from antcache.testing import SEGMENTS, TAXONOMY, add_stream, soft_targets
from antcache.testing.token_contract import add_tokens, token_rows

ROWS = np.arange(24, dtype=np.float16).reshape(3, 8)
UNIT = "features/rgb/v1"


@pytest.fixture
def url() -> Iterator[str]:
    yield f"memory://{uuid.uuid4().hex}/toy.zarr"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def store(url: str) -> Store:
    store = Store.create(url)
    add_stream(store)
    return store


def test_what_lies_in_a_store_is_none(store: Store, url: str) -> None:
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    store.write_features("rgb", "v1", ROWS)
    assert Store.open(url).videos("rgb") == ["v1"]
    for inside in ("features", "features/rgb", UNIT, f"{UNIT}/rows", "labels", "labels/train"):
        with pytest.raises(NotAStore, match=f"{url}/{inside}"):
            Store.open(f"{url}/{inside}")


def test_only_units_are_units(store: Store) -> None:
    """All of these have a `zarr.json`."""
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    store.write_features("rgb", "v1", ROWS)
    store.write_targets("t", soft_targets())
    has = store.backend.has
    assert has(UNIT)
    assert has("labels/train")
    assert has("targets/t")
    for key in ("", "features", "features/rgb", f"{UNIT}/rows", "labels", "labels/train/uid"):
        assert store.backend.files.is_file(f"{key}/zarr.json".lstrip("/"))
        assert not has(key)


def test_a_claim_of_the_dead_is_taken_over_and_one_of_nobody_is_not(url: str) -> None:
    """Only where somebody died may things be left behind."""
    files = RemoteFiles(url)
    first = Claim(files, UNIT)
    first.take()
    assert not first.taken_over
    with pytest.raises(AlreadyExists, match="another process is writing it"):
        Claim(files, UNIT).take()
    name = in_staging(UNIT, CLAIM)
    holder = json.loads(files.read(name))
    files.write_many({name: json.dumps({**holder, "started": "before"}).encode()})
    second = Claim(files, UNIT)
    second.take()
    assert second.taken_over
    assert (first.ours(), second.ours()) == (False, True)
    second.release()
    third = Claim(files, UNIT)
    third.take()
    assert not third.taken_over


def test_who_creates_an_object_second_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first comes between the look and the writing of the second."""
    files = RemoteFiles(url)
    files.create("a/b", b"first")
    monkeypatch.setattr(RemoteFiles, "is_file", lambda *_: False)
    with pytest.raises(FileExistsError):
        files.create("a/b", b"second")
    assert files.read("a/b") == b"first"
    files.create("a/b", b"first")  # the same again: an answer was lost


@pytest.mark.parametrize("replaces", [False, True])
def test_who_lost_the_claim_while_sending_shows_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    """Taken for dead with the data on their way: the unit is another's from then on."""
    write = RemoteFiles.write_many
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    if replaces:
        store.write_targets("t", soft_targets())
    text = store.backend.files.read("targets/t/zarr.json") if replaces else None
    name = in_staging("targets/t", CLAIM)

    def overtaken(files: RemoteFiles, values: Mapping[str, bytes]) -> None:
        write(files, values)
        if any("targets" in each for each in values):
            write(files, {name: b"another's"})

    monkeypatch.setattr(RemoteFiles, "write_many", overtaken)
    with pytest.raises(AlreadyExists, match="another process is writing it"):
        store.write_targets("t", soft_targets(again=True), overwrite=replaces)
    monkeypatch.undo()
    assert store.target_names() == (["t"] if replaces else [])
    if replaces:
        assert store.backend.files.read("targets/t/zarr.json") == text
        assert store.backend.damaged_parts("targets/t") == []


def test_tokens_are_converted_to_a_url_and_back(url: str, tmp_path: Path) -> None:
    source = Store.create(tmp_path / "source")
    add_tokens(source)
    source.write_features("tokens", "v1", token_rows(9))
    config = ConvertConfig(tokens=(1, 1, 3), dtype="int8", compressed=True)
    convert(source, url, config)
    there = Store.open(url)
    assert format_of(there.backend.group_attributes("")) == 2
    assert there.stream("tokens").num_tokens == 9
    convert(there, tmp_path / "back", ConvertConfig(backend="hdf5"))
    convert(source, tmp_path / "here", config)
    wanted = Store.open(tmp_path / "here").features("tokens", "v1").read()
    assert wanted.shape == (9, 9, 4)
    for store in (there, Store.open(tmp_path / "back")):
        np.testing.assert_array_equal(store.features("tokens", "v1").read(), wanted)
        assert verify(store).intact
