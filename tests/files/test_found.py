"""What is in a folder, told in one look, whoever makes or removes the folder meanwhile."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antcache.errors import AlreadyExists
from antcache.files import found_at, is_vacant
from antcache.store import Store
from antcache.store.backends import is_empty
from antcache.store.format import STAGING
from antcache.student.config import StudentConfig
from antcache.student.runs.place import LOG, check_place
from antcache.student.sweeps.plan import Sweep
from antcache.student.sweeps.run import TABLE, check_folder

LEFT = ".table.json." + "0123456789abcdef" * 2
SWEEP = Sweep(settings={"lr=0.1": StudentConfig.from_dict({})}, seeds=(0,))


def place_is_free(path: Path) -> bool:
    try:
        check_place(path, resume=False)
    except AlreadyExists:
        return False
    return True


def folder_is_free(path: Path) -> bool:
    try:
        check_folder(path, SWEEP)
    except AlreadyExists:
        return False
    return True


LOOKS: dict[str, tuple[Callable[[Path], bool], tuple[str, ...]]] = {
    "an output": (is_vacant, ()),
    "a store": (is_empty, (STAGING,)),
    "a run": (place_is_free, (LOG, ".lock")),
    "a sweep": (folder_is_free, (LOG, ".lock", TABLE, "lr=0.1")),
}
"""Whether something may begin at a path, and names that don't hinder it."""


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest) -> Callable[[Path], bool]:
    return LOOKS[request.param][0]


@pytest.mark.parametrize("what", LOOKS)
def test_what_hinders(what: str, tmp_path: Path) -> None:
    free, names = LOOKS[what]
    folder = tmp_path / "folder"
    assert free(folder)
    folder.mkdir()
    assert free(folder)
    for name in (LEFT, *names):
        (folder / name).touch()
        assert free(folder)
    (folder / "notes.txt").touch()
    assert not free(folder)
    assert found_at(folder, names) == ["notes.txt"]


def test_what_is_no_folder_hinders(look: Callable[[Path], bool], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "link", "loop"):
        assert not look(tmp_path / name)
        assert found_at(tmp_path / name) == [name]
    for name in ("file/below", "loop/below", "n" * 300):
        assert look(tmp_path / name)  # that it can't be made is said when it is made


def test_what_can_not_be_looked_into_is_not_called_free(
    look: Callable[[Path], bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PermissionError):
        look(tmp_path)


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_comes_and_goes_hinders_nobody(
    look: Callable[[Path], bool], there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process makes or removes it after each look at it."""
    folder, looks = tmp_path / "folder", itertools.count(there)
    if there:
        folder.mkdir()

    def restless(usual: Callable[..., Any]) -> Callable[..., Any]:
        def look_at(path: Any = ".", *given: Any, **named: Any) -> Any:
            try:
                return usual(path, *given, **named)
            finally:
                if str(path) == str(folder):
                    (os.rmdir if next(looks) % 2 else os.mkdir)(folder)

        return look_at

    with monkeypatch.context() as patch:
        for name in ("stat", "lstat", "listdir", "scandir"):
            patch.setattr(os, name, restless(getattr(os, name)))
        assert look(folder)
    assert next(looks) > there


def test_a_store_is_made_beside_what_killed_writers_left(tmp_path: Path) -> None:
    (tmp_path / LEFT).touch()
    assert is_empty(tmp_path)
    assert Store.create(tmp_path).videos("rgb") == []
