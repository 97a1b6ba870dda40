"""The index of a stream in a bucket: it names what a list would, or is not believed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bucket import ROWS, S3, claim_of_another_machine, killed_at
from click.testing import CliRunner

from antcache.annotations import Protocol
from antcache.cli.main import cli
from antcache.doctor.examination import DoctorConfig, examine
from antcache.errors import AlreadyExists, BadConfig, MissingKey, NotAStore
from antcache.extract import ExtractConfig
from antcache.extract.plan import RowRecipe, make_plan
from antcache.store import Store
from antcache.store import backends as backends_module
from antcache.store.format import INDEX_FORMAT, MARK, digest
from antcache.store.integrity.indexes import write_index
from antcache.store.integrity.info import describe
from antcache.store.integrity.repair import repair
from antcache.store.integrity.verify import verify
from antcache.store.remote.files import RemoteFiles
from antcache.store.remote.index import StreamIndex, listing_of
from antcache.store.remote.lease import WORK
from antcache.store.remote.writer import UnitWriter
from antcache.testing import SEGMENTS, TAXONOMY, add_stream

STREAM = "features/rgb"
NAME = ".staging/features,rgb.index"
REQUESTS = ("create", "replace", "delete", "write_many", "sizes")
"""What writers and indexers ask a server for, one after another."""


@pytest.fixture
def two(s3: S3, url: str) -> Store:
    """A store of two videos."""

    def write(url: str) -> None:
        store = Store.create(url)
        add_stream(store)
        for video in ("v1", "v2"):
            store.write_features("rgb", video, ROWS)

    return s3.store(url, "two videos", write)


def true(store: Store) -> bool:
    """Whether there is no index that is believed, or one that is what lies there."""
    indexed = StreamIndex(store.backend.files, STREAM).read()
    return indexed is None or indexed == listing_of(STREAM, store.backend.files.sizes(STREAM))


# How many lists


class Means:
    """A backbone that is there at once."""

    name, dim, num_frames, fingerprint = "means", 8, 1, "index-1"

    def preprocess(self, pictures: Any) -> Any:
        return pictures.float().permute(0, 3, 1, 2)

    def __call__(self, pixels: Any) -> Any:
        return pixels.mean((1, 2, 3, 4))[:, None].expand(-1, 8)


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often objects below a prefix were listed, at most a thousand each time."""
    from aiobotocore.client import AioBaseClient

    ask, found = AioBaseClient._make_api_call, Counter[str]()

    async def counted(self: Any, operation: str, options: dict[str, Any]) -> Any:
        if operation.startswith("List"):
            found[options["Prefix"].partition(".zarr/")[2]] += 1
        return await ask(self, operation, options)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", counted)
    return found


def test_a_stream_with_an_index_is_not_listed(
    s3: S3, url: str, lists: Counter[str], tmp_path: Any
) -> None:
    """340 videos, 1,020 objects: two lists."""
    store = Store.create(url)
    config = ExtractConfig()
    stream = RowRecipe.of(Means(), config).stream(None)
    store.create_stream(**stream)
    store.write_features("rgb", "v000", ROWS)
    one = {n: v for n, v in s3.objects(url).items() if n.startswith(f"{STREAM}/v000/")}
    names = [f"v{number:03}" for number in range(340)]
    for name, value in one.items():
        for to in names[1:]:
            s3.put(f"{url}/{name.replace('v000', to)}", value)
    videos = dict.fromkeys(names, tmp_path)

    def asked() -> tuple[Any, ...]:
        lists.clear()
        opened = Store.open(url)
        listed, counts = opened.videos("rgb"), opened.row_counts("rgb")
        return listed, counts, make_plan(videos, opened, Means(), config), describe(opened)

    *before, info = asked()
    assert lists[f"{STREAM}/"] == 4 * 2
    assert write_index(store, "rgb") == 340
    assert [*asked()] == [*before, info | {"format": INDEX_FORMAT}]
    assert lists[f"{STREAM}/"] == 0
    assert sum(lists.values()) <= 12  # of labels, targets and the names of streams
    assert before[0] == names
    assert before[1] == dict.fromkeys(names, 9)
    assert before[2].done == tuple(names)


