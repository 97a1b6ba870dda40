"""JSON annotations, read so that every complaint can name its file and entry.

Promise: what is no JSON, lacks a field or has one of another type raises `BadAnnotations` with
`file: entry`; nothing here knows what the fields mean. Fields that are not asked for are passed
over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antcache.annotations.files import SHOWN
from antcache.errors import BadAnnotations, NotFound
from antcache.untrusted import NAME, read_json

LARGEST_BYTES = 64 << 20
"""Twice what the largest of the published files takes, Ego4D's training labels."""


def json_of(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        NotFound: the file can't be opened.
        BadAnnotations: it is no JSON.
    """
    try:
        return read_json(path, at_most=LARGEST_BYTES)
    except OSError as error:
        raise NotFound("the file can't be read", where=path, found=error.strerror) from error
    except ValueError as error:
        raise BadAnnotations("no JSON", where=path, found=f"{error!s:.100}") from error


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """A value that must be an object."""
    if not isinstance(value, dict):
        raise BadAnnotations("no object", where=where, found=f"{value!r:.{SHOWN}}")
    return value


def sequence(value: Any, where: str) -> list[Any]:
    """A value that must be a list."""
    if not isinstance(value, list):
        raise BadAnnotations("no list", where=where, found=f"{value!r:.{SHOWN}}")
    return value


def text(record: Any, name: str, where: str) -> str:
    """A field that must be a text, not empty nor longer than any name."""
    value = _field(record, name, where)
    if not isinstance(value, str) or not 0 < len(value.strip()) <= NAME:
        raise _wrong(name, f"a text of at most {NAME} characters", value, where)
    return value.strip()


def whole(record: Any, name: str, where: str) -> int:
    """A field that must be a whole number."""
    value = _field(record, name, where)
    if type(value) is not int:
        raise _wrong(name, "a whole number", value, where)
    return value


def number(record: Any, name: str, where: str) -> float:
    """A field that must be a finite number."""
    value = _field(record, name, where)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _wrong(name, "a number", value, where)
    return float(value)


def _field(record: Any, name: str, where: str) -> Any:
    fields = mapping(record, where)
    if name not in fields:
        found = ", ".join(map(str, fields))[: 5 * SHOWN]
        raise BadAnnotations(f"no field {name!r}", where=where, found=found or "nothing")
    return fields[name]


def _wrong(name: str, expected: str, value: Any, where: str) -> BadAnnotations:
    found = f"{value!r:.{SHOWN}}"
    return BadAnnotations(f"bad {name}", where=where, expected=expected, found=found)
