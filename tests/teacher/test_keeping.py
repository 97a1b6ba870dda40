"""A teacher and its targets, two places: whoever is killed between them, the same call goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import AlreadyExists, WriteFailed
from antcache.store import Store
from antcache.store.format import STAGING
from antcache.store.remote import holder
from antcache.teacher import keeping
from antcache.teacher.keeping import MADE, teacher_folder
from antcache.teacher.language import adapt
from antcache.teacher.mixing.ensemble import EnsembleConfig, ensemble
from antcache.teacher.scripts import Scripts, read_scripts
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import teach

Killed = Callable[[Callable[[], Any], int], bool]
OLD, NEW = (TargetConfig(kind="count", settings={"order": n}, folds=2) for n in (1, 2))


@pytest.fixture
def store(tmp_path, splits, taxonomy) -> Store:
    made = Store.create(tmp_path / "kitchen.zarr", backend="hdf5")  # fewer files: quicker
    made.write_splits(splits, taxonomy, source="test")
    return made


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "teachers" / "t"


def pending(folder: Path) -> bool:
    """Whether the folder says that its targets are not in the store yet."""
    return (folder / MADE).exists() and json.loads((folder / MADE).read_text())["pending"]


def state(store: Store, folder: Path) -> dict[str, bytes]:
    """All that is kept of a teacher and its targets, and nothing that is left over."""
    places = (folder.parent, store.path / "targets", store.path / STAGING)
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder.parents[1])): file.read_bytes() for file in files}


def read_scripts_of(store: Store, path: Path) -> Scripts:
    path.write_text(", ".join(store.taxonomy.actions[:3]) + "\n")
    return read_scripts(path, store.taxonomy)


def clear(store: Store, folder: Path) -> None:
    shutil.rmtree(folder.parent, ignore_errors=True)
    for name in store.target_names():
        store.remove(f"targets/{name}")


def test_a_killed_training_goes_on(store: Store, folder: Path, killed: Killed) -> None:
    teach(store, "t", NEW, folder)
    expected = state(store, folder)
    seen = set()
    for number in range(100):
        clear(store, folder)
        if not killed(lambda: teach(store, "t", NEW, folder), number):
            break
        there = (folder.exists(), pending(folder), store.target_names() == ["t"])
        seen.add(there)
        teach(store, "t", NEW, folder)
        assert state(store, folder) == expected
    # Nothing yet, the teacher alone, both before that was said, and both.
    nothing, alone, both = (False, False, False), (True, True, False), (True, True, True)
    assert seen == {nothing, alone, both, (True, False, True)}


def test_a_killed_training_that_replaces_goes_on(
    store: Store, folder: Path, killed: Killed
) -> None:
    """Never is a teacher there that is neither, nor a finished one with another one's targets."""
    teach(store, "t", NEW, folder)
    new = state(store, folder)
    clear(store, folder)
    for number in range(100):
        teach(store, "t", OLD, folder, overwrite=True)
        old = state(store, folder)
        if not killed(lambda: teach(store, "t", NEW, folder, overwrite=True), number):
            break
        kept = json.loads((folder / "teacher.json").read_text())["config"]["order"]
        targets = store.targets("t").attributes["config"]["order"]
        assert (kept, targets) in ((1, 1), (2, 1), (2, 2))
        assert kept == targets or pending(folder)
        teach(store, "t", NEW, folder, overwrite=True)
        assert state(store, folder) == new
    assert number >= 3
    assert old != new


def test_an_unfinished_teacher_does_not_cost_other_targets(
    store: Store, folder: Path, killed: Killed
) -> None:
    """They may have come from elsewhere since it was killed."""
    teach(store, "other", OLD, folder.with_name("other"))
    number = 0
    while not pending(folder):
        clear(store, folder)
        assert killed(lambda: teach(store, "t", NEW, folder), number)
        number += 1
    assert store.target_names() == []
    teach(store, "t", OLD, folder.with_name("elsewhere"))
    before = store.targets("t").logits
    with pytest.raises(AlreadyExists, match="soft targets of this name"):
        teach(store, "t", NEW, folder)
    np.testing.assert_array_equal(store.targets("t").logits, before)
    teach(store, "t", NEW, folder, overwrite=True)
    assert not pending(folder)


def test_a_finished_teacher_is_not_replaced_unasked(store: Store, folder: Path) -> None:
    teach(store, "t", OLD, folder)
    before = state(store, folder)
    for name in ("t", "x"):
        with pytest.raises(AlreadyExists, match="a teacher is already here"):
            teach(store, name, NEW, folder)
    with pytest.raises(AlreadyExists, match="soft targets of this name are already there"):
        teach(store, "t", NEW, folder.with_name("x"))
    assert state(store, folder) == before


