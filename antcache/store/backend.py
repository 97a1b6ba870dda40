"""The contract of a backend: how units and attributes are kept.

Promise: `publish` is all or nothing; a reader, another process or the next run never sees half of a
unit. All meaning (labels, features, targets) is in `Store`; backends only know keys, arrays and
attributes. The tree has two levels at most, so a key says what it is: `""`, `labels`, `targets`,
`features` and `features/<stream>` are groups, what lies in them is a unit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import (
    AlreadyExists,
    AntcacheError,
    DamagedStore,
    MissingKey,
    Unreachable,
    WriteFailed,
)
from antcache.store.faults import UNREADABLE, Misplaced, damaged, lost, refused, says_nothing
from antcache.store.format import (
    CHECKSUMS,
    GROUPS,
    MARK,
    Arrays,
    LazyArray,
    checksum,
    checksums,
    join,
    may_lie_in,
)
from antcache.store.location import Location
from antcache.store.reading.indexing import Indexing
from antcache.store.reading.proof import Count, uncounted
from antcache.store.seal import attributes_of, intact, mended, sealed

METADATA = "metadata"
"""What `Backend.damaged_parts` calls a unit's attributes and everything else that is no array."""

PLACE = "place"
"""What it says of a unit that belongs elsewhere."""

MARK_BYTES = 1024
"""A damaged root that is longer is not looked into for our mark; ours are a quarter of that."""

CHANGES = 30
"""How often the attributes of a group are tried to be changed while other processes do: each time,
one of them has succeeded."""

Attributes = dict[str, Any]

CARRIED = "group"
"""Attribute of a stored unit: the attributes of its group, so that those can be restored."""

KEY = "key"
"""Attribute of a stored unit or group: its own key. Older ones have none."""


Unit = tuple[dict[str, LazyArray], Attributes]


