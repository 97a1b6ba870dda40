"""Which videos a process does, of several that know nothing of one another.

Promise: each process finds its part by itself, from the names of all videos, in order: every n-th.
What is done already moves no video from one part to another, and the parts are all videos, each
once, as long as the processes find the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from antcache.checks import Count, check_types
from antcache.errors import BadConfig

Item = TypeVar("Item")

EXPECTED = "i/n, the i-th of n parts, such as 1/4 to 4/4"


@dataclass(frozen=True, kw_only=True)
class VideoShard:
    """The `number`-th of `count` parts, counted from 1.

    Raises:
        BadConfig: there is no such part.
    """

    number: Count
    count: Count

    def __post_init__(self) -> None:
        check_types(self)
        if self.number > self.count:
            raise BadConfig("impossible shard", expected=EXPECTED, found=self)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> VideoShard:
        """A shard as it is written, `2/4`.

        Raises:
            BadConfig: it is none.
        """
        found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text, re.ASCII)
        numbers = [int(number) for number in found.groups()] if found else [0, 0]
        if not 1 <= numbers[0] <= numbers[1]:
            raise BadConfig("impossible shard", expected=EXPECTED, found=f"'{text:.80}'")
        return cls(number=numbers[0], count=numbers[1])

    def part(self, items: Iterable[Item], by: Callable[[Item], Any] | None = None) -> list[Item]:
        """This part of all items, which are put into order (`by` says which) first."""
        return sorted(items, key=by)[self.number - 1 :: self.count]  # type: ignore[type-var,arg-type]
