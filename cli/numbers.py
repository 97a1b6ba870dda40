"""Numbers that options take: one type with a range, and the kinds that commands share.

Promise: what is no number, not finite, or outside of the range is one line and exit code 2 before
anything is read or written. An option that takes a number has a type of this file.
"""

from __future__ import annotations

import math
from typing import Any

import click

from antcache.errors import BadConfig


class Number(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A finite number from `low` to `high`.

    Args:
        kind: int or float.
        low: smallest value; with `above` it is itself too small.
        high: largest value; with `below` it is itself too large.
        above: whether `low` is left out.
        below: whether `high` is left out.
    """

    def __init__(
        self,
        kind: type[int | float],
        low: float,
        high: float,
        *,
        above: bool = False,
        below: bool = False,
    ) -> None:
        self.kind, self.low, self.high = kind, low, high
        self.above, self.below = above, below
        self.name = "integer" if kind is int else "float"

    @property
    def expected(self) -> str:
        """What is taken, in words."""
        what = "a whole number" if self.kind is int else "a number"
        low = f"above {self.low}" if self.above else f"from {self.low}"
        return f"{what} {low} to {'below ' if self.below else ''}{self.high}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        """`value` as a number.

        Raises:
            BadConfig: names the option, what it takes and what it was given.
        """
        try:
            number = self.kind(value)
        except ValueError:
            number = math.nan
        enough = number > self.low if self.above else number >= self.low
        if not enough or not (number < self.high if self.below else number <= self.high):
            name = "number" if param is None else param.opts[0]
            raise BadConfig(f"impossible {name}", expected=self.expected, found=value)
        return number


class Several(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """Values of one type separated by commas, as a tuple; help shows it as `TYPE,...`."""

    def __init__(self, kind: click.ParamType) -> None:  # type: ignore[type-arg]
        self.kind = kind
        self.name = f"{kind.name},..."

    def get_metavar(self, *args: Any, **kwargs: Any) -> str | None:
        """How help shows it; the values of a fixed set, not its name."""
        one: str | None = self.kind.get_metavar(*args, **kwargs)  # click before 8.2 gives less
        return None if one is None else f"{one},..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Each part as the type of value that is wanted."""
        if isinstance(value, tuple):
            return value
        parts = (part.strip() for part in value.split(","))
        return tuple(self.kind.convert(part, param, ctx) for part in parts if part)


MANY = 10**6
"""More of anything is a slip of the keyboard."""
COUNT = Number(int, 1, MANY)
AMOUNT = Number(int, 0, MANY)
"""A count that may be 0."""
SEED = Number(int, 0, 2**63 - 1)
SECONDS = Number(float, 0, MANY)
POSITIVE = Number(float, 0, MANY, above=True)
WEIGHT = Number(float, 0, MANY)
SHARE = Number(float, 0, 1)
PART = Number(float, 0, 1, below=True)
"""A share that leaves something."""
FPS = Number(float, 0, 1000, above=True)
"""Of videos and of keys; high-speed cameras included."""
GAP = Number(float, 0, 3600)
