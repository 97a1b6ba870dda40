"""`verify` finds and names whatever is not as it was written; `repair` touches that and no more."""

from __future__ import annotations

import errno
import json
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from shelves import KINDS, in_turn

from antcache.annotations import Taxonomy
from antcache.cli.main import cli
from antcache.errors import AntcacheError, DamagedStore, NotAStore
from antcache.store import Store
from antcache.store.backend import Backend
from antcache.store.backends import find_backend
from antcache.store.format import FORMATS, digest
from antcache.store.integrity.repair import RepairAction, repair
from antcache.store.integrity.verify import verify
from antcache.store.seal import attributes_of, intact, mended, sealed

LATER = max(FORMATS) + 1
GROUPS = ["", "labels", "targets", "features", "features/rgb", "features/tokens"]


@pytest.fixture(scope="module")
def rot(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark, whose short form these tests are."""
    return benchmark("bit_rot")


@pytest.fixture(scope="module")
def built(rot: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("built")
    return {kind: Path(rot.build(folder / kind, kind).path) for kind in KINDS}


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, built: dict[str, Path], tmp_path: Path) -> Store:
    """A store with something of everything."""
    path = tmp_path / f"store.{request.param}"
    shutil.copytree(built[request.param], path)
    return Store.open(path)


def place(store: Store, key: str) -> Path:
    """The file of a unit that holds its rows."""
    unit = store.backend.location(key)
    return unit if unit.is_file() else unit / "rows/c/0/0"


def metadata(store: Store, key: str) -> Path:
    unit = store.backend.location(key)
    return unit if unit.is_file() else unit / "zarr.json"


def group_file(store: Store, key: str) -> Path:
    return Path(store.path) / key / store.backend.group_file


def found(store: Store | Backend) -> set[tuple[str, str]]:
    return {(finding.key, finding.what) for finding in verify(store).damaged}


def of(actions: tuple[RepairAction, ...], done: str) -> set[str]:
    return {action.key for action in actions if action.done == done}


def state(path: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, inode and time of each file."""
    files = {p: p.stat() for p in path.rglob("*") if p.is_file()}
    return {str(p): (p.read_bytes(), s.st_ino, s.st_mtime_ns) for p, s in files.items()}


def flip(path: Path, byte: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[byte] ^= 4
    path.write_bytes(whole)


# Seals


@pytest.mark.parametrize("around", [None, {"zarr_format": 3, "node_type": "group"}])
def test_a_text_that_contains_a_seal_is_sealed_like_any_other(
    around: dict[str, Any] | None,
) -> None:
    blank, other = "0" * 32, "0123456789abcdef" * 2
    attributes = {
        "config": {"seal": blank, "nested": {"seal": other}},
        "source": f'"seal": "{blank}"',
        "after": [{"seal": blank}],
    }
    text = sealed({**attributes, "seal": "that of somebody"}, around)
    assert intact(text)
    assert attributes_of(text) == attributes
    assert text.count(b'"seal": "') == 4
    for place in range(len(text)):
        for bit in (0, 5):
            wrong = bytearray(text)
            wrong[place] ^= 1 << bit
            assert not intact(bytes(wrong))
    place = text.index(other.encode()) + 3
    assert mended(text[:place] + bytes((text[place] ^ 4,)) + text[place + 1 :]) == text
    inner = json.dumps({"seal": digest(b"what somebody made up")}).encode()
    assert not intact(inner)
    assert not intact(text + inner)


def test_a_seal_in_a_text_that_never_ends_is_no_seal() -> None:
    assert not intact(b"[" * 100_000)
    assert attributes_of(b'{"a":' * 100_000) == {}
    assert attributes_of(b"[" * 100_000) == {}
    assert attributes_of(b'{"a": ' + b"9" * 5000 + b"}") == {}


# Finding


def test_an_intact_store_is_intact_and_every_byte_was_read(store: Store, rot: ModuleType) -> None:
    seen: list[tuple[str, float, float]] = []
    report = verify(store, progress=lambda *args: seen.append(args))
    assert report.intact
    assert (report.units, report.groups) == (16, 7)
    assert report.num_bytes == sum(p.stat().st_size for p in rot.files_of(store))
    assert seen[0] == ("verify", 0, 16)
    assert seen[-1] == ("verify", 16, 16)
    fields = json.loads(json.dumps(report.to_dict()))
    assert fields["intact"] is True
    assert fields["damaged"] == []


DAMAGE: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "short": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "rows", "metadata"),
    "empty": (lambda p: p.write_bytes(b""), "rows", "metadata"),
    "long": (lambda p: p.write_bytes(p.read_bytes() + b"\0"), "rows", "metadata"),
}


