"""Stores and runs that tests begin with: each is made once in a process, and copied for whoever
asks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

import pytest

from antcache.store import Store

KINDS = ("zarr", "hdf5")


def in_turn(cases: Iterable[Any]) -> list[tuple[str, Any]]:
    """Each case with a kind of store, where what is looked at knows nothing of kinds: every other
    one with the one, the rest with the other."""
    return [(KINDS[number % 2], case) for number, case in enumerate(cases)]


class Shelf:
    """Folders that are kept for as long as tests run, by what they were made of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[Hashable, tuple[Path, Any]] = {}

    def copied(self, path: Path, key: Hashable, make: Callable[[Path], Any]) -> Any:
        """Copy the folder that `make` makes to `path`; under one key it makes one and the same.

        What it returned is given back, to be left as it is.
        """
        if key not in self._kept:
            kept = self._folder / f"{len(self._kept)}"
            self._kept[key] = kept, make(kept)
        kept, made = self._kept[key]
        shutil.copytree(kept, path)
        return made

    def store(self, path: Path, key: Hashable, write: Callable[[Path], Any]) -> Store:
        """The store that `write` makes, at `path`; under one key it makes one and the same."""
        self.copied(path, key, write)
        return Store.open(path)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Where stores are kept that tests get copies of."""
    return Shelf(tmp_path_factory.mktemp("shelf"))
