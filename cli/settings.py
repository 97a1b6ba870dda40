"""The settings of a record as options: names, types, help and defaults, all from its fields.

Promise: each setting has one option, its name with hyphens; what a field takes, the option takes,
and its help is the field's docstring. An option that is not given is None.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Annotated, Any

import click

from antcache import checks
from antcache.cli.numbers import Number, Several
from antcache.settings import Setting, read, settings_of


class Written(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """What a setting takes that is neither a number nor a choice, as `settings.read` reads it."""

    name = "text"

    def __init__(self, kind: checks.Kind) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """The value that the text stands for; the record checks it."""
        return read(self.kind, value)


def setting_options(
    record: type, *, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option for each setting of a record but those named, those of a group in a section of the
    help."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for one in reversed(list(settings_of(record).values())):
            if one.name in without:
                continue
            # The unit stands in the help: `--gap` is called so wherever it is.
            flag = f"--{one.name.removesuffix('_s').replace('_', '-')}"
            command = click.option(flag, one.name, default=None, **_how(one))(command)
            if one.group:
                command.__click_params__[-1].section = one.group.capitalize()  # type: ignore[attr-defined]
        return command

    return add


def _how(one: Setting) -> dict[str, Any]:
    """Type and help of a setting's option."""
    if one.kind is bool:
        return {"is_flag": True, "flag_value": True, "help": one.text}
    words = {value: word for word, value in checks.numbers_by_word(one.kind).items()}
    default = words.get(one.default, one.default)
    given = "" if default in (None, ()) else f"  [default: {default}]"
    how: dict[str, Any] = {"help": one.text + given}
    options = checks.alternatives(one.kind)
    lists = [option for option in options if checks.parts_of(option)[0] is tuple]
    if not lists:
        return how | {"type": _type(one.kind)}
    (each,) = {checks.parts_of(option)[1][0] for option in lists}
    word = str in options  # in place of a list, which then has a number for each of something
    several = Several(Written(each | str) if word else _type(each), repeats=word)
    together = functools.partial(_together, several, word)
    return how | {"type": several, "multiple": True, "callback": together}


def _together(
    several: Several,
    word: bool,
    ctx: click.Context,
    param: click.Parameter,
    given: tuple[tuple[Any, ...], ...],
) -> object:
    """What an option gives that may be given again, or once with commas; None without it."""
    values = several.together(ctx, param, given)
    if word and len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return values or None


def _type(kind: checks.Kind) -> click.ParamType:  # type: ignore[type-arg]
    options = [option for option in checks.alternatives(kind) if option is not type(None)]
    if len(options) == 1:
        (option,) = options
        if choices := checks.choices_of(option):
            return click.Choice([str(choice) for choice in choices])
        if checks.parts_of(option)[0] is Annotated:
            return Number(option)
    return Written(kind)