class Backend(Indexing, ABC):
    """One kind of store at `root`; keys are `/`-separated.

    Attributes:
        form: zarr or hdf5.
        root: folder, or URL.
        group_file: name of the file with the attributes of a group.
        group_frame: the JSON document that these attributes lie in, if they are not all of it.
        can_wait: whether `exclusively` waits for other processes.
        retry_when: what has to be otherwise before a write that failed is tried again.
    """

    form: str
    group_file: str
    group_frame: Mapping[str, Any] | None = None
    can_wait = True
    retry_when: str

    def __init__(self, root: Location) -> None:
        self.root = root

    def is_store(self) -> bool:
        """Whether a store of this kind is, or was before it was damaged, at `root`."""
        text = self.group_text("") or b""
        if MARK in attributes_of(text):
            return True
        if intact(text):  # the file of something inside a store
            return False
        # A damaged mark is known by what it was, or by what lies beside it.
        beside = (self.group_text(key) or b"" for key in GROUPS)
        return any(b'"seal"' in each for each in beside) or (
            len(text) <= MARK_BYTES and MARK in attributes_of(mended(text) or b"")
        )

    def create(self, attributes: Attributes) -> None:
        """Make a new store at `root`, whose root group has these attributes.

        Raises:
            AlreadyExists: something is there; of several processes at once, one makes it.
            WriteFailed: the disk refused.
        """
        if not self._swap_group_text("", self.sealed_group("", attributes), was=None):
            raise AlreadyExists("another process has just made a store here", where=self.root)

    def group_attributes(self, key: str) -> Attributes:
        """Attributes of the group `key` (`""` is the root); empty if there is none.

        Raises:
            DamagedStore: they are not what was written, or those of another group.
        """
        return self._attributes(key, self.group_text(key))

    def _attributes(self, key: str, text: bytes | None) -> Attributes:
        """Attributes of the group `key`, whose text this is."""
        if text is None:
            if not (self.units(key) or self.groups(key) or self._has_group_file(key)):
                return {}
            # What something is in was made before: by another process just now, or it is lost.
            text = self.group_text(key)
        if text is None or (wrong := _wrong(key, text)):
            raise DamagedStore(
                "gone" if text is None else wrong,
                where=join(str(self.root), key, self.group_file),
                hint="antcache store repair restores it",
            )
        attributes = attributes_of(text)
        attributes.pop(KEY, None)
        return attributes

    def group_damaged(self, key: str) -> bool:
        """Whether the attributes of the group `key` are not as they were written, or gone although
        the group holds something, or those of another group."""
        try:
            self.group_attributes(key)
        except DamagedStore:
            return True
        return False

    def set_group_attributes(self, key: str, attributes: Attributes) -> None:
        """Create the group `key` if needed and set its attributes, atomically.

        Attributes that are there and not named stay. No change of another process is lost, on a
        disk that has locks, or where objects can be replaced on condition, as on S3.

        Raises:
            WriteFailed: the disk refused; nothing was changed.
        """
        self.change_group(key, lambda old: {**old, **attributes})

    def add_group_attributes(
        self, key: str, attributes: Attributes, *, unless: str = ""
    ) -> Attributes:
        """Create the group `key` if needed, and give it the attributes that it does not have yet;
        none of them if it has the one that is called `unless`.

        Of several processes that do so at once, the first one's stay: each learns from what is
        returned whether they are its own. Only where objects can't be created on condition (S3,
        Google and Azure can) those of one do, and it may be that only the next call tells another.

        Returns:
            All attributes that the group has then.

        Raises:
            WriteFailed: the disk refused; nothing was changed.
        """

        def completed(old: Attributes) -> Attributes:
            if old.get(unless) is not None:
                return old
            return {**old, **{k: v for k, v in attributes.items() if old.get(k) is None}}

        while self.change_group(key, completed):
            pass  # what is there then is looked at
        return self.group_attributes(key)

    def change_group(self, key: str, changed: Callable[[Attributes], Attributes]) -> bool:
        """Let the group `key` be there with what `changed` makes of its attributes, atomically;
        false if it was.

        No change of another process is lost; see `set_group_attributes`.

        Raises:
            WriteFailed: the disk refused; nothing was changed.
        """
        above, _, _ = key.rpartition("/")
        if above and self.group_text(above) is None:  # no gaps in a hierarchy, for plain readers
            self.set_group_attributes(above, {})
        for _ in range(CHANGES):
            text = self.group_text(key)
            old = self._attributes(key, text)
            new = changed(old)
            if text is not None and new == old:
                return False
            if self._swap_group_text(key, self.sealed_group(key, new), was=text):
                return True
        raise WriteFailed(
            "can't be written (other processes keep changing it)",
            where=self.where(key),
            hint="run the command again",
        )

    def sealed_group(self, key: str, attributes: Attributes) -> bytes:
        """The sealed text of the group `key` with these attributes."""
        return sealed({**attributes, KEY: key}, self.group_frame)

    @abstractmethod
    def group_text(self, key: str) -> bytes | None:
        """The sealed text of the group `key` as it lies there, damaged or not; None if gone."""

    @abstractmethod
    def set_group_text(self, key: str, text: bytes | None) -> None:
        """Replace the sealed text of the group `key`, atomically, whatever it was; None removes it.

        Raises:
            WriteFailed: the disk refused; nothing was changed.
        """

    @abstractmethod
    def _swap_group_text(self, key: str, text: bytes, *, was: bytes | None) -> bool:
        """`set_group_text` if it still `was` this, None being a group that is not there; else
        false, and nothing is changed."""

    @abstractmethod
    def exclusively(self, key: str) -> AbstractContextManager[object]:
        """Be the only one that changes the group `key` in this way, and what is in it.

        Raises:
            AlreadyExists: another process does, and can't be waited for.
            WriteFailed: the disk refused.
        """

    def groups(self, key: str) -> list[str]:
        """Names of the groups in the group `key`, sorted."""
        # A folder without attributes is damaged if it holds units, else none of ours.
        return [
            name
            for name in self._folders(key)
            if may_lie_in(key, name)
            and (self._has_group_file(join(key, name)) or self.units(join(key, name)))
        ]

    @abstractmethod
    def _folders(self, key: str) -> list[str]:
        """Names of the folders in the group `key`, sorted."""

    @abstractmethod
    def _has_group_file(self, key: str) -> bool:
        """Whether anything lies where the attributes of the group `key` would."""

    @abstractmethod
    def has(self, key: str) -> bool:
        """Whether the unit `key` is published."""

    def value_bytes(self, key: str, array: str) -> dict[str, int]:
        """Bytes of the values of an array in each unit of the group `key`, by name, none of them
        compressed; 0 where there is no such array.

        As they lie there: nothing is compared with a hash. Our own backends open no unit for it
        but those whose values lie in several chunks, of which the last may be filled up.

        Raises:
            DamagedStore: a unit does not say it.
        """
        return {name: self._value_bytes(join(key, name), array) for name in self.units(key)}

    def _value_bytes(self, key: str, array: str) -> int:
        """The same of one unit, which is opened."""
        found = self.open(key)[0].get(array)
        return 0 if found is None else math.prod(found.shape) * found.dtype.itemsize

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

    def publish_group(
        self, key: str, attributes: Attributes, units: Mapping[str, tuple[Arrays, Attributes]]
    ) -> None:
        """Publish several units of the group `key`, whose attributes they go with.

        Units of the same names are replaced: old and new ones are never there together. A backend
        that can does it all in one step. Else those that are replaced go first, and the new ones
        come one by one: killed in between, some are missing until the same is done again.

        Args:
            key: the group, which this process changes `exclusively`.
            attributes: of the group; those that are there and not named stay.
            units: name -> arrays and attributes.

        Raises:
            DamagedStore: what was read back differs from what was written.
            WriteFailed: the disk refused.
        """
        for name in units:
            if self.has(f"{key}/{name}"):
                self.remove(f"{key}/{name}")
        self.set_group_attributes(key, attributes)
        for name, (arrays, own) in units.items():
            self.publish(f"{key}/{name}", arrays, own)

    def remove(self, key: str) -> None:
        """Take the unit `key` out of the store: first out of sight, then off the disk.

        Raises:
            MissingKey: it is not there.
            WriteFailed: the disk refused.
        """
        self._require(key)
        with self._writing(key):
            self._remove(key)

    @abstractmethod
    def _remove(self, key: str) -> None:
        """`remove` a unit that is there."""

    @abstractmethod
    def claim(self, key: str) -> AbstractContextManager[bool]:
        """Say that this process works on the unit `key`; false if another one does.

        A claim ends with its context or its process. It is a courtesy that saves work: `publish`
        is safe without it.
        """

    @abstractmethod
    def remove_leftovers(self) -> None:
        """Remove what killed writers left, as far as that can be told from work in progress."""

    def damaged_parts(self, key: str, count: Count = uncounted) -> list[str]:
        """What of the unit `key` is not as it was written: names of arrays, `METADATA`, or
        `PLACE` if it is that of another key.

        Every stored byte is read, in pieces; empty means that each is as it was.

        Raises:
            OSError: it can't be read now, which does not say that it is damaged (see `lost`).
        """
        try:
            wrong = self._damaged_parts(key, count)
            if not wrong:
                self.open(key)  # somebody may have sealed what is no unit
        except Misplaced:
            return [PLACE]
        except OSError as error:
            if not lost(error):
                raise
            return [METADATA]
        return wrong

    @abstractmethod
    def _damaged_parts(self, key: str, count: Count) -> list[str]:
        """As `damaged_parts`, by the hashes alone."""

    def foreign_entries(self) -> dict[str, str]:
        """What stands in the store where a folder of its own would, and leads out of it, by name:
        a symbolic link, say. Nothing looks into it."""
        return {}

    def remove_foreign(self, name: str) -> None:
        """Remove one of `foreign_entries`, and nothing that it leads to.

        Raises:
            KeyError: it is none.
            WriteFailed: the disk refused.
        """
        raise KeyError(name)

    @abstractmethod
    def _open(self, key: str) -> Unit:
        """Open the unit `key`, which is published; its attributes are `unit_attributes`."""

    def unit_attributes(
        self, key: str, arrays: Arrays, attributes: Attributes, group: Attributes | None = None
    ) -> Attributes:
        """Attributes of a unit as they are stored: with its checksums, its key, and what its group
        says.

        `group` is what it will say, where that is not what it says now.
        """
        own = {**attributes, CHECKSUMS: checksums(arrays), KEY: key}
        if group is None:
            group = self.group_attributes(key.rpartition("/")[0])
        return {**own, CARRIED: group} if group else own

    def group_at_publishing(self, key: str) -> Attributes | None:
        """The attributes that its group had when the intact unit `key` was published."""
        return self._open(key)[1].get(CARRIED)

    def where(self, key: str) -> str:
        """The unit or group `key` for an error message."""
        return f"{self.root}: {key}" if key else str(self.root)

    def open(self, key: str) -> Unit:
        """Arrays (lazy) and attributes of the unit `key`.

        Raises:
            MissingKey: it is not published.
            DamagedStore: it can't be read.
        """
        self._require(key)
        with self.reading(key):
            arrays, attributes = self._open(key)
        if (found := attributes.pop(KEY, key)) != key:
            raise Misplaced(found, self.where(key))
        attributes.pop(CARRIED, None)
        return arrays, attributes

    def _require(self, key: str) -> None:
        if not self.has(key):
            raise MissingKey("not in the store", where=self.where(key))

    def read(self, key: str) -> tuple[dict[str, NDArray[Any]], Attributes]:
        """Arrays (in memory) and attributes of the unit `key`, compared with its checksums.

        Raises:
            MissingKey: it is not published.
            DamagedStore: it can't be read, or is not as it was written.
        """
        lazy, attributes = self.open(key)
        with self.reading(key):
            arrays = {name: np.array(array[...]) for name, array in lazy.items()}
            wrong = differing_arrays(arrays, attributes)
        if wrong:
            raise damaged(self.where(key), f"{', '.join(wrong)} not as written")
        return arrays, attributes

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Turn what comes of bytes that make no sense into our error."""
        try:
            yield
        except AntcacheError:
            raise
        except UNREADABLE as error:
            if says_nothing(error):
                raise refused(self.where(key), error) from error
            raise damaged(self.where(key), f"{type(error).__name__}: {error}") from error

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """Turn what the disk, or the other side, says into our error."""
        try:
            yield
        except Unreachable as error:
            raise self._failed(key, error, error.reason) from error
        except AntcacheError:
            raise
        except OSError as error:
            raise self._failed(key, error, str(error.strerror or error)) from error

    def _failed(self, key: str, error: Exception, reason: str) -> WriteFailed:
        hint = f"what was published before is intact; run the command again when {self.retry_when}"
        return WriteFailed(f"can't be written ({reason})", where=self.where(key), hint=hint)


def _wrong(key: str, text: bytes) -> str:
    """What is wrong with the text of the group `key`; empty if nothing is."""
    if not intact(text):
        return "not as it was written"
    found = attributes_of(text).get(KEY, key)
    return "" if found == key else f"the file of another group ({found!r:.200})"


def differing_arrays(arrays: Mapping[str, LazyArray], attributes: Attributes) -> list[str]:
    """Names of the arrays whose values are not those that the unit's checksums speak of.

    Raises:
        What reading them raises.
    """
    wanted = attributes.get(CHECKSUMS)
    if not isinstance(wanted, dict):
        return [METADATA]
    wrong = wanted.keys() ^ arrays.keys()
    same = {name: arrays[name] for name in wanted.keys() & arrays.keys()}
    return sorted(wrong | {name for name, array in same.items() if checksum(array) != wanted[name]})
