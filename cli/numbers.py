"""Numbers that options take: one type with a range, and the kinds that commands share.

Promise: what is no number, not finite, or outside of the range is one line and exit code 2 before
anything is read or written. An option that takes a number has a type of this file.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Annotated, Any, get_args

import click

from antcache import checks
from antcache.annotations.protocols import Anchor, Gap
from antcache.checks import Range
from antcache.errors import BadConfig


class Number(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A number of a kind of `checks`.

    Args:
        kind: int or float, annotated with its `Range`, and with `Words` for some of them if it has.
    """

    def __init__(self, kind: checks.Kind) -> None:
        self.kind: type[int | float]
        self.span: Range
        self.kind, self.span = get_args(kind)[:2]
        self.words = checks.numbers_by_word(kind)
        self.name = "|".join([*self.words, "integer" if self.kind is int else "float"])

    @property
    def expected(self) -> str:
        """What is taken, in words."""
        number = f"a {'whole number' if self.kind is int else 'number'} {self.span}"
        return " or ".join([*self.words, number])

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        """`value` as a number.

        Raises:
            BadConfig: names the option, what it takes and what it was given.
        """
        try:
            number = self.kind(self.words.get(value, value))
        except ValueError:
            number = None
        if number not in self.span:
            name = "number" if param is None else param.opts[0]
            raise BadConfig(f"impossible {name}", expected=self.expected, found=value)
        assert number is not None
        return number


class Several(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """Values of one type separated by commas, as a tuple; help shows it as `TYPE,...`.

    Args:
        kind: the type of each.
        repeats: whether a value may stand twice, as where each has its own place.
    """

    expected = "values with a comma between two"

    def __init__(self, kind: click.ParamType, *, repeats: bool = False) -> None:  # type: ignore[type-arg]
        self.kind = kind
        self.repeats = repeats
        self.name = f"{kind.name},..."

    def get_metavar(self, *args: Any, **kwargs: Any) -> str | None:
        """How help shows it; the values of a fixed set, not its name."""
        one: str | None = self.kind.get_metavar(*args, **kwargs)  # click before 8.2 gives less
        return None if one is None else f"{one},..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Each part as the type of value that is wanted.

        Raises:
            BadConfig: a place between commas is empty, which is not the option left out, or a value
                stands twice.
        """
        if isinstance(value, tuple):
            return value
        parts = parts_of(value, param, getattr(self.kind, "expected", "a value"))
        values = tuple(self.kind.convert(part, param, ctx) for part in parts)
        return values if self.repeats else distinct(values, param, value)

    def together(
        self, ctx: click.Context, param: click.Parameter, given: tuple[tuple[Any, ...], ...]
    ) -> tuple[Any, ...]:
        """What an option gives that was given once or again; a callback.

        Raises:
            BadConfig: a value stands twice.
        """
        values = tuple(chain.from_iterable(given))
        return values if self.repeats else distinct(values, param, ",".join(map(str, values)))


def parts_of(text: str, param: click.Parameter | None, expected: str) -> list[str]:
    """What stands between the commas of an option's value, each `expected` and none empty.

    Raises:
        BadConfig: one is.
    """
    parts = [part.strip() for part in text.split(",")]
    if "" in parts:
        raise BadConfig(
            f"impossible {_option(param)}",
            expected=f"{expected}, or several with a comma between two",
            found=f"'{text:.80}'",
            hint="leave it out for the default",
        )
    return parts


def distinct(values: tuple[Any, ...], param: click.Parameter | None, text: str) -> tuple[Any, ...]:
    """The values of an option, which are different ones.

    Raises:
        BadConfig: they are not.
    """
    if len(set(values)) < len(values):
        raise BadConfig(
            f"impossible {_option(param)}",
            expected="each value once",
            found=f"'{text:.80}'",
        )
    return values


def _option(param: click.Parameter | None) -> str:
    return "list" if param is None else param.opts[0]


class Sides(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A grid of tokens, as `TxHxW`: how many in time, in height, in width."""

    name = "TxHxW"
    expected = "tokens in time, height and width, as 16x4x4"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int]:
        """The three numbers.

        Raises:
            BadConfig: names the option, what it takes and what it was given.
        """
        if isinstance(value, tuple):
            return value
        found = SIDES.fullmatch(value)
        if found is None:
            name = "grid" if param is None else param.opts[0]
            raise BadConfig(f"impossible {name}", expected=self.expected, found=f"{value:.80}")
        time, height, width = map(int, found.groups())
        return time, height, width


SIDES = re.compile(r"([1-9]\d{0,6})x([1-9]\d{0,6})x([1-9]\d{0,6})", re.ASCII)


class WholeOrSides(Sides):
    """A grid of tokens, or `full` for all that there are."""

    name = "full|TxHxW"
    expected = f"full, or {Sides.expected}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`full`, or the three numbers; see `Sides`."""
        return value if value == "full" else super().convert(value, param, ctx)


class Bytes(Number):
    """How many bytes, with a unit: `500MB`, `20GB`; a default is written so, too."""

    name = "SIZE"
    expected = "a size with its unit, as 500MB or 20GB"

    def __init__(self) -> None:
        self.kind, self.span, self.words = int, Range(1, 10**18), {}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        """`value` in bytes.

        Raises:
            BadConfig: names the option, what it takes and what it was given.
        """
        found = SIZE.fullmatch(str(value))
        number = 0 if found is None else int(float(found[1]) * UNITS[found[2].lower()])
        if number not in self.span:
            name = "size" if param is None else param.opts[0]
            raise BadConfig(f"impossible {name}", expected=self.expected, found=value)
        return number


UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([kmgt]b)", re.I | re.A)


class PartOf(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """One of several parts, as `i/n`."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The `VideoShard`.

        Raises:
            BadConfig: says what is taken and what was given.
        """
        from antcache.extract.shards import VideoShard

        return value if isinstance(value, VideoShard) else VideoShard.parse(value)


PART_OF = PartOf()
GRID = Sides()
WHOLE_OR_GRID = WholeOrSides()
BYTES = Bytes()
COUNT = Number(checks.Count)
AMOUNT = Number(checks.Amount)
"""A count that may be 0."""
SEED = Number(checks.Seed)
SECONDS = Number(checks.Weight)
POSITIVE = Number(checks.Positive)
WEIGHT = Number(checks.Weight)
SHARE = Number(Annotated[float, Range(0, 1)])
PART = Number(checks.Share)
"""A share that leaves something."""
NUM_DECODERS = Number(Annotated[int, Range(1, 1024)])
AHEAD = Number(Annotated[float, Range(0, 3600, above=True)])
"""Seconds after a row."""
SPEED = Number(Annotated[float, Range(0.01, 100)])
"""Seconds of a recording in a second."""
FPS = Number(Annotated[float, Range(0, 1000, above=True)])
"""Of videos and of keys; high-speed cameras included."""
GAP = Number(Gap)
ANCHOR = Number(Anchor)
PORT = Number(Annotated[int, Range(0, 65535)])
"""Of TCP; 0: any that is free."""
EVERY = Number(Annotated[float, Range(0.001, 10**6)])
"""Seconds between times of a video."""
MOMENT = Number(Annotated[float, Range(0, 10**6)])
"""A time of a video, in seconds."""
