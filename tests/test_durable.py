"""What survives a power cut: written, synced, renamed, and its folder synced, in this order.

Calls are recorded at the lowest level, and with each file's sync what was in it. Without one of the
syncs every file is still right as long as the machine runs, so nothing else would notice.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antcache.annotations import Segments, Taxonomy
from antcache.errors import UnreadableVideo
from antcache.files import FolderKind, atomic_file, atomic_folder, disk
from antcache.files.disk import make_folders
from antcache.files.locks import exclusively
from antcache.store import SoftTargets, Store
from antcache.store.local import folder as folder_module
from antcache.store.local.ledger import Ledger
from antcache.student.runs.checkpoint import save_checkpoint
from antcache.teacher.keeping import MADE, Place

KINDS = ("zarr", "hdf5")
BOOK = FolderKind(what="a book", mark="book.json")
STREAM = {"dim": 4, "dtype": "float32", "fps": 1.0, "source": "test", "config": {}}
TAXONOMY = Taxonomy(
    dataset="toy",
    verbs=("take",),
    nouns=("pan", "cup"),
    actions=("take pan", "take cup"),
    action_verbs=(0, 0),
    action_nouns=(0, 1),
)


def segments(*actions: int) -> Segments:
    number = len(actions)
    return Segments.of(
        uid=[f"u{n}" for n in range(number)],
        video=["v"] * number,
        start_s=np.arange(number, dtype=float),
        stop_s=np.arange(number) + 1.0,
        verb=[0] * number,
        noun=list(actions),
        action=list(actions),
    )


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file(tmp_path: Path, trace: Any, overwrite: bool) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old") if overwrite else None
    with atomic_file(target, overwrite=overwrite) as staged:
        staged.write_text("new")
    trace.check(target)


def test_folders_above_it(tmp_path: Path, trace: Any) -> None:
    make_folders(tmp_path / "a" / "b" / "c")
    for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        trace.at("sync", str(path))
    with atomic_file(tmp_path / "d" / "a.txt") as staged:
        staged.write_text("new")
    assert trace.at("sync", str(tmp_path)) < trace.published(tmp_path / "d" / "a.txt")


def test_folders_of_what_one_process_does(tmp_path: Path, trace: Any) -> None:
    """Such as that of a run, whose files are durable only if it is."""
    folder = tmp_path / "runs" / "one"
    with exclusively(folder / ".lock", "busy", where=folder):
        for path in (tmp_path, tmp_path / "runs"):
            trace.at("sync", str(path))


def write_book(path: Path, text: str, *, overwrite: bool = False) -> None:
    with atomic_folder(path, BOOK, overwrite=overwrite) as staged:
        (staged / "book.json").write_text(text)
        (staged / "pages").mkdir()
        (staged / "pages" / "1").write_text(text)


@pytest.mark.parametrize("way", ["new", "exchange", "no exchange"])
def test_a_folder(tmp_path: Path, trace: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "book"
    if way != "new":
        write_book(target, "old")
    if way == "no exchange":
        monkeypatch.setattr(disk, "_renameat2", lambda *_: False)
    trace.events.clear()
    write_book(target, "new", overwrite=way != "new")
    trace.check(target)
    synced = trace.at("sync", str(tmp_path))
    staging = Path(trace.events[trace.published(target)][1]).parent
    assert synced < trace.at("remove", str(staging))  # and the old one with it


def test_an_old_one_that_comes_back(
    tmp_path: Path, trace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f".book.{'0' * 32}"
    write_book(left / "replaced" / "book", "old")
    trace.events.clear()
    BOOK.check(tmp_path / "book", overwrite=True)
    place = trace.published(tmp_path / "book")
    synced = trace.at("sync", str(tmp_path))
    assert place < synced < trace.at("remove", str(left))


def test_a_checkpoint(tmp_path: Path, trace: Any) -> None:
    """The old one is removed only after the new one is renamed and synced."""
    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    run = tmp_path / "checkpoint"
    for epoch in (1, 2):
        trace.events.clear()
        save_checkpoint(run, epoch, model, optimizer, {}, [], {"average.safetensors": None})
        trace.check(run / f"epoch-000{epoch}")
    place, synced = trace.published(run / "epoch-0002"), trace.at("sync", str(run))
    assert place < synced < trace.at("remove", str(run / "epoch-0001"))


def test_the_ledger_of_failures(tmp_path: Path, trace: Any) -> None:
    ledger = Ledger(tmp_path / "s.zarr")
    for video in ("a", "b"):
        ledger.failed("rgb", video, Path("a.mp4"), UnreadableVideo("broken"))
        trace.check(ledger.path)
    ledger.succeeded("rgb", "a")
    trace.check(ledger.path)
    trace.events.clear()
    ledger.succeeded("rgb", "b")
    assert not ledger.path.exists()
    trace.at("sync", str(tmp_path))


def test_targets_that_are_in_the_store(tmp_path: Path, trace: Any) -> None:
    """The folder of a teacher says so durably."""
    store = Store.create(tmp_path / "s")
    store.write_labels("train", segments(0), TAXONOMY, source="test")
    folder = tmp_path / "teacher"
    folder.mkdir()
    place = Place(
        store=store,
        name="t",
        folder=folder,
        command="",
        replaces_folder=False,
        replaces_targets=False,
        done=None,
    )
    targets = SoftTargets(
        uid=np.array(["u0"]),
        valid=np.array([True]),
        logits=np.zeros((1, 2), np.float32),
        attributes={"taxonomy": TAXONOMY.fingerprint},
    )
    (folder / MADE).write_text(place.made_file(targets)[MADE])
    place.publish(targets)
    trace.check(folder / MADE)
    targets_place = trace.published(store.backend.location("targets/t"))
    assert targets_place < trace.published(folder / MADE)


# Stores


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_store_and_its_groups(tmp_path: Path, trace: Any, kind: str) -> None:
    store = Store.create(tmp_path / "deep" / "s", backend=kind)
    name = store.backend.group_file
    trace.check(store.path / name)
    made = trace.published(store.path / name)
    for path in (tmp_path, tmp_path / "deep"):
        assert trace.events.index(("sync", str(path), "")) < made
    store.create_stream("rgb", **STREAM)
    trace.check(store.path / "features" / "rgb")
    store.set_gap_rule("rgb", step_s=1.0, max_age_s=None)
    trace.check(store.path / "features" / "rgb" / name)
    trace.events.clear()
    store.backend.set_group_text("features/rgb", None)
    trace.at("sync", str(store.path / "features" / "rgb"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["new", "exchange", "no exchange"])
def test_a_unit(
    tmp_path: Path, trace: Any, kind: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "s", backend=kind)
    store.create_stream("rgb", **STREAM)
    key, target = "features/rgb/v", store.backend.location("features/rgb/v")
    if way != "new":
        store.write_features("rgb", "v", np.zeros((3, 4), np.float32))
    if way == "no exchange":
        monkeypatch.setattr(folder_module, "exchange", lambda *_: False)
    trace.events.clear()
    rows = {"rows": np.ones((3, 4), np.float32)}
    store.backend.publish(key, rows, {}, overwrite=way != "new")
    trace.check(target)
    staging = Path(trace.events[trace.published(target)][1]).parent
    assert trace.at("sync", str(target.parent)) < trace.at("remove", str(staging))
    trace.events.clear()
    store.backend.remove(key)
    gone = [i for i, e in enumerate(trace.events) if e[:2] == ("publish", str(target))]
    assert gone[0] < trace.at("sync", str(target.parent))


@pytest.mark.parametrize("kind", KINDS)
def test_several_splits(tmp_path: Path, trace: Any, kind: str) -> None:
    store = Store.create(tmp_path / "s", backend=kind)
    others = replace(segments(1), uid=np.array(["w0"]))
    splits = {"train": segments(0, 1), "validation": others}
    for overwrite in (False, True):
        trace.events.clear()
        store.write_splits(splits, TAXONOMY, source="test", overwrite=overwrite)
        trace.check(store.path / "labels")
    staging = Path(trace.events[trace.published(store.path / "labels")][1]).parent
    assert trace.at("sync", str(store.path)) < trace.at("remove", str(staging))


def test_a_disk_without_syncs_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems have none; that of a file is never done without."""
    fsync = os.fsync

    def picky(refuses: Callable[[int], bool], code: int) -> Callable[[int], None]:
        def called(handle: int) -> None:
            if refuses(os.fstat(handle).st_mode):
                raise OSError(code, os.strerror(code))
            fsync(handle)

        return called

    monkeypatch.setattr(os, "fsync", picky(stat.S_ISDIR, errno.EINVAL))
    write_book(tmp_path / "book", "new")
    for refuses, code in ((stat.S_ISDIR, errno.EIO), (stat.S_ISREG, errno.EINVAL)):
        monkeypatch.setattr(os, "fsync", picky(refuses, code))
        with pytest.raises(OSError, match="can't be written"):
            write_book(tmp_path / "other", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["book"]
