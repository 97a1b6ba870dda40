"""One unit of a store on its way into another: checked, converted, and known when it is there.

Promise: what `UnitCopy.read` returns is what was written; a value whose type changes is rounded
once, to the nearest, and never becomes infinite; what the rounding changed is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import AlreadyExists, BadConfig, DamagedStore
from antcache.store.backend import Attributes
from antcache.store.features import BLOCK_BYTES, Stream
from antcache.store.format import CHECKSUMS
from antcache.store.store import Store

CONVERTED_FROM = "converted_from"
"""Attribute of a video whose type was changed: type and checksums of what it was made from."""

SMALLEST_NORMAL = 2.0**-14
"""Below this, float16 has fewer and fewer digits, down to none."""


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """What became of the values of a stream that went from float32 to float16.

    Attributes:
        largest_absolute: largest difference between a value and what it became.
        largest_relative: largest difference as a share of the value, among values of at least
            `SMALLEST_NORMAL`.
        became_zero: how many values other than 0 became 0.
    """

    largest_absolute: float = 0.0
    largest_relative: float = 0.0
    became_zero: int = 0

    def __or__(self, other: Rounding) -> Rounding:
        return Rounding(
            largest_absolute=max(self.largest_absolute, other.largest_absolute),
            largest_relative=max(self.largest_relative, other.largest_relative),
            became_zero=self.became_zero + other.became_zero,
        )


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
    def to_dtype(self) -> str | None:
        """The type that its rows get, None where nothing changes."""
        if self.old is None or self.new is None or self.old.dtype == self.new.dtype:
            return None
        return self.new.dtype

    @property
    def wanted(self) -> Attributes:
        """Attributes of the copy; without checksums where the values change."""
        if self.old is None or self.new is None or self.to_dtype is None:
            return self.attributes
        before = {"dtype": self.old.dtype, CHECKSUMS: self.attributes.get(CHECKSUMS)}
        if CONVERTED_FROM in self.attributes:
            before[CONVERTED_FROM] = self.attributes[CONVERTED_FROM]
        own = {"fingerprint": self.new.fingerprint, CONVERTED_FROM: before}
        return {**{k: v for k, v in self.attributes.items() if k != CHECKSUMS}, **own}

    def is_in(self, target: Store) -> bool:
        """Whether the target has the copy.

        Raises:
            AlreadyExists: it has something else under this name.
        """
        if not target.backend.has(self.key):
            return False
        there = target.backend.open(self.key)[1]
        if self.to_dtype is not None:  # what the new checksums will be is not known yet
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
        try:
            arrays = source.backend.read(self.key)[0]
        except DamagedStore as error:
            raise DamagedStore(f"{error}; it was not copied") from error
        if self.to_dtype == "float32":
            arrays["rows"] = arrays["rows"].astype(np.float32)
        elif self.to_dtype == "float16":
            where = source.backend.where(self.key)
            arrays["rows"], self.rounding = to_float16(arrays["rows"], where)
        return arrays


def apart(one: Attributes, other: Attributes) -> list[str]:
    """Names of the attributes in which two units differ."""
    return sorted(k for k in {*one, *other} if one.get(k) != other.get(k))


def to_float16(rows: NDArray[Any], where: str) -> tuple[NDArray[np.float16], Rounding]:
    """Float32 rows (R, D) as float16, and what rounding changed.

    Raises:
        BadConfig: a finite value would become infinite.
    """
    out = np.empty(rows.shape, np.float16)
    rounding, too_large, largest = Rounding(), 0, 0.0
    size = max(1, BLOCK_BYTES // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), size):
        part, half = rows[start : start + size], out[start : start + size]
        with np.errstate(over="ignore", invalid="ignore"):
            half[...] = part
            finite = np.isfinite(part)
            size_of = np.abs(np.where(finite, part, 0))
            error = np.where(finite, np.abs(half.astype(np.float32) - part), 0)
        over = np.isinf(half) & finite
        if over.any():
            too_large += int(over.sum())
            largest = max(largest, float(size_of.max()))
            continue
        normal = size_of >= SMALLEST_NORMAL
        rounding |= Rounding(
            largest_absolute=float(error.max(initial=0.0)),
            largest_relative=float((error[normal] / size_of[normal]).max(initial=0.0)),
            became_zero=int(((half == 0) & (part != 0)).sum()),
        )
    if too_large:
        raise BadConfig(
            f"{too_large} values that float16 can't hold",
            where=where,
            expected=f"at most {float(np.finfo(np.float16).max):.0f} in size",
            found=f"{largest:g}",
            hint="keep float32, or leave this stream out",
        )
    return out, rounding
