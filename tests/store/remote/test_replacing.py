"""Writers that are killed, or cut off, while they write or replace something at a URL."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from bucket import ROWS, S3, fill, killed_at
from test_contract import apart

from antcache.annotations import Segments, Taxonomy
from antcache.errors import (
    FingerprintMismatch,
    MissingKey,
    Unreachable,
    WriteFailed,
)
from antcache.store import Store
from antcache.store.remote.backend import RemoteZarrBackend
from antcache.store.remote.claim import Claim
from antcache.store.remote.files import RemoteFiles
from antcache.store.remote.writer import UnitWriter
from antcache.testing import SEGMENTS, TAXONOMY, add_stream, soft_targets


@pytest.mark.parametrize(
    ("owner", "method"),
    [(RemoteFiles, "read_many"), (UnitWriter, "_show"), (UnitWriter, "publish")],
    ids=["data sent", "data checked", "claimed"],
)
def test_a_killed_writer_is_seen_by_nobody_and_run_again(
    s3: S3, store: Store, url: str, owner: type, method: str
) -> None:
    write = partial(store.write_features, "rgb", "v1")
    killed_at(owner, method, partial(write, np.ones((50, 8), np.float16)))
    assert [n for n in s3.objects(url) if n.endswith("v1.claim")]  # it had no time to clear up
    assert store.videos("rgb") == []
    with pytest.raises(MissingKey, match="features/rgb/v1"):
        store.features("rgb", "v1")
    assert store.backend.damaged_parts("features/rgb/v1") == ["metadata"]
    write(ROWS)  # its process is gone, so nobody waits for it
    np.testing.assert_array_equal(Store.open(url).features("rgb", "v1").read(), ROWS)
    assert not [name for name in s3.objects(url) if name.startswith(".staging")]


def test_leftovers_of_another_shape_do_not_stay(s3: S3, store: Store, url: str) -> None:
    s3.fs.pipe_file(f"{url}/features/rgb/v1/times/zarr.json", b"{}")
    store.write_features("rgb", "v1", ROWS)
    assert "features/rgb/v1/times/zarr.json" not in s3.objects(url)
    assert store.backend.damaged_parts("features/rgb/v1") == []


def test_sweep_removes_what_killed_writers_left_and_nothing_else(
    s3: S3, store: Store, url: str
) -> None:
    store.write_features("rgb", "v1", ROWS)
    before = s3.objects(url)
    killed_at(UnitWriter, "_show", partial(store.write_features, "rgb", "v9", ROWS))
    alive = Claim(RemoteFiles(url), "features/rgb/v8")  # of a process that runs
    alive.take()
    s3.fs.pipe_file(f"{url}/features/rgb/v8/rows/c/0/0", b"on its way")
    store.backend.remove_leftovers()
    left = s3.objects(url)
    assert {n for n in left.keys() - before.keys() if "v8" not in n} == set()
    assert len(left.keys() - before.keys()) == 2
    assert {name: left[name] for name in before} == before


@pytest.mark.parametrize("moment", ["upload", "switch"])
def test_overwriting_never_shows_a_mix(s3: S3, url: str, moment: str) -> None:
    store = Store.create(url)
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    store.write_targets("t", soft_targets())
    old = s3.objects(url)
    new = soft_targets(again=True)
    new.logits[:] += 1
    write = partial(store.write_targets, "t", new, overwrite=True)
    killed_at(RemoteFiles, "write_many" if moment == "upload" else "copy_many", write)
    if moment == "upload":  # the old ones are as they were
        assert store.backend.damaged_parts("targets/t") == []
        now = {n: v for n, v in s3.objects(url).items() if not n.startswith(".staging")}
        assert now == old
    else:
        assert store.target_names() == []
        assert store.backend.damaged_parts("targets/t") == ["metadata"]
    write()
    assert store.targets("t").attributes["again"]
    np.testing.assert_array_equal(store.targets("t").logits, new.logits)
    assert s3.objects(url).keys() == old.keys()


def test_splits_that_are_replaced_are_never_mixed(s3: S3, url: str) -> None:
    """Killed while the new ones are sent, the old ones are there; killed in the switch, some are
    missing, and the same call brings them."""
    turned = {name: SEGMENTS.arrays()[name][::-1] for name in ("verb", "noun", "action")}
    other = Segments(**{**SEGMENTS.arrays(), **turned})
    names = ("train", "validation")
    old, new = (apart(each, *names) for each in (SEGMENTS, other))
    store = Store.create(url)
    write = partial(store.write_splits, taxonomy=TAXONOMY, source="a test", overwrite=True)
    write(old)
    before = s3.objects(url)
    write(new)
    wanted = s3.objects(url)
    assert all(store.labels(name).noun.tolist() == other.noun.tolist() for name in names)
    seen = set()
    for owner, method, after in (
        (UnitWriter, "hide", 0),
        (UnitWriter, "hide", 1),
        (UnitWriter, "place", 0),
        (UnitWriter, "place", 1),
        (UnitWriter, "_show", 1),
    ):
        for name, value in before.items():  # as they were, without all of the requests
            s3.put(f"{url}/{name}", value)
        killed_at(owner, method, partial(write, new), after=after)
        again = Store.open(url)
        found = {split: again.labels(split).noun.tolist() for split in again.splits()}
        assert len(set(map(tuple, found.values()))) <= 1
        seen.add((len(found), next(iter(found.values()), None) == other.noun.tolist()))
        write(new)
        assert s3.objects(url) == wanted
    assert seen == {(2, False), (1, False), (0, False), (1, True)}


def test_soft_targets_of_classes_that_are_replaced_meanwhile_are_taken_back(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody is refused for an import, or other soft targets, that are under way."""
    store, publish = Store.create(memory), RemoteZarrBackend.publish
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    other = Taxonomy.from_dict({**TAXONOMY.to_dict(), "verbs": ["grab", "put"]})

    def late(backend: RemoteZarrBackend, key: str, *args: Any, **options: Any) -> None:
        if key == "targets/t":
            again = Store.open(memory)
            again.write_labels("train", SEGMENTS, other, source="a test", overwrite=True)
        publish(backend, key, *args, **options)

    with store.backend.exclusively("labels"):
        store.write_targets("s", soft_targets())
    store.remove("targets/s")
    monkeypatch.setattr(RemoteZarrBackend, "publish", late)
    with pytest.raises(FingerprintMismatch, match="soft targets for another taxonomy"):
        store.write_targets("t", soft_targets())
    assert store.target_names() == []


