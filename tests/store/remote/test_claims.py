"""Of several processes at a URL one writes a unit, and the others are told."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from bucket import ROWS, S3, claim_of_another_machine, in_child

from antcache.errors import (
    AlreadyExists,
    FingerprintMismatch,
)
from antcache.store import Store
from antcache.store.remote.claim import Claim
from antcache.store.remote.files import RemoteFiles
from antcache.testing import add_stream


def test_of_two_processes_one_wins_each_video(store: Store) -> None:
    def write(value: int) -> int:
        lost = 0
        for video in "abcdefgh":
            try:
                store.write_features("rgb", video, np.full((70_000, 8), value, np.float16))
            except AlreadyExists:
                lost += 1
        return lost

    with ThreadPoolExecutor(2) as pool:
        lost = list(pool.map(in_child, [partial(write, 1), partial(write, 2)]))
    assert 8 <= sum(lost) <= 16, lost
    for video in store.videos("rgb"):
        assert store.backend.damaged_parts(f"features/rgb/{video}") == []
        assert len(np.unique(store.features("rgb", video).read())) == 1
    assert len(store.videos("rgb")) == 16 - sum(lost)


def test_a_claim_is_void_by_the_clock_of_the_server(s3: S3, store: Store, url: str) -> None:
    name = claim_of_another_machine(s3, url, "v1")
    s3.age(url, name, 500)
    with pytest.raises(AlreadyExists, match=r"found process 1 on elsewhere \(let it finish"):
        store.write_features("rgb", "v1", ROWS)
    s3.age(url, name, 200)
    store.write_features("rgb", "v1", ROWS)
    assert store.videos("rgb") == ["v1"]
    assert not [name for name in s3.objects(url) if name.startswith(".staging")]


def test_who_was_taken_for_dead_publishes_nothing(
    s3: S3, store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer sleeps between its data and its `zarr.json`; another one writes the video."""
    write = partial(store.write_features, "rgb", "v1")
    renew = Claim.renew

    def sleeping(claim: Claim) -> None:
        monkeypatch.setattr(Claim, "renew", renew)
        (name,) = (n for n in s3.objects(url) if n.endswith("v1.claim"))
        found = json.loads(s3.fs.cat_file(f"{url}/{name}"))
        # As from another machine: on this one it would be seen that its process lives.
        claim._text = json.dumps({**found, "machine": "another"}).encode()
        s3.fs.pipe_file(f"{url}/{name}", claim._text)
        s3.age(url, name, 700)
        assert in_child(partial(write, np.full((9, 8), 7, np.float16))) == 0
        claim.renew()

    monkeypatch.setattr(Claim, "renew", sleeping)
    with pytest.raises(AlreadyExists, match="another process is writing it"):
        write(ROWS)
    np.testing.assert_array_equal(store.features("rgb", "v1").read(), 7)
    assert store.backend.damaged_parts("features/rgb/v1") == []


def test_a_claim_changes_hands_once(url: str) -> None:
    files = RemoteFiles(url)
    files.create("claim", b"old")
    assert not files.replace("claim", b"new", was=b"other")
    assert files.replace("claim", b"new", was=b"old")
    assert not files.replace("claim", b"newer", was=b"old")
    files.create("claim", b"new")  # the same again: an answer was lost
    with pytest.raises(FileExistsError):
        files.create("claim", b"newest")
    assert files.read("claim") == b"new"
    files.delete("claim")
    assert not files.replace("claim", b"new", was=b"new")


def test_the_server_itself_refuses_a_second_creator_and_a_late_replacer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look first; the change comes between the look and the write."""
    files = RemoteFiles(url)
    files.write_many({"claim": b"old"})
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFiles, "is_file", None)  # it needn't be asked
        with pytest.raises(FileExistsError):
            files.create("claim", b"new")
    fs = files._connect()[0]
    cat = fs.cat_file

    def late(path: str) -> bytes:
        found = bytes(cat(path))
        monkeypatch.undo()
        fs.pipe_file(path, b"another's")
        return found

    monkeypatch.setattr(fs, "cat_file", late)
    assert not files.replace("claim", b"new", was=b"old")
    assert files.read("claim") == b"another's"


def test_where_nothing_is_created_on_condition_the_one_that_lost_is_told(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process writes its settings over ours, which it did not see: ours are not taken for
    those of the stream."""
    store = Store.create(memory)
    other = {"dim": 8, "dtype": "float16", "fps": 2.0, "source": "test", "config": {"a": None}}
    another = Store.create(f"memory://{uuid.uuid4().hex}/theirs.zarr")
    another.create_stream("rgb", **other)  # type: ignore[arg-type]
    theirs = another.backend.files.read("features/rgb/zarr.json")
    create = RemoteFiles.create

    def overtaken(self: RemoteFiles, name: str, value: bytes) -> None:
        create(self, name, value)
        self.write_many({name: theirs})

    monkeypatch.setattr(RemoteFiles, "create", overtaken)
    with pytest.raises(FingerprintMismatch, match=r"fps: 2\.0 -> 4\.0"):
        add_stream(store, fps=4.0)
    monkeypatch.undo()
    assert store.stream("rgb").fps == 2.0


# Damage
