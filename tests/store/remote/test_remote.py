"""Stores at a URL: the contract against a real S3 server, and what only a network can do wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from remote_videos import Videos
from test_contract import PlaceContract, apart

from antcache.annotations import Segments, Taxonomy
from antcache.cli.main import cli
from antcache.errors import (
    AlreadyExists,
    BadConfig,
    DamagedStore,
    FingerprintMismatch,
    MissingExtra,
    MissingKey,
    NotAStore,
    NotFound,
    Unreachable,
    WriteFailed,
)
from antcache.store import Store
from antcache.store.format import digest
from antcache.store.integrity.info import describe
from antcache.store.location import beside, parse_location
from antcache.store.remote.backend import RemoteZarrBackend
from antcache.store.remote.claim import Claim
from antcache.store.remote.files import RemoteFiles, batches
from antcache.store.remote.writer import UnitWriter
from antcache.store.seal import attributes_of, sealed
from antcache.testing import SEGMENTS, TAXONOMY, add_stream, soft_targets

BUCKET = "kitchen"
ROWS = np.random.default_rng(5).normal(size=(9, 8)).astype(np.float16)


class S3:
    """The server, seen without antcache; its options are fsspec's, here and in child processes."""

    def __init__(self, options: dict[str, Any]) -> None:
        import s3fs

        self.options = options
        self.fs = s3fs.S3FileSystem(use_listings_cache=False, **options)

    def objects(self, url: str) -> dict[str, bytes]:
        """All objects below a URL, by their names relative to it."""
        start = f"{url.removeprefix('s3://')}/"
        return {n.removeprefix(start): self.fs.cat_file(n) for n in self.fs.find(start)}

    def age(self, url: str, name: str, seconds: float) -> None:
        """Let an object be older by the server's clock."""
        from moto.s3.models import s3_backends

        key = f"{url.removeprefix(f's3://{BUCKET}/')}/{name}"
        found = s3_backends["123456789012"]["aws"].buckets[BUCKET].keys[key]
        found.last_modified -= timedelta(seconds=seconds)


def in_child(action: Callable[[], Any]) -> int:
    """Call `action` in a forked process: the number of its signal, negative, or its result."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = action() or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(owner: type, name: str, action: Callable[[], Any], *, after: int = 0) -> None:
    """Call `action` in a process that is killed once it comes to the method `name`, `after` so
    many calls of it."""

    def killed() -> None:
        method, calls = getattr(owner, name), []

        def called(*args: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) > after:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*args, **options)

        setattr(owner, name, called)
        action()

    assert in_child(killed) == -signal.SIGKILL


@pytest.fixture
def s3(s3_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> S3:
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", s3_options)
    for name, value in s3_options.items():
        monkeypatch.setenv(f"FSSPEC_S3_{name.upper()}", value)
    return S3(s3_options)


@pytest.fixture
def url(s3: S3) -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/toy.zarr"


@pytest.fixture
def store(url: str) -> Store:
    store = Store.create(url)
    add_stream(store)
    return store


@pytest.fixture
def memory() -> Iterator[str]:
    import fsspec

    yield f"memory://{uuid.uuid4().hex}/toy.zarr"
    fsspec.filesystem("memory").store.clear()


class RemoteContract(PlaceContract):
    backend, suffix = "zarr", ".zarr"
    hashed = 2  # what is read back is compared with what was sent

    def once_written(self, store: Store, patch: pytest.MonkeyPatch, then: Any) -> None:
        show = UnitWriter._show

        def showing(*args: Any) -> None:
            patch.setattr(UnitWriter, "_show", show)
            then()
            show(*args)

        patch.setattr(UnitWriter, "_show", showing)

    def write_wrong(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        write = RemoteFiles.write_many

        def corrupting(files: RemoteFiles, values: dict[str, bytes]) -> None:
            write(files, {n: v[:-1] + bytes((v[-1] ^ 1,)) for n, v in values.items()})

        patch.setattr(RemoteFiles, "write_many", corrupting)

    def test_a_rename_race_is_lost_politely(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There is no rename: who is at it goes on, and the other is refused."""
        said = []

        def other() -> None:
            with pytest.raises(AlreadyExists, match="another process is writing it") as error:
                store.write_features("rgb", "v1", np.full((2, 8), 7, np.float16))
            said.append(str(error.value))

        self.once_written(store, monkeypatch, other)
        store.write_features("rgb", "v1", ROWS)
        assert f"process {os.getpid()} on {socket.gethostname()}" in said[0]
        np.testing.assert_array_equal(store.features("rgb", "v1").read(), ROWS)


