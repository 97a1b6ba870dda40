"""Which units there are: listed, or read from an index where a place keeps one.

Promise: without an index, which is how it is on every disk, `known_units` is `units`. An index is
there for who reads; who writes, verifies or copies lists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from antcache.errors import BadConfig


class Indexing(ABC):
    """The part of a backend that says which units there are."""

    @property
    def keeps_indexes(self) -> bool:
        """Whether `write_index` can do anything."""
        return False

    @abstractmethod
    def units(self, key: str) -> list[str]:
        """Names of the units published in the group `key`, sorted."""

    @abstractmethod
    def where(self, key: str) -> str:
        """The unit or group `key` for an error message."""

    def known_units(self, key: str) -> list[str]:
        """As `units`, of an index where one is kept."""
        return self.units(key)

    def has_index(self, key: str) -> bool:
        """Whether the stream `key` has an index that is believed."""
        return False

    def write_index(self, key: str) -> int:
        """Keep a list of the units of the stream `key` as one object, from which `known_units` and
        `value_bytes` are answered until the stream is written to; how many units it has.

        Raises:
            AlreadyExists: another process is writing the stream.
            BadConfig: none can be kept here.
            WriteFailed: the other side refused.
        """
        raise BadConfig(
            "no index is kept here",
            where=self.where(key),
            expected="a store in a bucket",
            hint="listing is fast without one",
        )

    def wrong_index(self, key: str) -> str:
        """What is wrong with the index of the stream `key` beside what is there, which is listed;
        empty if nothing is, or if there is none that is believed."""
        return ""

    def drop_index(self, key: str) -> bool:
        """Take away the index of the stream `key`; false if it has none."""
        return False
