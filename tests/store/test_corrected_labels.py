"""Labels that are corrected: no uid that soft targets speak of goes to another stretch of video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shelves import KINDS
from test_splits import NEW, OLD, PLAIN, import_into, targets_of, tree

from antcache.annotations import Segments
from antcache.errors import AlreadyExists, DamagedStore, FingerprintMismatch
from antcache.store import SoftTargets, Store
from antcache.store.integrity.verify import verify


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


def spoken(**attributes: object) -> SoftTargets:
    """Soft targets that say which stretches of video they are of."""
    own = targets_of(PLAIN)
    about = {**own.attributes, **attributes}
    return replace(own, moment=OLD["train"].moments(), attributes=about)


def moved(column: str, by_s: float = 0.25) -> dict[str, Segments]:
    """The old labels, in which the second training segment is another stretch of video."""
    values = OLD["train"].arrays()[column].copy()
    values[1] = "elsewhere" if column == "video" else values[1] + by_s
    return {**OLD, "train": replace(OLD["train"], **{column: values})}


@pytest.mark.parametrize("column", ["video", "start_s"])
def test_targets_that_say_their_moments_are_told_from_labels_that_come_later(
    path: Path, kind: str, column: str
) -> None:
    """Also where the old labels are gone by then, or the split comes by itself."""
    import_into(path, kind, OLD)
    store = Store.open(path)
    store.write_targets("one", spoken())
    store.remove("labels/train")
    before = tree(path)
    with pytest.raises(AlreadyExists, match=r"targets/one \(1\)"):
        store.write_splits({"train": moved(column)["train"]}, PLAIN, source="x")
    store.remove("labels/validation")
    with pytest.raises(AlreadyExists, match=r"targets/one \(1\)"):
        store.write_splits(moved(column), PLAIN, source="x")
    assert {k: v for k, v in before.items() if "validation" not in k} == tree(path)
    assert store.write_splits(OLD, PLAIN, source="x") == ["train", "validation"]
    assert verify(Store.open(path)).intact


@pytest.mark.parametrize("column", ["video", "start_s"])
def test_targets_of_other_labels_than_the_store_has_by_now_are_not_written(
    path: Path, kind: str, column: str
) -> None:
    """As when labels are replaced while a teacher is trained."""
    import_into(path, kind, moved(column))
    store = Store.open(path)
    before = tree(path)
    with pytest.raises(FingerprintMismatch, match=r"1 of 3 others, the first one .*say anew"):
        store.write_targets("one", spoken())
    assert tree(path) == before
    unheard = replace(spoken(), valid=np.array([True, False, True]))
    store.write_targets("one", unheard)
    found = Store.open(path).targets("one")
    np.testing.assert_array_equal(found.moment, OLD["train"].moments())


def test_the_time_is_that_of_what_the_teacher_was_asked_for(path: Path, kind: str) -> None:
    import_into(path, kind, moved("stop_s"))
    store = Store.open(path)
    store.write_targets("starts", spoken())
    with pytest.raises(FingerprintMismatch, match="1 of 3 others"):
        store.write_targets("stops", spoken(anchor=1.0))
    store.write_splits(OLD, PLAIN, source="x", overwrite=True)
    store.write_targets("stops", spoken(anchor=1.0))
    with pytest.raises(AlreadyExists, match=r"in these labels: targets/stops \(1\) \("):
        store.write_splits(moved("stop_s"), PLAIN, source="x", overwrite=True)
    nearly = moved("stop_s", by_s=0.09)
    assert store.write_splits(nearly, PLAIN, source="x", overwrite=True)


def test_steps_that_are_small_do_not_add_up(path: Path, kind: str) -> None:
    """Times are compared with those that the teacher was told, not with the last import's."""
    import_into(path, kind, OLD)
    store = Store.open(path)
    store.write_targets("one", spoken())
    store.write_splits(moved("start_s", by_s=0.09), PLAIN, source="x", overwrite=True)
    with pytest.raises(AlreadyExists, match=r"targets/one \(1\)"):
        store.write_splits(moved("start_s", by_s=0.18), PLAIN, source="x", overwrite=True)


def test_damaged_targets_keep_no_labels_out_that_they_do_not_speak_of(
    path: Path, kind: str
) -> None:
    import_into(path, kind, OLD)
    store = Store.open(path)
    store.write_targets("one", spoken())
    for file in (path / "targets").rglob("*"):
        if file.is_file() and "one" in str(file):
            file.write_bytes(b"\0" * file.stat().st_size)
    store = Store.open(path)
    new = replace(OLD["train"], uid=np.char.add("new ", OLD["train"].uid))
    store.write_splits({"test": new}, PLAIN, source="x")
    store.write_splits({**OLD, "test": new}, PLAIN, source="x", overwrite=True)
    with pytest.raises(DamagedStore, match="targets/one"):
        store.write_splits(moved("start_s"), PLAIN, source="x", overwrite=True)


def test_names_in_another_unicode_form_are_the_same_videos(path: Path, kind: str) -> None:
    odd = replace(OLD["train"], video=np.array(["cre\u0302pe"] * 3))
    import_into(path, kind, {"train": odd})
    store = Store.open(path)
    store.write_targets("one", replace(spoken(), moment=odd.moments()))
    assert store.write_splits({"train": odd}, PLAIN, source="y", overwrite=True)


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


def test_commands_in_hints_are_as_a_shell_takes_them(tmp_path: Path, kind: str) -> None:
    """In one folder with a blank in its name."""
    path = tmp_path / "my store"
    import_into(path, kind, OLD)
    store = Store.open(path)
    store.write_targets("one", spoken())
    with pytest.raises(AlreadyExists, match=f"antcache store remove '{path}' targets/one, import"):
        store.write_splits(moved("video"), PLAIN, source="x", overwrite=True)
    with pytest.raises(AlreadyExists, match=f"antcache store remove '{path}' labels/train"):
        store.write_splits({"all": OLD["train"]}, PLAIN, source="x")
