"""`verify` finds and names whatever is not as it was written."""

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
from damaged import flip, found, group_file, metadata, place, state
from shelves import KINDS, in_turn

from antcache.cli.main import cli
from antcache.errors import AntcacheError, DamagedStore, NotAStore
from antcache.store import Store
from antcache.store.backend import Backend
from antcache.store.format import FORMATS
from antcache.store.integrity.repair import repair
from antcache.store.integrity.verify import verify

LATER = max(FORMATS) + 1


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
