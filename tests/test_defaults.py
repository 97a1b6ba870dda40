"""Defaults are promises: of settings, presets and options, as `defaults.json` keeps them.

What was made before a setting existed is read as if it had the default, and a result is repeated by
the command that made it. Whoever changes a default writes that file anew (`python
tests/test_defaults.py`), looks at what changed in it, and says so in the CHANGELOG.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from antcache.cli.main import cli
from antcache.student.config import StudentConfig
from antcache.student.presets import PRESETS

KEPT = Path(__file__).parent / "defaults.json"
SETTINGS = re.compile(r"^class (\w+Config|Protocol|Sampling|Sweep)\b", re.MULTILINE)


def plain(value: Any) -> Any:
    """As JSON has it."""
    return json.loads(json.dumps(value, default=str))


def settings() -> dict[str, dict[str, Any]]:
    """Defaults by class and field."""
    found = {}
    for folder, package in (("antcache", "antcache"), ("kernels", "antcache.kernels")):
        root = KEPT.parents[1] / folder
        for file in sorted(root.rglob("*.py")):
            for name in SETTINGS.findall(file.read_text("utf-8")):
                module = ".".join([package, *file.relative_to(root).with_suffix("").parts])
                each = getattr(importlib.import_module(module), name)
                if dataclasses.is_dataclass(each):  # and no protocol of `typing`
                    found[name] = dict(defaults(dataclasses.fields(each)))
    return found


def defaults(fields: tuple[dataclasses.Field[Any], ...]) -> Iterator[tuple[str, Any]]:
    for field in fields:
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if value is not dataclasses.MISSING:
            yield field.name, plain_settings(value)


def plain_settings(value: Any) -> Any:
    inner = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if inner else value


def presets() -> dict[str, dict[str, Any]]:
    """What each preset sets, beyond the defaults."""
    standard = StudentConfig().values
    return {
        name: {k: v for k, v in preset.values.items() if v != standard[k]}
        for name, preset in PRESETS.items()
    }


def options(command: click.Command, path: str = "antcache") -> Iterator[tuple[str, Any]]:
    """Every option that has a default of its own."""
    context = click.Context(command, info_name=path)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from options(inner, f"{path} {name}")
    for option in command.params:
        value = option.get_default(context)  # click's own marker where there is none
        if (
            isinstance(option, click.Option)
            and isinstance(value, str | int | float | tuple)
            and value
        ):
            yield f"{path} {option.opts[0]}", value


KINDS = {"settings": settings, "presets": presets, "options": lambda: dict(options(cli))}


@pytest.mark.parametrize("kind", list(KINDS))
def test_defaults_are_what_they_were(kind: str) -> None:
    assert plain(KINDS[kind]()) == json.loads(KEPT.read_text("utf-8"))[kind]


if __name__ == "__main__":
    found = {kind: plain(read()) for kind, read in KINDS.items()}
    KEPT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