@pytest.mark.parametrize("way", DAMAGE)
def test_files_of_another_length_are_found(store: Store, way: str) -> None:
    change, in_zarr, in_hdf5 = DAMAGE[way]
    change(place(store, "features/rgb/v2"))
    assert found(store) == {("features/rgb/v2", in_zarr if store.kind == "zarr" else in_hdf5)}


def test_half_a_file_is_found(store: Store) -> None:
    path = place(store, "features/rgb/v2")
    path.write_bytes(path.read_bytes()[:1500])
    assert {key for key, _ in found(store)} == {"features/rgb/v2"}


def test_lost_files_of_a_zarr_unit_are_found(built: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(built["zarr"], tmp_path / "s")
    store = Store.open(tmp_path / "s")
    lost = {"v1": "zarr.json", "v2": "rows/c/0/0", "v3": "times/zarr.json", "v4": "times"}
    for video, name in lost.items():
        path = tmp_path / "s/features/rgb" / video / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in ("zarr.json", "rows/zarr.json"):  # two files of one video
        (tmp_path / "s/features/flow/v1" / name).unlink()
    (tmp_path / "s/features/flow/empty").mkdir()
    assert found(store) == {
        ("features/rgb/v1", "metadata"),
        ("features/rgb/v2", "rows"),
        ("features/rgb/v3", "times"),
        ("features/rgb/v4", "times"),
        ("features/flow/v1", "metadata"),
        ("features/flow/empty", "metadata"),
    }


def test_a_lost_chunk_is_refused_and_never_zeros(built: dict[str, Path], tmp_path: Path) -> None:
    """Of a compressed unit, too; Zarr itself would give zeros."""
    shutil.copytree(built["zarr"], tmp_path / "s")
    chunk = tmp_path / "s/features/flow/v1/rows/c/0/0"
    for memory_map in (True, False):
        store = Store.open(tmp_path / "s", memory_map=memory_map)
        opened = store.features("flow", "v1")
        content = chunk.read_bytes()
        chunk.unlink()
        with pytest.raises(DamagedStore, match=r"rows/c/0/0: can't be read .the file is gone"):
            opened.read()
        with pytest.raises(DamagedStore, match=r"flow/v1: can't be read .a file of rows is gone"):
            store.features("flow", "v1")
        assert found(store) == {("features/flow/v1", "rows")}
        chunk.write_bytes(content)
        assert opened.read().any()
    assert zarr.open_array(chunk.parents[2], mode="r")[0].any()
    chunk.unlink()
    assert not zarr.open_array(chunk.parents[2], mode="r")[0].any()
    assert {a.key for a in repair(store).actions} == {"features/flow/v1"}


def test_values_of_another_video_are_found(store: Store) -> None:
    rows = np.random.default_rng(0).normal(size=(2, 50, 32)).astype(np.float16)
    for number in range(2):
        store.write_features("rgb", f"twin{number}", rows[number])
    one, other = (place(store, f"features/rgb/twin{number}") for number in range(2))
    values = [rows[number].tobytes() for number in range(2)]
    whole = [one.read_bytes(), other.read_bytes()]
    one.write_bytes(whole[0].replace(values[0], values[1]))
    other.write_bytes(whole[1].replace(values[1], values[0]))
    with pytest.raises(DamagedStore, match=r"twin0.*not as they were written"):
        store.features("rgb", "twin0").read()
    assert found(store) == {("features/rgb/twin0", "rows"), ("features/rgb/twin1", "rows")}


def test_strangers_are_left_alone(store: Store) -> None:
    root = Path(store.path)
    for name in ("README.txt", "features/rgb/.DS_Store", "features/rgb/README.txt"):
        (root / name).write_text("mine")
    for name in ("notes", "features/notes", "features/rgb/notes"):
        (root / name).mkdir()
        (root / name / "today.txt").write_text("mine")
    if store.kind == "zarr":
        (root / "features/rgb/v1/rows.txt").write_text("mine")
    before = state(root)
    assert verify(store).intact
    assert repair(store).actions == ()
    assert state(root) == before
    assert store.streams() == ["flow", "rgb", "tokens"]
    assert store.videos("rgb") == ["v1", "v2", "v3", "v4"]


def test_all_of_an_hdf5_file_is_covered(built: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(built["hdf5"], tmp_path / "s")
    store = Store.open(tmp_path / "s")
    path = tmp_path / "s/features/rgb/v2.h5"
    whole = path.read_bytes()
    block = whole.index(b"\x89HDF")
    assert whole[block - 1 : block] == b" "
    text = whole.index(b"v2.mp4", block)  # the value of an attribute
    number = whole.index(b"num_rows", block) + 8  # the type and value of another follow
    for byte in (0, 20, block - 1, block, block + 40, text, number + 10, len(whole) - 1):
        flip(path, byte)
        assert found(store) == {("features/rgb/v2", "metadata")}, byte
        path.write_bytes(whole)
    values = np.asarray(store.features("rgb", "v2").times).tobytes()
    flip(path, whole.index(values) + 3)
    assert found(store) == {("features/rgb/v2", "times")}


def test_what_another_process_replaces_is_not_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: dict[str, int] = {}

    def damage(self: Backend, key: str, *rest: Any) -> list[str]:
        looks[key] = looks.get(key, 0) + 1
        return ["rows"] if looks[key] == 1 else []

    monkeypatch.setattr(type(store.backend), "damaged_parts", damage)
    assert verify(store).intact
    assert set(looks.values()) == {2}


def test_settings_of_a_stream_are_read_once_for_all_its_videos(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    text = type(store.backend).group_text

    def counted(self: Backend, key: str) -> bytes | None:
        read.append(key)
        return text(self, key)

    def reads() -> int:
        read.clear()
        assert verify(store).intact
        return read.count("features/rgb")

    monkeypatch.setattr(type(store.backend), "group_text", counted)
    few = reads()
    for number in range(5):
        store.write_features("rgb", f"more{number}", np.zeros((3, 32), np.float16))
    assert reads() == few


@pytest.mark.parametrize("key", ["features/empty", "targets"])
def test_what_is_no_file_in_the_place_of_attributes_is_damage(tmp_path: Path, key: str) -> None:
    """Of a group that nothing is in; nobody waits for it to become a file."""
    for kind in ("zarr", "hdf5"):
        store = Store.create(tmp_path / f"{kind}.store", backend=kind)
        store.create_stream("empty", dim=2, dtype="float16", fps=1, source="b", config={})
        store.backend.set_group_attributes("targets", {})
        file = Path(store.path) / key / store.backend.group_file
        file.unlink()
        file.symlink_to("elsewhere")
        with pytest.raises(DamagedStore, match=f"{key}/{file.name}: gone"):
            store.backend.add_group_attributes(key, {"ours": 1})
        assert file.is_symlink()
        assert found(store) == {(key, "metadata")}
        repair(store)
        assert verify(store).intact


def test_a_unit_that_has_just_gone_is_not_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process replaces or removes it between the two looks."""
    damage = type(store.backend).damaged_parts

    def gone(self: Backend, key: str, *rest: Any) -> list[str]:
        if key != "features/rgb/v2":
            return damage(self, key, *rest)
        if self.has(key):
            store.remove(key)
        return ["rows"]

    monkeypatch.setattr(type(store.backend), "damaged_parts", gone)
    report = verify(store)
    assert report.intact
    assert store.videos("rgb") == ["v1", "v3", "v4"]


def test_a_unit_that_is_replaced_between_the_looks_is_looked_at_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there now is what counts: here it is damaged otherwise."""
    looks = iter((["rows"], ["times"]))
    damage = type(store.backend).damaged_parts

    def changing(self: Backend, key: str, *rest: Any) -> list[str]:
        return next(looks) if key == "features/rgb/v2" else damage(self, key, *rest)

    monkeypatch.setattr(type(store.backend), "damaged_parts", changing)
    assert found(store) == {("features/rgb/v2", "times")}


CODES = [errno.EACCES, errno.ESTALE, errno.EMFILE]


@pytest.mark.parametrize(
    ("store", "code"),
    [*in_turn(CODES), *((kind, errno.EIO) for kind in KINDS)],
    indirect=["store"],
)
def test_what_can_not_be_read_now_is_not_damaged(
    store: Store, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, *rest: Any, **options: Any) -> Any:
        raise OSError(code, "refused")

    before = state(Path(store.path))
    name = "digest_of" if store.kind == "zarr" else "damaged_parts"
    monkeypatch.setattr(sys.modules[type(store.backend).__module__], name, refuse)
    if code == errno.EIO:  # this is what a disk says of a sector that is lost
        assert len({key for key, _ in found(store)}) == 16
        return
    with pytest.raises(AntcacheError, match=r"can't be read now \(refused\)") as caught:
        repair(store)
    assert not isinstance(caught.value, DamagedStore)
    assert state(Path(store.path)) == before


def test_an_interrupt_ends_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def damage(self: Backend, key: str, *rest: Any) -> list[str]:
        calls.append(key)
        time.sleep(0.01)
        return []

    def interrupt(label: str, done: float, total: float) -> None:
        if done:
            raise KeyboardInterrupt

    monkeypatch.setattr(type(store.backend), "damaged_parts", damage)
    with pytest.raises(KeyboardInterrupt):
        verify(store, workers=1, progress=interrupt)
    assert len(calls) < 16


def test_a_later_format_is_refused(store: Store) -> None:
    store.backend.set_group_attributes("", {"antcache": {"format": LATER}})
    for command in (verify, repair):
        with pytest.raises(NotAStore, match=f"found format {LATER}"):
            command(store.backend)


# Ordinary use of a damaged store


@pytest.mark.parametrize("way", ["flip", "seal", "empty", "gone"])
def test_a_damaged_root_is_said(store: Store, way: str) -> None:
    path = group_file(store, "")
    text = path.read_bytes()
    if way == "flip":
        flip(path, text.index(b"antcache"))
    elif way == "seal":
        flip(path, text.index(b'"seal"'))
    elif way == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    for use in (Store.open, Store.open_or_create):
        with pytest.raises(DamagedStore, match="antcache store repair"):
            use(store.path)
    result = CliRunner().invoke(cli, ["store", "info", str(store.path)])
    assert result.exit_code == 2
    assert "antcache store repair" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_new_store_with_a_flipped_bit_is_still_known(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s")
    path = group_file(store, "")
    whole = path.read_bytes()
    for byte in range(len(whole)):
        flip(path, byte)
        with pytest.raises(DamagedStore, match=str(tmp_path / "s")):
            Store.open(tmp_path / "s")
        path.write_bytes(whole)


@pytest.mark.parametrize("way", ["flip", "gone"])
def test_a_damaged_stream_is_said(store: Store, way: str) -> None:
    path = group_file(store, "features/rgb")
    flip(path, 40) if way == "flip" else path.unlink()
    uses: list[Callable[[], Any]] = [
        lambda: store.stream("rgb"),
        lambda: store.write_features("rgb", "v9", np.zeros((3, 32), np.float16)),
        lambda: store.create_stream("rgb", dim=1, dtype="float16", fps=1, source="", config={}),
    ]
    for use in uses:
        with pytest.raises(DamagedStore, match="antcache store repair"):
            use()


@pytest.mark.parametrize("key", ["labels/train", "targets/sparse", "features/rgb/v2"])
def test_a_unit_with_damaged_metadata_is_never_opened(store: Store, key: str) -> None:
    """The HDF5 library would read some flipped bits forever."""
    rng = random.Random(3)
    path = metadata(store, key)
    whole = path.read_bytes()
    backend = store.backend
    hit = 0
    for _ in range(60):
        path.write_bytes(whole)
        byte = rng.randrange(len(whole))
        flip(path, byte)
        if "metadata" not in backend.damaged_parts(key):
            continue
        hit += 1
        with pytest.raises(DamagedStore, match="antcache store repair"):
            backend.open(key)
    assert hit > 20


def test_a_short_file_is_said(store: Store) -> None:
    path = place(store, "features/rgb/v2")
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DamagedStore, match="antcache store repair"):
        store.features("rgb", "v2").read()


# Repairing


@pytest.mark.slow
def test_damaged_repaired_and_written_again_it_is_what_it_was(
    store: Store, rot: ModuleType
) -> None:
    result = rot.rounds(store, 4, random.Random(11))
    assert result.pop("videos damaged") >= 4
    assert result == {"others dropped": 0, "not dropped": 0, "not as before": 0}


def test_exactly_what_is_damaged_goes(store: Store) -> None:
    root = Path(store.path)
    damaged = ["features/rgb/v2", "features/flow/v1", "labels/validation", "targets/sparse"]
    for key in damaged:
        flip(metadata(store, key), 40)
    path = group_file(store, "features/flow")
    right = path.read_bytes()
    flip(path, 55)
    before = state(root)
    plan = repair(store, dry_run=True)
    assert state(root) == before
    assert not plan.intact
    report = repair(store)
    assert report.intact
    assert of(report.actions, "dropped") == of(plan.actions, "dropped") == set(damaged)
    assert of(report.actions, "restored") == of(plan.actions, "restored") == {"features/flow"}
    assert path.read_bytes() == right
    after = state(root)
    gone = {name for name in before if name not in after}
    assert gone == {n for n in before if any(f"/{k}" in n for k in damaged)}
    assert {n for n in after if after[n] != before[n]} == {str(path)}  # not even touched
    commands = {action.key: action.next for action in report.actions}
    assert "annotations import" in commands["labels/validation"]
    assert "antcache teacher" in commands["targets/sparse"]
    assert "bit rot" in commands["features/rgb/v2"]
    assert verify(store).intact
    assert store.videos("rgb") == ["v1", "v3", "v4"]


def test_videos_of_an_extraction_are_extracted_again(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s")
    config = {"backbone": "b", "decoding": 1}
    store.create_stream("rgb", dim=2, dtype="float16", fps=1, source="b", config=config)
    store.write_features("rgb", "v1", np.zeros((3, 2), np.float16))
    flip(place(store, "features/rgb/v1"), 3)
    assert [action.next for action in repair(store).actions] == ["antcache extract"]


WAYS = ["flip", "empty", "gone", "rubbish"]


@pytest.mark.parametrize(
    ("store", "way", "key"),
    [
        (kind, way, key)
        for number, key in enumerate(GROUPS)
        for kind, way in in_turn(WAYS[number % 2 :] + WAYS[: number % 2])
    ],
    indirect=["store"],
)
def test_damaged_groups_are_found_and_restored_to_the_byte(
    store: Store, key: str, way: str
) -> None:
    path = group_file(store, key)
    right = path.read_bytes()
    if way == "flip":
        flip(path, len(right) // 2)
    elif way == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if way == "empty" else b"x" + right[:-7] + b"yz")
    damaged = find_backend(store.path)
    assert found(damaged) == {(key, "metadata")}
    report = repair(damaged)
    assert report.intact
    assert of(report.actions, "restored") == {key}
    assert path.read_bytes() == right
    assert Store.open(store.path).dataset == "toy"


def test_splits_that_name_two_datasets_tell_nothing_of_the_root(store: Store) -> None:
    arrays, attributes = store.backend.read("labels/train")
    other = {**attributes, "dataset": "other"}
    store.backend.publish("labels/train", arrays, other, overwrite=True)
    path = group_file(store, "")
    path.write_bytes(b"x" + path.read_bytes()[1:-3])  # more than one bit
    before = state(Path(store.path))
    report = repair(find_backend(store.path))
    assert not report.intact
    (action,) = report.actions
    assert (action.key, action.done) == ("", "left")
    assert action.what == "its labels do not agree on the dataset"
    assert state(Path(store.path)) == before
    with pytest.raises(DamagedStore, match="antcache store repair"):
        Store.open(store.path)


def test_a_stream_that_nobody_knows_any_more_can_be_made_again(store: Store) -> None:
    group_file(store, "features/rgb").write_bytes(b"{}")
    for video in store.videos("rgb"):
        flip(metadata(store, f"features/rgb/{video}"), 40)
    report = repair(store)
    assert report.intact
    assert of(report.actions, "dropped") == {
        "features/rgb",
        *(f"features/rgb/v{number}" for number in (1, 2, 3, 4)),
    }
    assert store.streams() == ["flow", "tokens"]
    assert verify(store).intact
    store.create_stream("rgb", dim=3, dtype="float16", fps=1, source="x", config={})
    store.write_features("rgb", "v1", np.zeros((3, 3), np.float16))
    assert verify(store).intact


def put_elsewhere(store: Store, source: str, target: str) -> None:
    """Copy a unit into the place of another one."""
    old, new = store.backend.location(source), store.backend.location(target)
    if old.is_dir():
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(old, new)
    else:
        shutil.copy(old, new)


def test_videos_that_disagree_restore_nothing(tmp_path: Path, repo: Path) -> None:
    """Somebody has put a video of another stream here, which does not say so itself."""
    for kind in ("zarr", "hdf5"):
        shutil.copytree(repo / "tests/golden/format-1" / kind, tmp_path / kind)
        store = Store.open(tmp_path / kind)
        put_elsewhere(store, "features/flow/t1", "features/rgb/t1")
        group_file(store, "features/rgb").write_bytes(b"{}")
        report = repair(store)
        assert not report.intact
        assert [(a.key, a.done) for a in report.actions] == [("features/rgb", "left")]
        assert "t1" in store.videos("rgb")


def test_a_video_that_says_where_it_belongs_is_left_there(store: Store) -> None:
    put_elsewhere(store, "features/flow/v1", "features/rgb/v1")
    assert found(store) == {("features/rgb/v1", "place")}
    with pytest.raises(DamagedStore, match=r"rgb/v1: another unit stands here.*features/flow/v1"):
        store.features("rgb", "v1")
    before = state(Path(store.path))
    report = repair(store)
    assert not report.intact
    assert [(a.key, a.done) for a in report.actions] == [("features/rgb/v1", "left")]
    assert state(Path(store.path)) == before


def test_a_rule_for_gaps_that_was_changed_on_the_way_is_dropped(store: Store) -> None:
    fingerprint = store.stream("rgb").fingerprint
    store.set_gap_rule("rgb", step_s=0.5, max_age_s=1.0)
    store.write_features("rgb", "v5", np.zeros((3, 32), np.float16))
    group_file(store, "features/rgb").write_bytes(b"{}")
    report = repair(store)
    assert report.intact
    assert "rule for gaps" in report.actions[0].what
    stream = store.stream("rgb")
    assert (stream.step_s, stream.max_age_s, stream.fingerprint) == (None, None, fingerprint)


def test_labels_that_lost_their_classes_are_imported_again(store: Store) -> None:
    taxonomy = store.taxonomy
    splits = {split: store.labels(split) for split in store.splits()}
    many = Taxonomy.from_dict({**taxonomy.to_dict(), "many_shot_actions": [0]})
    store.write_labels("train", splits["train"], many, source="x", overwrite=True)
    group_file(store, "labels").write_bytes(b"{}")  # its splits do not agree on the lists
    report = repair(store)
    assert report.intact
    assert of(report.actions, "dropped") == {"labels/train", "labels/validation"}
    assert verify(store).intact
    assert (store.splits(), store.dataset) == ([], "toy")
    for split, segments in splits.items():
        store.write_labels(split, segments, many, source="x")
    assert store.taxonomy == many
    assert store.targets("dense").attributes["taxonomy"] == store.taxonomy.fingerprint
    assert verify(store).intact


def test_the_name_of_a_dataset_without_labels_is_not_made_up(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", dataset="toy")
    store.create_stream("rgb", dim=2, dtype="float16", fps=1, source="b", config={})
    group_file(store, "").write_bytes(b"")
    report = repair(find_backend(store.path))
    assert "name is lost" in report.actions[0].what
    assert Store.open(store.path).dataset is None


def test_a_video_that_another_process_works_on_is_left(store: Store) -> None:
    flip(place(store, "features/rgb/v1"), 1200)
    with store.claim_features("rgb", "v1") as ours:
        assert ours
        report = repair(store)
    assert of(report.actions, "left") == {"features/rgb/v1"}
    assert not report.intact
    assert store.videos("rgb")[0] == "v1"


def test_what_killed_writers_left_is_swept(store: Store) -> None:
    left = Path(store.path) / ".staging" / "0123"
    left.mkdir(parents=True)
    (left / "unit").write_text("half")
    assert verify(store).intact
    assert left.exists()
    repair(store)
    assert not left.parent.exists()


# What the proof has brought to light


def test_text_that_looks_like_json_comes_back_as_text(store: Store) -> None:
    texts = {
        "a": "[cut] v1.mp4",
        "b": "null",
        "c": "{",
        "d": '"v1"',
        "e": [None, "null"],
        "f": None,
    }
    store.write_features("rgb", "v9", np.zeros((2, 32), np.float16), attributes=texts)
    assert texts.items() <= store.backend.open("features/rgb/v9")[1].items()


# The seal


def test_one_flipped_bit_is_flipped_back() -> None:
    text = sealed({"name": "seal", "list": [1, 2]}, {"zarr_format": 3})
    for byte in range(len(text)):
        for bit in (0, 3, 7):
            wrong = bytearray(text)
            wrong[byte] ^= 1 << bit
            assert mended(bytes(wrong)) == text
    for other in (b"", b"{}", text[:-1], text + b" ", text.replace(b"list", b"tsil")):
        assert mended(other) is None


# The command line


def test_commands(store: Store) -> None:
    path = str(store.path)
    run = CliRunner().invoke
    result = run(cli, ["store", "verify", path])
    assert result.exit_code == 0
    assert "intact: 16 units and 7 groups" in result.stdout
    flip(place(store, "features/rgb/v1"), 1200)
    result = run(cli, ["store", "verify", path])
    assert result.exit_code == 1
    assert "features/rgb/v1" in result.stdout
    assert "antcache store repair" in result.stderr
    fields = json.loads(run(cli, ["store", "verify", path, "--json", "--workers", "2"]).stdout)
    assert fields["damaged"][0]["key"] == "features/rgb/v1"
    log = Path(f"{path}.log")
    result = run(cli, ["store", "repair", path, "--dry-run"])
    assert result.exit_code == 1
    assert "features/rgb/v1: would be dropped" in result.stdout
    assert not log.exists()
    result = run(cli, ["store", "repair", path])
    assert result.exit_code == 0
    assert "features/rgb/v1: dropped" in result.stdout
    assert "next, for features/rgb/v1: " in result.stdout
    assert "features/rgb/v1: dropped" in log.read_text()
    result = run(cli, ["store", "repair", path, "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["actions"] == []
    for command in ("verify", "repair"):
        result = run(cli, ["store", command, f"{path}/nowhere"])
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1