def test_what_is_done_is_not_done_again(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very same training alone: not after other labels, scripts, versions or models came."""
    first = teach(store, "t", NEW, folder)
    before = state(store, folder)
    again = teach(store, "t", NEW, folder)
    assert "teachers/t: this training is done already; nothing is trained" in caplog.text
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)
    scripts = read_scripts_of(store, folder.with_name("scripts.txt"))
    with pytest.raises(AlreadyExists, match="already here"):
        teach(store, "t", NEW, folder, scripts=scripts)
    with pytest.raises(AlreadyExists, match="already here"):
        teach(store, "t", NEW, folder, top_k=3)
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "__version__", "0.0.0")
        with pytest.raises(AlreadyExists, match="already here"):
            teach(store, "t", NEW, folder)
    assert state(store, folder) | {} == {**state(store, folder), **before}
    held = store.labels("validation")
    more = replace(held, uid=np.char.add("more ", held.uid))
    store.write_labels("test", more, store.taxonomy, source="test")
    with pytest.raises(AlreadyExists, match="already here"):
        teach(store, "t", NEW, folder)
    model = folder.with_name("model")
    model.mkdir()
    assert keeping.folder_state("no such folder, but a hub's id") == []
    one = keeping.folder_state(str(model))
    (model / "weights").write_text("other")
    assert keeping.folder_state(str(model)) != one


def test_a_store_that_can_not_be_written_is_no_dead_end(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise WriteFailed("can't be written (No space left on device)", where="targets/t")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_targets", refuse)
        with pytest.raises(WriteFailed, match=r"targets/t: .*No space left"):
            teach(store, "t", NEW, folder)
    teach(store, "t", NEW, folder)
    assert not pending(folder)
    assert store.target_names() == ["t"]


@pytest.mark.parametrize("text", ["", "[]", '{"targets": "t", "pending": true}', "\x00"])
def test_a_note_that_can_not_be_read_is_that_of_an_unfinished_one(
    store: Store, folder: Path, text: str
) -> None:
    teach(store, "t", OLD, folder)
    (folder / MADE).write_text(text)
    with pytest.raises(AlreadyExists, match="soft targets of this name"):
        teach(store, "t", NEW, folder)
    store.remove("targets/t")
    teach(store, "t", NEW, folder)
    assert not pending(folder)


def test_a_killed_ensemble_goes_on(store: Store, folder: Path, killed: Killed) -> None:
    for name, config in (("one", OLD), ("two", NEW)):
        teach(store, name, config, folder.with_name(name))
    config = EnsembleConfig(members=("one", "two"))
    ensemble(store, "t", config, folder)
    expected = state(store, folder)
    for number in range(100):
        shutil.rmtree(folder)
        store.remove("targets/t")
        if not killed(lambda: ensemble(store, "t", config, folder), number):
            break
        ensemble(store, "t", config, folder)
        assert state(store, folder) == expected
    assert number >= 3


def test_an_ensemble_replaces_nothing_unasked(store: Store, folder: Path) -> None:
    for name, config in (("one", OLD), ("two", NEW)):
        teach(store, name, config, folder.with_name(name))
    config = EnsembleConfig(members=("one", "two"))
    ensemble(store, "t", config, folder)
    before = state(store, folder)
    other = EnsembleConfig(members=("two", "one"))
    for name, place in (("t", folder), ("x", folder), ("t", folder.with_name("x"))):
        with pytest.raises(AlreadyExists, match=r"already (there|here)"):
            ensemble(store, name, other, place, overwrite=False)
    assert state(store, folder) == before
    ensemble(store, "t", other, folder, overwrite=True)
    assert store.targets("t").attributes["members"] == ["two", "one"]


def test_another_training_is_waited_for_by_nobody(
    store: Store, folder: Path, held_elsewhere
) -> None:
    folder.parent.mkdir()
    with held_elsewhere(folder.with_name(".t.lock")):
        with pytest.raises(AlreadyExists, match=r"teachers/t: another process is training it"):
            teach(store, "t", NEW, folder)
        teach(store, "u", NEW, folder.with_name("u"))
    teach(store, "t", NEW, folder)


def test_each_store_has_teachers_of_its_own(
    tmp_path: Path, splits, taxonomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the command is started; of a store at a URL in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("one.zarr", "two.zarr", "one.h5"):
        store = Store.create(tmp_path / "data" / name)
        store.write_splits(splits, taxonomy, source="test")
        words = ["teacher", "train", str(store.path), "--name", "t", "--folds", "0", "--json"]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, result.output
        folder = tmp_path / "data" / f"{name}.teachers" / "t"
        assert json.loads(result.stdout)["teacher"] == str(folder)
        assert (folder / "teacher.json").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
    url = Store.create("memory://bucket/kitchen.zarr")
    assert teacher_folder(url, "t") == Path("kitchen.zarr.teachers/t")


def test_an_account_that_nests_without_end_is_none(tmp_path: Path) -> None:
    """It is known that something was made, and not by what."""
    (tmp_path / MADE).write_text("[" * 200_000)
    assert keeping._read(tmp_path / MADE) == {"pending": True}
    (tmp_path / adapt.REPORT_FILE).write_text("[" * 200_000)
    assert adapt._report(tmp_path) is None
    assert holder.Holder.read(b"[" * 200_000) is None
