"""The words for a setting that is out of range, of another type, or unknown.

Promise: a check returns nothing, or raises one `BadConfig` that says which setting, what it takes
and what was found. A record whose fields are annotated with the kinds below (`Count`, `Weight`,
...) is checked as a whole by `check_types`, so that a bound is written once, beside its field. A
tensor is no number: nothing is fetched from a device.
"""

from __future__ import annotations

import difflib
import functools
import math
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from numbers import Real
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from antcache.errors import BadConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MANY = 10**6
"""More of anything is a slip of the keyboard."""


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`; `above` leaves out `low` itself, `below` `high`."""

    low: float
    high: float = MANY
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        # NumPy's numbers are Real, tensors are not. NaN is neither above nor below anything.
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        number: Any = value
        enough = number > self.low if self.above else number >= self.low
        few = number < self.high if self.below else number <= self.high
        return bool(enough and few and number < math.inf)

    def __str__(self) -> str:
        low = f"above {self.low}" if self.above else f"from {self.low}"
        if self.high == math.inf:
            return low
        return f"{low} to {'below ' if self.below else ''}{self.high}"


@dataclass(frozen=True)
class Words:
    """Words that stand for some numbers of a kind where it is written: on a command line, in YAML.

    It stands beside the kind's `Range`: `Words((("start", 0.0), ("end", 1.0)))`.
    """

    numbers: tuple[tuple[str, float], ...]


Count = Annotated[int, Range(1)]
Amount = Annotated[int, Range(0)]
"""A count that may be 0."""
Seed = Annotated[int, Range(0, 2**63 - 1)]
Weight = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1, below=True)]
"""A part that leaves something."""
Kind = Any
"""An annotation; to mypy these are no types."""


def one_of(name: str, value: object, choices: Iterable[object], *, where: object = "") -> None:
    """Refuse a value that is none of the choices, and say which one may have been meant."""
    listed = list(choices)
    if value not in listed:
        raise BadConfig(
            f"unknown {name}",
            where=where,
            expected=" or ".join(map(str, listed)),
            found=value,
            hint=_nearest(value, listed),
        )


def known(
    what: str, names: Iterable[object], among: Collection[str], *, where: object = ""
) -> None:
    """Refuse names that are not among those that there are; `what` says of what, in the plural."""
    strange = sorted(str(name) for name in names if name not in among)
    if strange:
        hint = _nearest(strange[0], among)
        raise BadConfig(
            f"unknown {what}",
            where=where,
            expected="" if hint else ", ".join(among),
            found=", ".join(strange),
            hint=hint,
        )


def distinct(name: str, names: Collection[str]) -> None:
    """Refuse names that are empty or given twice."""
    if len(set(names)) < len(names) or "" in names:
        raise BadConfig(f"impossible {name}", expected="different names", found=",".join(names))


def at_least(
    name: str, value: object, low: float, high: float = MANY, *, where: object = ""
) -> None:
    """Refuse what is no number from `low` to `high`."""
    within(name, value, Range(low, high), where=where)


def above(name: str, value: object, low: float, high: float = MANY, *, where: object = "") -> None:
    """Refuse what is no number above `low`, to `high`."""
    within(name, value, Range(low, high, above=True), where=where)


def within(name: str, value: object, span: Range, *, where: object = "") -> None:
    """Refuse what is no number of a range."""
    if value not in span:
        raise BadConfig(f"impossible {name}", where=where, expected=span, found=value)


def check_types(record: DataclassInstance, *, inside: str = "") -> None:
    """Refuse values of another type than annotated, or outside of the range of their kind.

    A whole number may stand for a float; records and tuples are looked into.

    Args:
        record: a dataclass.
        inside: what its fields' names are written behind: `record.`.

    Raises:
        BadConfig: names the first such field.
    """
    kinds = kinds_of(type(record))
    for field in fields(record):
        check_type(inside + field.name, getattr(record, field.name), kinds[field.name])


def check_type(name: str, value: object, kind: Kind) -> None:
    """Refuse a value that is not of a kind: a type, one of `Annotated` with a `Range`, a `Literal`,
    a tuple, list or mapping of kinds, or a union of these.

    Raises:
        BadConfig: names it.
    """
    options = alternatives(kind)
    for option in options:
        if _is(value, option):
            _look_into(name, value, option)
            return
    choices = [choice for option in options for choice in choices_of(option)]
    if choices and isinstance(value, str):
        one_of(name, value, choices)
    raise _wrong_type(name, value, kind)


def parts_of(kind: Kind) -> tuple[Any, tuple[Any, ...]]:
    """What a kind is made with (`tuple`, `Literal`, ...), None for a plain class, and of what."""
    return get_origin(kind), get_args(kind)


def alternatives(kind: Kind) -> tuple[Kind, ...]:
    """The members of a union, or the one kind that it is."""
    origin, members = parts_of(kind)
    if origin in (Union, types.UnionType):
        return tuple(one for member in members for one in alternatives(member))
    return (kind,)


def choices_of(kind: Kind) -> tuple[object, ...]:
    """The values of a `Literal`, none of any other kind."""
    origin, values = parts_of(kind)
    return values if origin is Literal else ()


def numbers_by_word(kind: Kind) -> Mapping[str, float]:
    """The numbers of a kind that have a word, by it."""
    origin, inner = parts_of(kind)
    marks = inner[1:] if origin is Annotated else ()
    return dict(pair for mark in marks if isinstance(mark, Words) for pair in mark.numbers)


def words_for(kind: Kind) -> str:
    """A kind in words, as in `int or None`."""
    options = alternatives(kind)
    if len(options) > 1:
        return " or ".join(map(words_for, options))
    origin, inner = parts_of(kind)
    if origin is Annotated:
        return words_for(inner[0])
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin is tuple and inner[-1:] != (...,):
        return f"({', '.join(map(words_for, inner))})"
    if origin in (tuple, list):
        return f"{origin.__name__} of {words_for(inner[0])}"
    return "None" if kind is type(None) else str(getattr(origin or kind, "__name__", kind))


def _is(value: object, kind: Kind) -> bool:
    """Whether the value itself, not what it holds, is of a kind that is no union."""
    origin, inner = parts_of(kind)
    if origin is Annotated:
        return _is(value, inner[0])
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    wanted = origin or kind
    # From Python 3.11 on, Any is a class, of which nothing can be asked.
    if wanted is Any or not isinstance(wanted, type):
        return True
    if isinstance(value, bool) or wanted is bool:  # to Python a bool is an int
        return isinstance(value, bool) and wanted in (bool, object)
    return isinstance(value, (float, int) if wanted is float else wanted)


def _look_into(name: str, value: Any, kind: Kind) -> None:
    """Check what a value of the right class holds."""
    origin, inner = parts_of(kind)
    if origin is Annotated:
        _look_into(name, value, inner[0])
        for mark in inner[1:]:
            if isinstance(mark, Range):
                within(name, value, mark)
    elif origin is tuple and inner[-1:] != (...,):
        if len(value) != len(inner):
            raise _wrong_type(name, value, kind)
        for i, (one, wanted) in enumerate(zip(value, inner, strict=True)):
            check_type(f"{name}[{i}]", one, wanted)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        for key, one in value.items():
            check_type(f"a key of {name}", key, inner[0])
            check_type(f"{name}.{key}", one, inner[1])
    elif isinstance(origin, type) and issubclass(origin, Sequence):
        for i, one in enumerate(value):
            check_type(f"{name}[{i}]", one, inner[0])
    elif is_dataclass(value) and not isinstance(value, type):
        check_types(value, inside=f"{name}.")


def _wrong_type(name: str, value: object, kind: Kind) -> BadConfig:
    found = repr(value) if isinstance(value, str) else value  # '2' is not 2
    return BadConfig("wrong type", where=name, expected=words_for(kind), found=found)


@functools.cache
def kinds_of(record: type) -> Mapping[str, Kind]:
    """The annotations of a record by field."""
    return get_type_hints(record, include_extras=True)


def _nearest(value: object, choices: Iterable[object]) -> str:
    """A hint that names the choice that is spelled most like the value, empty if none is."""
    near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
    return f"did you mean {near[0]}?" if near else ""
