"""Settings: the fields of a frozen record, and of the records in it, by their names.

Promise: everything that there is to say of a setting stands at its field, once: the annotation is
what it takes, the docstring its help, the metadata whether it decides what is learned and what a
sweep may do with it. A name stands for one field, whichever group it is in, so that settings are
given and changed by name alone.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from antcache.checks import (
    Kind,
    alternatives,
    choices_of,
    kinds_of,
    known,
    numbers_by_word,
    parts_of,
)
from antcache.errors import BadConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    R = TypeVar("R", bound=DataclassInstance)

Sweeps = Literal["shared", "free", "switch", "targets"]

# Metadata of fields; without any a setting decides what is learned, and a sweep's members share it.
NOT_LEARNED: Mapping[str, Any] = {"identity": False}
"""Another value makes the same result: a resumed run may change it."""
FREE: Mapping[str, Any] = {"sweep": "free"}
"""Members of a sweep may differ in it."""
SWITCH: Mapping[str, Any] = {"sweep": "switch"}
"""They may, but it is 0 in all of them or in none."""
TARGETS: Mapping[str, Any] = {"sweep": "targets"}
"""They may; it chooses their soft targets."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A field of a record, or of a group in it.

    Attributes:
        name: of the field.
        group: name of the record's field that holds it, empty for one of the record itself.
        kind: what it takes; see `checks.check_type`.
        default: its value unless given.
        text: its docstring.
        identity: whether another value makes another result.
        sweep: what members of a sweep may do with it.
    """

    name: str
    group: str
    kind: Kind
    default: Any
    text: str
    identity: bool
    sweep: Sweeps


@functools.cache
def settings_of(record: type[DataclassInstance]) -> Mapping[str, Setting]:
    """All settings of a record and of its groups by name, in the order of their fields."""
    found = list(_settings(record, ""))
    names = {one.name: one for one in found}
    assert len(names) == len(found), f"two settings of {record.__name__} have one name"
    return names


def values_of(record: DataclassInstance) -> dict[str, Any]:
    """The value of every setting by name."""
    return {
        name: getattr(getattr(record, one.group) if one.group else record, name)
        for name, one in settings_of(type(record)).items()
    }


def changed(record: R, changes: Mapping[str, Any], *, what: str = "settings") -> R:
    """The record with some settings changed, by name, all at once.

    Raises:
        BadConfig: a name is unknown, or a value is refused by the record.
    """
    table = settings_of(type(record))
    known(what, changes, table)
    groups: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        groups.setdefault(table[name].group, {})[name] = value
    given = groups.pop("", {})
    given |= {name: replace(getattr(record, name), **own) for name, own in groups.items()}
    return replace(record, **given)


def ungrouped(record: type[DataclassInstance], values: Mapping[str, Any]) -> dict[str, Any]:
    """Written settings by name alone: what is written in groups is taken out of them.

    Raises:
        BadConfig: a setting is in the group of others, or is set twice.
    """
    table = settings_of(record)
    groups = {one.group for one in table.values()} - {""}
    flat: dict[str, Any] = {}
    for name, value in values.items():
        grouped = name in groups and isinstance(value, Mapping)
        for own, given in (value if grouped else {name: value}).items():
            if grouped and own in table and table[own].group != name:
                group = table[own].group
                hint = f"it is one of `{group}`" if group else "it is in no group"
                raise BadConfig(f"`{own}` is no setting of `{name}`", hint=hint)
            if own in flat:
                raise BadConfig(f"`{own}` is set twice")
            flat[own] = given
    return flat


def read(kind: Kind, value: Any) -> Any:
    """A value as its kind has it, from JSON, YAML, or the text of an option.

    A list becomes a tuple, as does text with commas where a tuple is wanted (`rgb,flow`), and
    nothing an empty one; text becomes a number or a truth where one is wanted. What can't be read
    stays as it is, for `check_types` to refuse.
    """
    options = alternatives(kind)
    for option in options:
        origin, inner = parts_of(option)
        if origin is tuple:
            if isinstance(value, list | tuple):
                return tuple(read(inner[0], one) for one in value)
            if value is None and type(None) not in options:
                return ()
    return _from_text(options, value) if isinstance(value, str) else value


def _from_text(options: tuple[Kind, ...], text: str) -> Any:
    """Text as the first of some kinds that it can be read as."""
    for option in options:
        origin, inner = parts_of(option)
        bare = inner[0] if origin is Annotated else option
        if text in (numbers := numbers_by_word(option)):
            return numbers[text]
        if text in choices_of(bare) or bare is str:
            return text
        if bare is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if bare is type(None) and text.lower() == "none":
            return None
        if bare in (int, float):
            try:
                return bare(text)
            except ValueError:
                continue
        if origin is tuple:
            parts = tuple(read(inner[0], part.strip()) for part in text.split(","))
            # One word may still be another kind of thing: `attention` in place of numbers.
            if len(parts) > 1 or inner[0] is str or not isinstance(parts[0], str):
                return parts
    return text


def _settings(record: type[DataclassInstance], group: str) -> Iterator[Setting]:
    kinds, texts = kinds_of(record), _docstrings(record)
    for each in fields(record):
        kind = kinds[each.name]
        if not group and is_dataclass(kind) and isinstance(kind, type):
            yield from _settings(kind, each.name)
            continue
        yield Setting(
            name=each.name,
            group=group,
            kind=kind,
            default=each.default,
            text=texts.get(each.name, ""),
            identity=each.metadata.get("identity", True),
            sweep=each.metadata.get("sweep", "shared"),
        )


def _docstrings(record: type) -> dict[str, str]:
    """What is written under the fields of a class, by their names, each in one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for line, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            found[line.target.id] = " ".join(str(below.value.value).split())
    return found
