"""The contract of a backend: how units and attributes are kept on disk.

Promise: `publish` is all or nothing. A unit is written under a staging name, read back, and made
visible by one rename; a reader, another process or the next run never sees half of it. All meaning
(labels, features, targets) is in `Store`; backends only know keys, arrays and attributes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from antcache.errors import AlreadyExists, DamagedStore, MissingKey
from antcache.store.format import Arrays, checksum

STAGING = ".staging"
Attributes = dict[str, Any]


class LazyArray(Protocol):
    """An array on disk: known shape and type, read where it is sliced (slices only)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""

    def __getitem__(self, index: Any) -> Any: ...


class Backend(ABC):
    """One kind of store on disk, rooted at `path`; keys are `/`-separated."""

    suffix: str
    """What a published unit's name ends in on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether `path` is the root of a store of this kind (of any format)."""

    @abstractmethod
    def group_attributes(self, key: str) -> Attributes:
        """Attributes of the group `key` (`""` is the root); empty if there is none."""

    @abstractmethod
    def set_group_attributes(self, key: str, attributes: Attributes) -> None:
        """Create the group `key` if needed and set its attributes, atomically."""

    @abstractmethod
    def groups(self, key: str) -> list[str]:
        """Names of the groups in the group `key`, sorted."""

    @abstractmethod
    def _write(self, path: Path, arrays: Arrays, attributes: Attributes) -> None:
        """Write a unit at `path`, which nobody else knows."""

    @abstractmethod
    def _open(self, path: Path) -> tuple[dict[str, LazyArray], Attributes]:
        """Open the unit at `path` for reading."""

    def location(self, key: str) -> Path:
        """Where the unit `key` lies once it is published."""
        return self.path / f"{key}{self.suffix}"

    def has(self, key: str) -> bool:
        """Whether the unit `key` is published."""
        return self.location(key).exists()

    def units(self, key: str) -> list[str]:
        """Names of the units published in the group `key`, sorted."""
        folder = self.path / key
        if not folder.is_dir():
            return []
        names = (p.name for p in folder.iterdir() if self._is_unit(p))
        return sorted(name.removesuffix(self.suffix) for name in names)

    @abstractmethod
    def _is_unit(self, path: Path) -> bool:
        """Whether a unit, not a group or anything else, lies at `path`."""

    def open(self, key: str) -> tuple[dict[str, LazyArray], Attributes]:
        """Arrays (lazy) and attributes of the unit `key`.

        Raises:
            MissingKey: it is not published.
            DamagedStore: it can't be read.
        """
        if not self.has(key):
            raise MissingKey("not in the store", where=f"{self.path}: {key}")
        try:
            return self._open(self.location(key))
        except (OSError, ValueError, KeyError) as error:
            raise DamagedStore(
                f"can't be read ({type(error).__name__}: {error})",
                where=self.location(key),
                hint="remove this unit and write it again",
            ) from error

    def publish(
        self, key: str, arrays: Arrays, attributes: Attributes, *, overwrite: bool = False
    ) -> None:
        """Write a unit and make it visible with one rename.

        Raises:
            AlreadyExists: it is there and `overwrite` is false; nothing is changed.
            DamagedStore: what was read back differs from what was written; nothing is published.
        """
        target = self.location(key)
        if target.exists() and not overwrite:
            raise AlreadyExists("already in the store", where=f"{self.path}: {key}")
        expected = checksum(arrays)
        with self._staging() as staging:
            staged = staging / f"unit{self.suffix}"
            self._write(staged, arrays, {**attributes, "checksum": expected})
            written, _ = self._open(staged)
            if checksum({name: np.asarray(a[...]) for name, a in written.items()}) != expected:
                raise DamagedStore(
                    "what was read back is not what was written",
                    where=f"{self.path}: {key}",
                    hint="check the disk; nothing was published",
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            if overwrite and target.exists():
                target.rename(staging / f"replaced{self.suffix}")
            self._rename(staged, target)

    def _rename(self, staged: Path, target: Path) -> None:
        """Publish `staged` as `target`, unless another process was faster."""
        try:
            staged.rename(target)  # a folder is never renamed over one that holds something
        except OSError as error:
            if target.exists():
                raise AlreadyExists("already in the store", where=target) from error
            raise

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder of our own on the store's disk, removed afterwards whatever happens."""
        folder = self.path / STAGING / f"{os.getpid()}-{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # other writers may still be in it
                folder.parent.rmdir()

    def remove(self, key: str) -> None:
        """Take the unit `key` out of the store: first out of sight, then off the disk."""
        if not self.has(key):
            raise MissingKey("not in the store", where=f"{self.path}: {key}")
        with self._staging() as staging:
            self.location(key).rename(staging / f"removed{self.suffix}")


def read_json(path: Path) -> Attributes:
    """The JSON object in a file; empty where there is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def strings(array: NDArray[Any]) -> bool:
    """Whether an array holds text."""
    return array.dtype.kind in "UTO"