class TestMemory(RemoteContract):
    """The quick one: every test of the contract but those that need a second process."""

    @pytest.fixture
    def path(self, memory: str) -> str:  # type: ignore[override]
        return memory

    def listing(self, path: Any) -> set[str]:
        return set(RemoteFiles(str(path)).sizes())

    def move(self, path: Any, name: str) -> Any:
        import fsspec

        there = f"{path.rpartition('/')[0]}/{name}"
        fsspec.filesystem("memory").mv(path, there, recursive=True)
        return there

    def read_plain(self, path: Any, key: str, name: str) -> np.ndarray[Any, Any]:
        array = zarr.open_group(path, mode="r")[f"{key}/{name}"]
        assert isinstance(array, zarr.Array)
        return np.asarray(array[...])

    test_a_killed_writer_leaves_nothing_visible = None  # type: ignore[assignment]


class TestS3(RemoteContract):
    dies_before_publishing = (
        "from antcache.store.remote.writer import UnitWriter\n"
        "UnitWriter._show = lambda *a: os.kill(os.getpid(), 9)"
    )

    @pytest.fixture
    def path(self, url: str) -> str:  # type: ignore[override]
        return url

    def listing(self, path: Any) -> set[str]:
        return set(RemoteFiles(str(path)).sizes())

    def move(self, path: Any, name: str) -> Any:
        import fsspec

        fs, there = fsspec.filesystem("s3"), f"{path.rpartition('/')[0]}/{name}"
        for old in self.listing(path):
            fs.mv(f"{path}/{old}", f"{there}/{old}")
        return there

    def read_plain(self, path: Any, key: str, name: str) -> np.ndarray[Any, Any]:
        array = zarr.open_group(path, mode="r")[f"{key}/{name}"]
        assert isinstance(array, zarr.Array)
        return np.asarray(array[...])

    # Nothing in these is about the network, and requests take their time.
    test_rows_are_those_seen_at_or_before = None  # type: ignore[assignment]
    test_settings_of_a_stream_can_not_be_mixed = None  # type: ignore[assignment]
    test_another_dataset_or_taxonomy_is_refused = None  # type: ignore[assignment]
    test_labels_written_again_bring_their_many_shot_lists = None  # type: ignore[assignment]
    test_missing_things_are_named_with_what_is_there = None  # type: ignore[assignment]

    def test_plain_zarr_walks_the_whole_hierarchy(self, store: Store, path: str) -> None:
        fill(store)
        members = dict(zarr.open_group(path, mode="r").members(max_depth=None))
        assert {"features/rgb/v1/rows", "labels/train/uid", "targets/t/logits"} <= members.keys()


def fill(store: Store) -> None:
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    store.write_features("rgb", "v1", ROWS, start_s=0.5)
    store.write_features("rgb", "v2", ROWS * 2, times=np.arange(9) ** 2.0)
    store.write_targets("t", soft_targets())


def units(store: Store) -> list[str]:
    return ["labels/train", "features/rgb/v1", "features/rgb/v2", "targets/t"]


def test_the_same_bytes_lie_on_a_disk_and_in_a_bucket(
    s3: S3, store: Store, url: str, tmp_path: Path
) -> None:
    local = Store.create(tmp_path / "toy.zarr")
    add_stream(local)
    for each in (store, local):
        fill(each)
    files = {
        str(p.relative_to(local.path)): p.read_bytes()
        for p in Path(local.path).rglob("*")
        if p.is_file()
    }
    assert s3.objects(url) == files
    # So any tool may carry a store from one to the other.
    there = f"{url}.copy"
    s3.fs.put(f"{local.path}/", f"{there}/", recursive=True)
    s3.fs.get(url, str(tmp_path / "back.zarr"), recursive=True)
    for place in (there, tmp_path / "back.zarr"):
        copy = Store.open(place)
        np.testing.assert_array_equal(copy.features("rgb", "v1").read(), ROWS)
        assert {k: v for k, v in describe(copy).items() if k != "path"} == {
            k: v for k, v in describe(local).items() if k != "path"
        }
        assert [copy.backend.damaged_parts(key) for key in units(copy)] == [[]] * 4


