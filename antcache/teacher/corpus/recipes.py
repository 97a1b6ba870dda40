"""Recipes of a `layer1.json` (Recipe1M), one after the other, in little memory.

Promise: the file is read once, as a stream; what is held at a time is one recipe and a read buffer.
A recipe that lacks what it needs, or JSON that is broken, raises one error that names the file, the
number of the recipe (the first is 1) and how far the file was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from antcache.errors import BadAnnotations, NotFound, quoted
from antcache.untrusted import NotFetched, check_fetched, stream_json

FORM = "a JSON list of recipes with id, partition, title and instructions (Recipe1M's layer1.json)"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the corpus needs of a recipe.

    Attributes:
        id: its id.
        partition: which part of the collection it belongs to, e.g. `train`.
        title: its title, None where it has none.
        instructions: its steps as text.
    """

    id: str
    partition: str
    title: str | None
    instructions: tuple[str, ...]


def read_recipes(path: Path, *, read: Callable[[int], None] | None = None) -> Iterator[Recipe]:
    """The recipes of a file in its order; the file is opened, and its first byte checked, at once.

    Args:
        path: a JSON list of recipes.
        read: called with the bytes read so far, before each recipe.

    Raises:
        NotFound: there is no such file.
        BadAnnotations: not JSON, not of this form, or (at the end) without a recipe.
    """
    if not path.is_file():
        raise NotFound("no recipe file here", where=path, expected=FORM)
    try:
        check_fetched(path)
    except NotFetched as error:
        raise BadAnnotations("not a list of recipes", where=path, found=error) from error
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if not start.startswith(b"["):
        raise BadAnnotations(
            "not a list of recipes",
            where=path,
            expected=FORM,
            found=repr(start[:16].decode("utf-8", "replace")) if start else "an empty file",
        )
    return _recipes(path, read)


def _recipes(path: Path, read: Callable[[int], None] | None) -> Iterator[Recipe]:
    number = 0
    with path.open("rb") as file:
        for number, record in enumerate(_records(path, file), start=1):
            if read is not None:
                read(file.tell())
            yield _recipe(record, f"{path}: recipe {number}")
    if not number:
        raise BadAnnotations("the list holds no recipe", where=path, expected=FORM)


def _records(path: Path, file: BinaryIO) -> Iterator[Any]:
    records = stream_json(file)
    number = 1
    while True:
        try:
            record = next(records)
        except StopIteration:
            return
        except ValueError as error:
            raise BadAnnotations(
                "the JSON is broken",
                where=f"{path}: recipe {number}, within the first {file.tell()} bytes",
                expected=FORM,
                found=error,
            ) from error
        yield record
        number += 1


def _recipe(record: Any, place: str) -> Recipe:
    if not isinstance(record, dict):
        raise _wrong(place, "not a recipe", "a JSON object", record)
    for key in ("id", "partition"):
        if not isinstance(record.get(key), str) or not record[key]:
            raise _wrong(place, f"no {key}", f"a text under {key!r}", record.get(key))
    steps = record.get("instructions")
    if not isinstance(steps, list):
        raise _wrong(place, "no instructions", "a list under 'instructions'", steps)
    for i, step in enumerate(steps):
        if not isinstance(step, dict) or not isinstance(step.get("text"), str):
            raise _wrong(place, f"instruction {i + 1} is no text", 'as {"text": "..."}', step)
    title = record.get("title")
    return Recipe(
        id=record["id"],
        partition=record["partition"],
        title=title if isinstance(title, str) else None,
        instructions=tuple(step["text"] for step in steps),
    )


def _wrong(place: str, problem: str, expected: str, found: Any) -> BadAnnotations:
    shown = "nothing" if found is None else quoted(found)[:60]
    return BadAnnotations(problem, where=place, expected=expected, found=shown)
