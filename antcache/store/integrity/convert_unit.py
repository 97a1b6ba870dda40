"""One unit of a store on its way into another: checked, converted, and known when it is there.

Promise: what `UnitCopy.read` returns is what was written; a value whose type changes is rounded
once; what the rounding changed is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import AlreadyExists, DamagedStore
from antcache.store.backend import Attributes
from antcache.store.features import Stream
from antcache.store.format import CHECKSUMS, CONVERTED_FROM
from antcache.store.integrity.convert_tokens import convert_tokens
from antcache.store.integrity.rounding import Rounding, to_float16
from antcache.store.store import Store


@dataclass(kw_only=True)
class UnitCopy:
    """A unit of the source, and what its copy says of itself.

    Attributes:
        key: its name in both stores.
        attributes: as in the source.
        num_bytes: size of its values, text not counted.
        old: its stream in the source; None for labels and soft targets.
        new: its stream in the target.
        rounding: what changed, once it was converted.
    """

    key: str
    attributes: Attributes
    num_bytes: int
    old: Stream | None = None
    new: Stream | None = None
    rounding: Rounding = field(default_factory=Rounding)

    @property
    def streams(self) -> tuple[Stream, Stream] | None:
        """Its old and its new stream, if values change on the way; else None."""
        if self.old is None or self.new is None:
            return None
        changed = (self.old.dtype, self.old.grid) != (self.new.dtype, self.new.grid)
        return (self.old, self.new) if changed else None

    @property
    def wanted(self) -> Attributes:
        """Attributes of the copy; without checksums where the values change."""
        if self.streams is None:
            return self.attributes
        old, new = self.streams
        before = {"dtype": old.dtype, CHECKSUMS: self.attributes.get(CHECKSUMS)}
        if old.grid is not None:
            before |= {"fingerprint": old.fingerprint, "grid": list(old.grid)}
        if CONVERTED_FROM in self.attributes:
            before[CONVERTED_FROM] = self.attributes[CONVERTED_FROM]
        own = {"fingerprint": new.fingerprint, CONVERTED_FROM: before}
        return {**{k: v for k, v in self.attributes.items() if k != CHECKSUMS}, **own}

    def is_in(self, target: Store) -> bool:
        """Whether the target has the copy.

        Raises:
            AlreadyExists: it has something else under this name.
        """
        if not target.backend.has(self.key):
            return False
        there = target.backend.open(self.key)[1]
        if self.streams is not None:  # what the new checksums will be is not known yet
            there.pop(CHECKSUMS, None)
        if there != self.wanted:
            raise AlreadyExists(
                "the target has something else here",
                where=target.backend.where(self.key),
                found=f"other {', '.join(apart(there, self.wanted))}",
                hint="convert into a new store, or remove this from the target first",
            )
        return True

    def read(self, source: Store) -> dict[str, NDArray[Any]]:
        """Arrays of the copy.

        Raises:
            DamagedStore: the unit of the source is not as it was written.
            BadConfig: its values don't fit the new type.
        """
        where = source.backend.where(self.key)
        try:
            if self.streams is not None and self.streams[0].grid is not None:
                video = self.key.rpartition("/")[2]
                features = source.features(self.streams[0].name, video, settings=self.streams[0])
                arrays, self.rounding = convert_tokens(features, *self.streams, where)
                return arrays
            arrays = source.backend.read(self.key)[0]
        except DamagedStore as error:
            raise DamagedStore(f"{error}; it was not copied") from error
        if self.streams is not None and self.streams[1].dtype == "float32":
            arrays["rows"] = arrays["rows"].astype(np.float32)
        elif self.streams is not None:
            arrays["rows"], self.rounding = to_float16(arrays["rows"], where)
        return arrays


def apart(one: Attributes, other: Attributes) -> list[str]:
    """Names of the attributes in which two units differ."""
    return sorted(k for k in {*one, *other} if one.get(k) != other.get(k))