def test_videos_of_several_chunks_are_opened_for_their_rows(two: Store) -> None:
    two.write_features("rgb", "v3", np.zeros((300_000, 8), np.float16))
    write_index(two, "rgb")
    assert two.row_counts("rgb") == {"v1": 9, "v2": 9, "v3": 300_000}


# Who writes takes it away

CHANGES: dict[str, Callable[[Store], None]] = {
    "write": lambda store: store.write_features("rgb", "v3", ROWS),
    "remove": lambda store: store.remove(f"{STREAM}/v1"),
    "overwrite": lambda store: store.backend.publish(
        f"{STREAM}/v2", {"rows": ROWS[:4]}, {"num_rows": 4}, overwrite=True
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_a_stream_takes_its_index_away(two: Store, change: str) -> None:
    write_index(two, "rgb")
    two.create_stream("flow", dim=8, dtype="float16", fps=4.0, source="test", config={})
    two.write_features("flow", "v1", ROWS)  # a neighbour does not
    two.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    write_index(two, "rgb")
    CHANGES[change](two)
    assert not two.backend.has_index(STREAM)
    assert not two.backend.files.is_file(NAME)
    write_index(two, "rgb")
    assert two.backend.has_index(STREAM)
    assert true(two)
    assert two.videos("rgb") == two.videos("rgb", listed=True)


def at_each_request(
    store: Store,
    patch: pytest.MonkeyPatch,
    first: Callable[[], Any],
    other: Callable[[int], Any],
) -> None:
    """Do `first` again and again, and `other` before its first request, its second, and so on."""
    number, done = 0, True
    while done:
        done, asked = False, 0

        def before(name: str, number: int = number) -> None:
            nonlocal done, asked
            asked += 1
            if asked == number + 1 and not done:
                done = True
                other(number)

        with patch.context() as own:
            for name in REQUESTS:
                method = getattr(RemoteFiles, name)

                def called(*args: Any, _name: str = name, _call: Any = method, **more: Any) -> Any:
                    before(_name)
                    return _call(*args, **more)

                own.setattr(RemoteFiles, name, called)
            first()
        assert true(store), f"at request {number}"
        number += 1
    assert number > 3


@pytest.mark.parametrize("change", ["write", "remove"])
def test_a_change_at_any_moment_of_writing_an_index(
    two: Store, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    two.backend.files.swaps()  # is found out once
    written = 0

    def index() -> None:
        nonlocal written
        try:
            write_index(two, "rgb")
            written += 1
        except AlreadyExists:
            pass

    def changed(number: int) -> None:
        if change == "remove":
            two.remove(f"{STREAM}/{sorted(two.videos('rgb', listed=True))[0]}")
        two.write_features("rgb", f"w{number}", ROWS[:2])

    at_each_request(two, monkeypatch, index, changed)
    assert written > 1  # when the change came before all of it, or not at all


def test_an_index_at_any_moment_of_a_change(two: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    two.backend.files.swaps()
    videos = iter(f"w{number}" for number in range(1000))
    refused = 0

    def index(number: int) -> None:
        nonlocal refused
        try:
            write_index(two, "rgb")
        except AlreadyExists:
            refused += 1

    at_each_request(
        two,
        monkeypatch,
        lambda: two.write_features("rgb", next(videos), ROWS[:2]),
        index,
    )
    assert refused > 1


def test_who_was_taken_for_dead_takes_the_index_away_after_all(
    two: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer sleeps before its last request; its claim is taken over, and given up."""
    create, indexed = RemoteFiles.create, []

    def late(files: RemoteFiles, name: str, value: bytes) -> None:
        if name == f"{STREAM}/v3/zarr.json":
            files.delete(".staging/features,rgb,v3.claim")
            indexed.append(write_index(two, "rgb"))
        create(files, name, value)

    monkeypatch.setattr(RemoteFiles, "create", late)
    two.write_features("rgb", "v3", ROWS)
    assert indexed == [2]
    assert not two.backend.has_index(STREAM)
    assert two.videos("rgb") == ["v1", "v2", "v3"]


def test_killed_writers_and_indexers_leave_no_lie(two: Store, url: str) -> None:
    write_index(two, "rgb")
    killed_at(UnitWriter, "_show", lambda: Store.open(url).write_features("rgb", "v3", ROWS))
    assert two.videos("rgb") == two.videos("rgb", listed=True) == ["v1", "v2"]
    with pytest.raises(AlreadyExists, match=r"found features,rgb,v3.claim .*store repair sweeps"):
        write_index(two, "rgb")
    repair(two)
    write_index(two, "rgb")
    killed_at(RemoteFiles, "replace", lambda: write_index(Store.open(url), "rgb"))
    assert two.backend.files.is_file(NAME)
    assert not two.backend.has_index(STREAM)  # it is pending for ever
    write_index(two, "rgb")
    assert two.backend.has_index(STREAM)


def test_no_index_is_written_while_others_are_at_work(two: Store, s3: S3, url: str) -> None:
    claim_of_another_machine(s3, url, "v9")
    with pytest.raises(AlreadyExists, match=r"another process is writing the stream.*v9\.claim"):
        write_index(two, "rgb")
    assert not two.backend.files.is_file(NAME)
    two.backend.files.delete(".staging/features,rgb,v9.claim")
    with two.claim_features("rgb", "v9") as ours:
        assert ours
        with pytest.raises(AlreadyExists, match=rf"v9\{WORK}"):
            write_index(two, "rgb")
    assert write_index(two, "rgb") == 2


# Where it is not believed


def test_a_copy_or_a_restored_store_has_none(two: Store, s3: S3, url: str) -> None:
    write_index(two, "rgb")
    s3.age(url, "zarr.json", 100)  # so that the copy is not of the same second
    two.backend.files.write_many({NAME: two.backend.files.read(NAME)})
    assert not two.backend.has_index(STREAM)  # nor has it beside a root of another date
    write_index(two, "rgb")
    for name in s3.objects(url):
        if not name.startswith(f"{STREAM}/v2"):  # not all of it, or not yet
            s3.fs.cp_file(f"{url}/{name}", f"{url}.copy/{name}")
    copy = Store.open(f"{url}.copy")
    assert copy.backend.files.is_file(NAME)
    assert copy.videos("rgb") == ["v1"]
    assert not copy.backend.has_index(STREAM)


def believed(two: Store, body: bytes, *, seal: bytes | None = None) -> Any:
    text = (digest(body).encode() if seal is None else seal) + b"\n" + body
    return StreamIndex(two.backend.files, STREAM).believed(text)


def test_what_makes_no_sense_is_not_believed(two: Store) -> None:
    write_index(two, "rgb")
    text = two.backend.files.read(NAME)
    index = StreamIndex(two.backend.files, STREAM)
    assert index.believed(text) == {"v1": {"rows": (1, 144)}, "v2": {"rows": (1, 144)}}
    document = json.loads(text.partition(b"\n")[2])
    assert believed(two, text.partition(b"\n")[2], seal=b"0" * 32) is None
    for place in (0, 40, len(text) - 5):
        assert index.believed(text[:place] + bytes((text[place] ^ 1,)) + text[place + 1 :]) is None
    units = [{"../x": {}}, {"v1": []}, {"v1": {"rows": [1]}}, {"v1": {"rows": [-1, 4]}}, [], None]
    units += [{"v1": {"rows": [1, True]}}, {"v1": {"rows": [1, 2.5]}}, {"\x1b[2J": {}}, {"v1": 3}]
    for wrong in ({"key": "features/flow"}, {"beside": ""}, *({"units": each} for each in units)):
        assert believed(two, json.dumps({**document, **wrong}).encode()) is None, wrong
    for body in (b"", b"[]", b"3", b"{}", b"[" * 100_000, json.dumps({"units": {}}).encode()):
        assert believed(two, body) is None, body[:40]
    assert believed(two, json.dumps(document).encode()) is not None


def test_earlier_versions_refuse_a_store_with_an_index(
    two: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert two.backend.group_attributes("")[MARK]["format"] == 1
    write_index(two, "rgb")
    assert two.backend.group_attributes("")[MARK]["format"] == INDEX_FORMAT == 3
    monkeypatch.setattr(backends_module, "FORMATS", (1, 2))
    with pytest.raises(NotAStore, match=r"expected format 1 or 2, found format 3 \(install"):
        Store.open(url)


def test_places_without_conditions_keep_none(
    memory: str, tmp_path: Any, s3_deaf: dict[str, Any], two: Store, url: str
) -> None:
    deaf = Store.open(url, storage_options=s3_deaf)
    for store in (Store.create(memory), Store.create(tmp_path / "x.zarr"), deaf):
        if store is not deaf:
            store.create_stream("rgb", dim=8, dtype="float16", fps=4.0, source="test", config={})
        with pytest.raises(BadConfig, match=r"no index .* kept here"):
            write_index(store, "rgb")
        assert store.backend.group_attributes("")[MARK]["format"] == 1
        assert not store.backend.has_index(STREAM)
    with pytest.raises(MissingKey, match="no stream 'flow'"):
        write_index(two, "flow")


# An index that lies: another tool has been here


def test_an_index_that_lies_is_noticed_and_taken_away(two: Store, s3: S3, url: str) -> None:
    two.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    write_index(two, "rgb")
    protocol = Protocol(gap_s=0.1, num_frames=1, rate=1.0)
    config = DoctorConfig(protocol=protocol, quick=True)
    assert verify(two).intact
    assert "wrong_index" not in {found.kind for found in examine(two, config).findings}
    s3.fs.rm(f"{url}/{STREAM}/v2", recursive=True)
    for name in ("zarr.json", "rows/zarr.json", "rows/c/0/0"):
        s3.fs.cp_file(f"{url}/{STREAM}/v1/{name}", f"{url}/{STREAM}/v7/{name}")
        s3.fs.cp_file(f"{url}/{STREAM}/v1/{name}", f"{url}/{STREAM}/v8/{name}")
    assert two.videos("rgb") == ["v1", "v2"]
    assert two.videos("rgb", listed=True) == ["v1", "v7", "v8"]
    says = "1 videos that are not there, 2 videos that it lacks"
    (found,) = (f for f in examine(two, config).findings if f.kind == "wrong_index")
    assert (says in found.text, found.missing, found.where) == (True, False, "rgb")
    (wrong,) = verify(two).groups_damaged
    assert (wrong.key, wrong.what, says in wrong.why) == (STREAM, "index", True)
    (action, *_) = repair(two, dry_run=True).actions
    assert two.backend.has_index(STREAM)
    assert (action, *_) == tuple(repair(two).actions)
    assert (action.key, action.done, action.what) == (STREAM, "dropped", "index")
    assert two.videos("rgb") == ["v1", "v7", "v8"]


# The command


def test_the_command_says_what_it_has_done(two: Store, url: str, tmp_path: Any) -> None:
    result = CliRunner().invoke(cli, ["store", "index", url])
    assert (result.exit_code, result.stdout) == (0, "features/rgb: 2 videos are in an index\n")
    result = CliRunner().invoke(cli, ["store", "index", url, "--stream", "rgb", "--json"])
    assert json.loads(result.stdout) == {"path": url, "videos": {"rgb": 2}}
    local = Store.create(tmp_path / "x.zarr")
    local.create_stream("rgb", dim=8, dtype="float16", fps=4.0, source="test", config={})
    result = CliRunner().invoke(cli, ["store", "index", str(local.path)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "no index is kept here" in result.stderr


def test_an_index_that_is_damaged_is_none(two: Store) -> None:
    write_index(two, "rgb")
    text = two.backend.files.read(NAME)
    two.backend.files.write_many({NAME: text[:-3]})
    assert two.videos("rgb") == ["v1", "v2"]
    assert verify(two).intact  # it is no part of the store
