"""Stores at a URL: the contract against a real S3 server, places and commands."""

from __future__ import annotations

import json
import os
import socket
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_contract
import zarr
from bucket import BUCKET, ROWS, S3, fill, units
from click.testing import CliRunner
from remote_videos import Videos
from test_contract import PlaceContract

from antcache.cli.main import cli
from antcache.errors import (
    AlreadyExists,
    BadConfig,
    DamagedStore,
    MissingExtra,
    NotAStore,
    NotFound,
    Unreachable,
    WriteFailed,
)
from antcache.store import Store
from antcache.store.integrity.info import describe
from antcache.store.location import beside, parse_location
from antcache.store.remote.backend import RemoteZarrBackend
from antcache.store.remote.files import RemoteFiles, batches
from antcache.store.remote.writer import UnitWriter
from antcache.testing import add_stream, contract, soft_targets


class RemoteContract(PlaceContract):
    backend, suffix = "zarr", ".zarr"

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


IN_URLS = ("--help", "~home", "Fire Kitchen (1)", "Pasta & more! [dQw4w9WgXcQ]", "it's = @ 5+5")
IN_URLS += ("cr\u00eape", "\u53a8\u623f01", "x" * 200)
"""Names of videos that requests write otherwise, or that are long."""


class TestS3(RemoteContract):
    dies_before_publishing = (
        "from antcache.store.remote.writer import UnitWriter\n"
        "UnitWriter._show = lambda *a: os.kill(os.getpid(), 9)"
    )

    @pytest.fixture(autouse=True)
    def _names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert set(IN_URLS) < set(contract.VIDEO_NAMES)
        for module in (contract, test_contract):
            monkeypatch.setattr(module, "VIDEO_NAMES", IN_URLS)

    @pytest.fixture
    def path(self, url: str) -> str:  # type: ignore[override]
        return url

    @pytest.fixture
    def store(self, s3: S3, url: str) -> Store:  # type: ignore[override]
        return s3.store(url, "a stream", lambda url: add_stream(Store.create(url)))

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
    test_no_video_is_called_so = None  # type: ignore[assignment]
    test_tokens_come_back = None  # type: ignore[assignment]

    def test_plain_zarr_walks_the_whole_hierarchy(self, store: Store, path: str) -> None:
        fill(store)
        members = dict(zarr.open_group(path, mode="r").members(max_depth=None))
        assert {"features/rgb/v1/rows", "labels/train/uid", "targets/t/logits"} <= members.keys()


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


def test_what_is_asked_of_an_s3_server_is_asked_once(
    s3: S3, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is not there, too; an empty object, of which AWS gives no part, is empty."""
    from aiobotocore.client import AioBaseClient
    from botocore.exceptions import ClientError

    files, ask, asked = RemoteFiles(url), AioBaseClient._make_api_call, []
    files.write_many({"a/x": b"1", "empty": b"", "long": bytes(20)})

    async def noted(self: Any, operation: str, options: dict[str, Any]) -> Any:
        asked.append(operation)
        assert options.get("Prefix", "/").endswith("/")  # nothing that only begins alike
        if "Range" in options and options["Key"].endswith("empty"):
            raise ClientError({"Error": {"Code": "InvalidRange"}}, operation)
        return await ask(self, operation, options)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", noted)
    assert [files.read("a/x"), files.read("empty")] == [b"1", b""]
    with pytest.raises(FileNotFoundError):
        files.read("a")
    assert [files.is_file(name) for name in ("a/x", "a", "b")] == [True, False, False]
    assert (files.facts("a/x").size, files.sizes("a"), files.sizes("b")) == (1, {"x": 1}, {})
    assert asked == ["GetObject"] * 3 + ["HeadObject"] * 4 + ["ListObjectsV2"] * 2
    monkeypatch.setattr("antcache.store.remote.files.TEXT_BYTES", 9)
    with pytest.raises(DamagedStore, match="its first 10 bytes are too many"):
        files.read("long")


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
    assert list(batches(sizes, sizes.__getitem__)) == [["a"], ["b"], ["c", "d"], ["e"]]
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
