"""The contract of a backend: how units and attributes are kept.

Promise: `publish` is all or nothing; a reader, another process or the next run never sees half of a
unit. All meaning (labels, features, targets) is in `Store`; backends only know keys, arrays and
attributes. The tree has two levels at most, so a key says what it is: `""`, `labels`, `targets`,
`features` and `features/<stream>` are groups, what lies in them is a unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from antcache.errors import AntcacheError, DamagedStore, MissingKey
from antcache.store.format import CHECKSUMS, Arrays, checksums
from antcache.store.location import Location

METADATA = "metadata"
"""What `Backend.damage` calls a unit's attributes and everything else that is no array."""

Attributes = dict[str, Any]


class LazyArray(Protocol):
    """An array in the store: known shape and type, read where it is sliced (slices only)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values."""

    def __getitem__(self, index: Any) -> Any: ...


Unit = tuple[dict[str, LazyArray], Attributes]


class Backend(ABC):
    """One kind of store at `root`; keys are `/`-separated."""

    def __init__(self, root: Location, *, memory_map: bool = True) -> None:
        self.root = root
        self.memory_map = memory_map

    @classmethod
    @abstractmethod
    def recognises(cls, root: Location) -> bool:
        """Whether `root` is, or was before it was damaged, a store of this kind."""

    @abstractmethod
    def create(self) -> None:
        """Make the place for a new store at `root`.

        Raises:
            WriteFailed: the disk refused.
        """

    @abstractmethod
    def group_attributes(self, key: str) -> Attributes:
        """Attributes of the group `key` (`""` is the root); empty if there is none.

        Raises:
            DamagedStore: they are not what was written.
        """

    @abstractmethod
    def set_group_attributes(self, key: str, attributes: Attributes) -> None:
        """Create the group `key` if needed and set its attributes, atomically.

        Attributes that are there and not named stay.

        Raises:
            WriteFailed: the disk refused; nothing was changed.
        """

    @abstractmethod
    def groups(self, key: str) -> list[str]:
        """Names of the groups in the group `key`, sorted."""

    @abstractmethod
    def units(self, key: str) -> list[str]:
        """Names of the units published in the group `key`, sorted."""

    @abstractmethod
    def has(self, key: str) -> bool:
        """Whether the unit `key` is published."""

    @abstractmethod
    def publish(
        self,
        key: str,
        arrays: Arrays,
        attributes: Attributes,
        *,
        overwrite: bool = False,
        compressed: bool = False,
    ) -> None:
        """Write a unit, read it back, and make it visible as a whole.

        Raises:
            AlreadyExists: it is there and `overwrite` is false; nothing is changed.
            DamagedStore: what was read back differs from what was written; nothing is published.
            WriteFailed: the disk refused; nothing is published.
        """

    @abstractmethod
    def remove(self, key: str) -> None:
        """Take the unit `key` out of the store: first out of sight, then off the disk.

        Raises:
            MissingKey: it is not there.
            WriteFailed: the disk refused.
        """

    @abstractmethod
    def claim(self, key: str) -> AbstractContextManager[bool]:
        """Say that this process works on the unit `key`; false if another one does.

        A claim ends with its context or its process. It is a courtesy that saves work: `publish`
        is safe without it.
        """

    @abstractmethod
    def damage(self, key: str) -> list[str]:
        """What of the unit `key` is not as it was written: names of arrays, or `METADATA`.

        Every stored byte is read; empty means that each is as it was.
        """

    @abstractmethod
    def group_damaged(self, key: str) -> bool:
        """Whether the attributes of the group `key` are there and not as they were written."""

    @abstractmethod
    def _open(self, key: str) -> Unit:
        """Open the unit `key`, which is published."""

    def where(self, key: str) -> str:
        """The unit or group `key` for an error message."""
        return f"{self.root}: {key}" if key else str(self.root)

    def open(self, key: str) -> Unit:
        """Arrays (lazy) and attributes of the unit `key`.

        Raises:
            MissingKey: it is not published.
            DamagedStore: it can't be read.
        """
        if not self.has(key):
            raise MissingKey("not in the store", where=self.where(key))
        try:
            return self._open(key)
        except AntcacheError:
            raise
        except (OSError, ValueError, KeyError) as error:
            raise damaged(self.where(key), f"{type(error).__name__}: {error}") from error


def damaged(where: object, why: str) -> DamagedStore:
    """The error for a unit that can't be read."""
    return DamagedStore(
        f"can't be read ({why})", where=where, hint="antcache store repair drops what is damaged"
    )


def differing(arrays: dict[str, LazyArray], attributes: Attributes) -> list[str]:
    """Names of the arrays whose values are not those that the unit's checksums speak of."""
    wanted = attributes.get(CHECKSUMS)
    if not isinstance(wanted, dict):
        return [METADATA]
    wrong = sorted(wanted.keys() ^ arrays.keys())
    for name in sorted(wanted.keys() & arrays.keys()):
        try:
            found = checksums({name: np.asarray(arrays[name][...])})[name]
        except (OSError, ValueError, KeyError, RuntimeError):
            found = "unreadable"
        if found != wanted[name]:
            wrong.append(name)
    return wrong


def strings(array: NDArray[Any]) -> bool:
    """Whether an array holds text."""
    return array.dtype.kind in "UTO"
