"""Labels that are corrected: no uid that soft targets speak of goes to another stretch of video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shelves import KINDS
from test_splits import NEW, OLD, PLAIN, import_into, targets_of, tree

from antcache.errors import AlreadyExists, DamagedStore
from antcache.store import Store


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path, kind: str) -> Path:
    return tmp_path / f"store.{kind}"


def test_uids_that_soft_targets_speak_of_stay_with_their_segments(path: Path, kind: str) -> None:
    """Corrected labels may give a uid to another stretch of video, as where uids are row numbers:
    what was said of the one is not taught as if it were said of the other."""
    import_into(path, kind, OLD)
    store = Store.open(path)
    for name in ("one", "other"):
        store.write_targets(name, targets_of(PLAIN))
    before = tree(path)
    train = OLD["train"]
    for column in ("video", "start_s"):
        values = train.arrays()[column].copy()
        values[1] = "elsewhere" if column == "video" else values[1] + 0.25
        moved = {**OLD, "train": replace(train, **{column: values})}
        with pytest.raises(AlreadyExists, match=r"targets/one \(1\), targets/other \(1\)") as said:
            store.write_splits(moved, PLAIN, source="x", overwrite=True)
        assert "remove" in str(said.value)
        assert "targets/one targets/other" in str(said.value)
        assert tree(path) == before
    for name in ("one", "other"):
        store.remove(f"targets/{name}")
    store.write_splits(moved, PLAIN, source="x", overwrite=True)
    found = Store.open(path).labels("train").start_s
    np.testing.assert_array_equal(found, moved["train"].start_s)


def test_labels_that_move_no_segment_of_soft_targets_are_taken(path: Path, kind: str) -> None:
    """Other classes, uids, order and stops, starts that are nearly the same, and segments without
    targets, or without valid ones."""
    import_into(path, kind, OLD)
    store = Store.open(path)
    store.write_targets("one", targets_of(PLAIN))
    store.write_targets("none", replace(targets_of(PLAIN), valid=np.zeros(3, bool)))
    train, validation = OLD["train"], OLD["validation"]
    later = replace(validation, stop_s=validation.stop_s + 0.25)
    corrected = NEW["train"][::-1][1:]
    assert store.write_splits(
        {"train": corrected, "validation": later}, PLAIN, source="x", overwrite=True
    )
    nearly = replace(train, start_s=train.start_s + 0.09, stop_s=train.stop_s + 0.5)
    assert store.write_splits(
        {"train": nearly, "validation": later}, PLAIN, source="x", overwrite=True
    )
    store.remove("targets/one")
    far = replace(train, start_s=train.start_s + 0.5, stop_s=train.stop_s + 1)
    assert store.write_splits(
        {"train": far, "validation": later}, PLAIN, source="x", overwrite=True
    )
    renamed = replace(train, uid=np.char.add(train.uid, "x"), start_s=train.start_s + 0.25)
    assert store.write_splits(
        {"train": renamed, "validation": later}, PLAIN, source="x", overwrite=True
    )


def test_damaged_labels_are_replaced_though_there_are_soft_targets(path: Path, kind: str) -> None:
    import_into(path, kind, OLD)
    store = Store.open(path)
    store.write_targets("one", targets_of(PLAIN))
    for file in (path / "labels").rglob("*"):
        if file.is_file() and "train" in str(file):
            file.write_bytes(b"\0" * file.stat().st_size)
    store = Store.open(path)
    with pytest.raises(DamagedStore, match="labels"):
        store.labels("train")
    store.write_splits(OLD, PLAIN, source="x", overwrite=True)
    assert len(Store.open(path).labels("train")) == 3
    assert Store.open(path).target_names() == ["one"]