def test_a_killed_import_of_labels_goes_on(s3: S3, url: str) -> None:
    for method, after in (("_show", 0), ("_show", 1)):
        place = f"{url}/{method}{after}"

        def work(place: str = place) -> None:
            store = Store.open_or_create(place, dataset="toy")
            labels = apart(SEGMENTS, "train", "validation")
            store.write_splits(labels, TAXONOMY, source="a test")

        killed_at(UnitWriter, method, work, after=after)
        work()
        assert Store.open(place).splits() == ["train", "validation"]
        assert not [name for name in s3.objects(place) if name.startswith(".staging")]


def test_a_network_that_fails_while_splits_are_replaced_leaves_the_old_ones(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(memory)
    splits = apart(SEGMENTS, "train", "validation")
    store.write_splits(splits, TAXONOMY, source="a test")
    before = store.backend.files.sizes()
    write_many, sent = RemoteFiles.write_many, []

    def away(self: RemoteFiles, files: dict[str, bytes]) -> None:
        sent.append(files)
        if len(sent) > 1:
            raise Unreachable("the cable is out", "s3://x")
        write_many(self, files)

    monkeypatch.setattr(RemoteFiles, "write_many", away)
    with pytest.raises(WriteFailed, match="the cable is out"):
        store.write_splits(splits, TAXONOMY, source="another", overwrite=True)
    monkeypatch.undo()
    assert store.backend.files.sizes() == before
    assert store.backend.open("labels/train")[1]["source"] == "a test"


def test_a_server_that_copies_nothing_gets_what_is_staged_once_more(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(memory)
    add_stream(store)
    fill(store)

    def copies_nothing(*args: Any, **options: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cp_file", copies_nothing)
    new = soft_targets(again=True)
    new.logits[:] += 1
    store.write_targets("t", new, overwrite=True)
    np.testing.assert_array_equal(store.targets("t").logits, new.logits)
    assert not [name for name in store.backend.files.sizes() if name.startswith(".staging")]


def test_a_network_that_fails_while_overwriting_leaves_the_old_ones(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(memory)
    add_stream(store)
    fill(store)

    def away(*args: Any) -> None:
        raise Unreachable("the cable is out", "s3://x")

    monkeypatch.setattr(RemoteFiles, "write_many", away)
    with pytest.raises(WriteFailed, match=r"targets/t: can't be written \(the cable is out\)"):
        store.write_targets("t", soft_targets(again=True), overwrite=True)
    monkeypatch.undo()
    assert store.backend.damaged_parts("targets/t") == []
    assert "again" not in store.targets("t").attributes


# Two writers