def test_compressed_streams_read_the_same(store: Store, url: str) -> None:
    settings = {"dtype": "float16", "fps": 4.0, "source": "test", "config": {}}
    store.create_stream("flow", dim=8, compressed=True, **settings)  # type: ignore[arg-type]
    store.write_features("flow", "v1", ROWS)
    picked = np.array([[8, 0], [3, 3]])
    np.testing.assert_array_equal(Store.open(url).features("flow", "v1").read(picked), ROWS[picked])


def test_options_may_be_given_instead_of_configured(
    s3_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    made = Store.open_or_create(url, dataset="toy", storage_options=s3_options)
    add_stream(made)
    made.write_features("rgb", "v1", ROWS)
    again = Store.open(f"{url}/", storage_options=s3_options)
    np.testing.assert_array_equal(again.features("rgb", "v1").read(), ROWS)
    with pytest.raises(BadConfig, match="for stores at a URL"):
        Store.create(tmp_path / "x", storage_options=s3_options)
    with pytest.raises(BadConfig, match="a Zarr store"):
        Store.create(f"{url}.h5", storage_options=s3_options)


# Half-published units


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
    seen = set()
    for owner, method, after in (
        (UnitWriter, "hide", 0),
        (UnitWriter, "hide", 1),
        (RemoteZarrBackend, "set_group_attributes", 0),
        (UnitWriter, "place", 0),
        (UnitWriter, "place", 1),
        (UnitWriter, "_show", 1),
    ):
        killed_at(owner, method, partial(write, new), after=after)
        again = Store.open(url)
        found = {split: again.labels(split).noun.tolist() for split in again.splits()}
        assert len(set(map(tuple, found.values()))) <= 1
        seen.add((len(found), next(iter(found.values()), None) == other.noun.tolist()))
        write(new)
        assert all(again.labels(name).noun.tolist() == other.noun.tolist() for name in names)
        assert not [name for name in s3.objects(url) if name.startswith(".staging")]
        write(old)
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


def claim_of_another_machine(s3: S3, url: str, video: str) -> str:
    """A claim whose holder can't be asked."""
    name = f".staging/features,rgb,{video}.claim"
    holder = {"owner": "x", "host": "elsewhere", "machine": "y", "pid": 1, "started": "2"}
    s3.fs.pipe_file(f"{url}/{name}", json.dumps(holder).encode())
    return name


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
    assert tried == 30
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


@pytest.mark.parametrize("kind", ["refused", "no bucket", "nothing", "no credentials"])
def test_where_no_store_can_be_is_said_in_one_line(
    s3: S3, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from fsspec.config import conf

    url, error, text = f"s3://{BUCKET}/nothing.zarr", NotFound, "no store here"
    if kind == "no bucket":
        url = "s3://nobody-has-this/x.zarr"
    elif kind == "refused":
        error, text = Unreachable, "Could not connect"  # type: ignore[assignment]
        monkeypatch.setitem(conf, "s3", {**s3.options, "endpoint_url": "http://127.0.0.1:9"})
    elif kind == "no credentials":
        error, text = Unreachable, "Unable to locate credentials"  # type: ignore[assignment]
        monkeypatch.setitem(conf, "s3", {"endpoint_url": s3.options["endpoint_url"]})
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(cli, ["store", "info", url])
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert f"Error: {url}" in line
    assert text in line
    if kind != "refused":  # which takes a second each time
        with pytest.raises(error, match=text):
            Store.open(url)
    if kind == "no bucket":
        with pytest.raises(WriteFailed, match="bucket does not exist"):
            Store.create(url)


@pytest.mark.parametrize("kind", ["file", "folder", "other zarr", "later format", "damaged root"])
def test_what_is_no_store_is_refused(memory: str, kind: str) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    error: type[Exception] = NotAStore
    if kind == "file":
        fs.pipe_file(memory, b"hello")
    elif kind == "folder":
        fs.pipe_file(f"{memory}/notes.txt", b"hello")
    elif kind == "other zarr":
        zarr.open_group(memory, mode="w")
    else:
        backend = Store.create(memory).backend
        backend.set_group_attributes("", {"antcache": {"format": 9}, "labels": 1})
        if kind == "damaged root":
            text = fs.cat_file(f"{memory}/zarr.json")
            fs.pipe_file(f"{memory}/zarr.json", text.replace(b"labels", b"Labels"))
            error = DamagedStore
    before = fs.find("/", detail=False)
    for opening in (Store.open, Store.open_or_create):
        with pytest.raises(error, match=memory):
            opening(memory)
    with pytest.raises(AlreadyExists, match=memory):
        Store.create(memory)
    assert fs.find("/", detail=False) == before


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)  # type: ignore[arg-type]
    with pytest.raises(MissingExtra, match=r"'s3fs' is not installed .*antcache\[remote\]"):
        Store.open("s3://bucket/x.zarr")
    with pytest.raises(BadConfig, match="Protocol not known: nosuch"):
        Store.open("nosuch://bucket/x.zarr")
    for name in ("fsspec", "fsspec.config", "fsspec.core"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(MissingExtra, match="'fsspec' is not installed"):
        Store.open("memory://x.zarr")


def test_a_user_who_configured_retries_keeps_them(s3: S3) -> None:
    ours = RemoteFiles("s3://kitchen/x")
    assert not ours.is_file("y")
    assert ours._connect()[0] is RemoteFiles("s3://kitchen/z")._connect()[0]  # one for all stores
    assert ours._connect()[0].retries == 2
    theirs = {**s3.options, "config_kwargs": {"read_timeout": 99}}
    assert RemoteFiles("s3://kitchen/x", theirs)._connect()[0].config_kwargs == {"read_timeout": 99}


@pytest.mark.parametrize(
    ("text", "place", "log"),
    [
        ("s3://b/toy.zarr/", "s3://b/toy.zarr", "toy.zarr.log"),
        ("memory://", "memory://", ".log"),
        ("toy.zarr", Path("toy.zarr"), None),
        ("file:///a/toy.zarr", Path("/a/toy.zarr"), "/a/toy.zarr.log"),
        ("local:///a/toy.zarr", Path("/a/toy.zarr"), "/a/toy.zarr.log"),
    ],
)
def test_a_text_is_a_path_or_a_url(text: str, place: Path | str, log: str | None) -> None:
    assert parse_location(text) == place
    assert beside(place, ".log") == (Path(log) if log else Path.cwd() / "toy.zarr.log")


# The rest


def test_filesystems_with_folders_and_batches_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fsspec writes into a local folder is a local store."""
    monkeypatch.setattr("antcache.store.remote.files.BATCH_FILES", 2)
    sizes = {"a": 1, "b": 40 << 20, "c": 1, "d": 1, "e": 1}
    assert list(batches(sizes)) == [["a"], ["b"], ["c", "d"], ["e"]]
    backend = RemoteZarrBackend(f"file://{tmp_path}/deep/toy.zarr")
    Store.create(tmp_path / "toy.zarr")
    text = (tmp_path / "toy.zarr/zarr.json").read_bytes()
    backend.set_group_text("", text)
    remote = Store(backend)
    add_stream(remote)
    fill(remote)
    remote.write_targets("t", soft_targets(again=True), overwrite=True)
    local = Store.open(tmp_path / "deep/toy.zarr")
    assert [local.backend.damaged_parts(key) for key in units(local)] == [[]] * 4
    np.testing.assert_array_equal(local.features("rgb", "v1").read(), ROWS)
    remote.remove("features/rgb/v1")
    assert remote.videos("rgb") == ["v2"]


@pytest.mark.parametrize("how", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_data_loader_read(store: Store, how: str) -> None:
    from torch.utils.data import DataLoader

    for number in range(4):
        store.write_features("rgb", f"v{number}", ROWS + number)
    features = [store.features("rgb", video) for video in store.videos("rgb")]
    for each in features[:2]:
        each.read()  # connections that no child may use
    loader = DataLoader(Videos(features), num_workers=1, multiprocessing_context=how, timeout=60)  # type: ignore[arg-type,var-annotated]
    for number, rows in enumerate(loader):
        np.testing.assert_array_equal(rows[0], (ROWS + number)[[8, 0]])
    np.testing.assert_array_equal(features[0].read(), ROWS)


def test_the_commands_take_urls(store: Store, url: str, repo: Path) -> None:
    fill(store)
    result = CliRunner().invoke(cli, ["store", "info", "--json", url], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert (found["path"], found["backend"], found["dataset"]) == (url, "zarr", "toy")
    assert found["labels"]["train"] == {"segments": 3, "videos": 2}
    assert found["features"]["rgb"]["rows"] == 18
    assert found["targets"]["t"]["valid"] == 2
    args = ["evaluate", url, "--targets", "t", "--split", "train", "--json"]
    result = CliRunner().invoke(cli, args, catch_exceptions=False)
    assert json.loads(result.stdout)[0]["name"] == "targets/t", result.stdout
