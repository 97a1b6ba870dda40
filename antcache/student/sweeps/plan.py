"""What a sweep trains: a plan, made in Python or read from a YAML file, and checked.

Promise: a plan is members of one architecture; anything else in it is one clear error, before a
store is opened.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antcache.checks import Count, Seed, check_type, known
from antcache.errors import BadConfig, MissingExtra, NotFound
from antcache.settings import settings_of
from antcache.student.config import StudentConfig, read_settings
from antcache.untrusted import YAML_BYTES, parse_yaml, read_text

MOST = 10_000
"""Runs of a sweep: each has a folder and is checked against the first."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is trained: settings by name, each with every seed.

    Attributes:
        settings: name -> config, in order; the first is what the others are compared to.
        seeds: seeds of each setting.
        at_once: members trained at once; None chooses by device.

    Raises:
        BadConfig: there is no setting or seed, a name can't be a folder's, or the settings differ
            in what members of a sweep must share.
    """

    settings: Mapping[str, StudentConfig]
    seeds: tuple[int, ...]
    at_once: int | None = None

    def __post_init__(self) -> None:
        if not self.settings or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise BadConfig(
                "a sweep needs settings and different seeds",
                found=f"{len(self.settings)} settings, seeds {list(self.seeds)}",
            )
        _check_count(len(self.settings) * len(self.seeds), "settings and seeds")
        check_type("at_once", self.at_once, Count | None)
        check_type("seeds", self.seeds, tuple[Seed, ...])
        for name in self.settings:
            if not re.fullmatch(r"\w[\w.,=+-]*", name):
                raise BadConfig(
                    "a setting's name names its folder",
                    expected="letters, digits and . , = + - _",
                    found=name,
                )
        check_members(self.settings)

    def members(self) -> list[tuple[str, StudentConfig]]:
        """Folder, relative to the sweep's, and config of every member."""
        return [
            (f"{name}/seed-{seed}", config.replace(seed=seed))
            for name, config in self.settings.items()
            for seed in self.seeds
        ]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sweep:
        """A sweep from its written form: `base`, `seeds`, and `settings` or `grid`.

        Raises:
            BadConfig: a key or a setting is unknown or impossible.
        """
        known("keys of a sweep", values, ("base", "seeds", "settings", "grid", "at_once"))
        if ("settings" in values) == ("grid" in values):
            raise BadConfig("a sweep needs either settings or a grid")
        seeds, at_once = values.get("seeds", [0, 1, 2, 3, 4]), values.get("at_once")
        if not isinstance(seeds, list) or any(type(seed) is not int for seed in seeds):
            raise BadConfig("seeds must be a list of whole numbers", found=seeds)
        if "grid" in values:
            grid = _mapping("grid", values["grid"])
            columns = [v if isinstance(v, list) else [v] for v in grid.values()]
            count = math.prod(map(len, columns))
            _check_count(count, "combinations of the grid")
            changes = {
                ",".join(f"{k}={v}" for k, v in zip(grid, point, strict=True)): dict(
                    zip(grid, point, strict=True)
                )
                for point in itertools.product(*columns)
            }
            if len(changes) < count:
                raise BadConfig("a value stands twice in the grid", found=grid)
        else:
            changes = _mapping("settings", values["settings"])
        base = read_settings(_mapping("base", values.get("base") or {}))
        own = {
            str(name): read_settings(_mapping(f"settings.{name}", change or {}))
            for name, change in changes.items()
        }
        # In `base` it may stand: that may be all of a run's settings.
        if any("seed" in given for given in own.values()):
            raise BadConfig("members differ in seed by themselves", hint="`seeds` lists them all")
        settings = {name: _config(base | given) for name, given in own.items()}
        return cls(settings=settings, seeds=tuple(seeds), at_once=at_once)


def check_members(settings: Mapping[str, StudentConfig]) -> None:
    """Refuse settings that can't be trained at once.

    Raises:
        BadConfig: names the setting in which they differ.
    """
    (first, base), *others = settings.items()
    wanted = base.values
    for name, config in others:
        for key, found in config.values.items():
            if found != wanted[key] and not _may_differ(key, found, wanted[key]):
                raise BadConfig(
                    "the settings of a sweep must share architecture, windows and batches",
                    where=f"{key} of {name}",
                    expected=f"{wanted[key]}, as in {first}",
                    found=found,
                    hint="make a sweep of its own for it",
                )


def _may_differ(key: str, one: object, other: object) -> bool:
    """Whether two members may have these values of a setting."""
    sweep = settings_of(StudentConfig)[key].sweep
    return sweep != "shared" and (sweep != "switch" or (one == 0) == (other == 0))


def _check_count(count: int, what: str) -> None:
    if count > MOST:
        raise BadConfig(f"too many {what}", expected=f"at most {MOST} runs", found=count)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadConfig(f"{name} must be names and values", found=value)
    return dict(value)


def _config(values: Mapping[str, Any]) -> StudentConfig:
    """A config from settings by name, over those of a preset if one is named."""
    from antcache.student.presets import find_preset

    given = dict(values)
    preset = given.pop("preset", None)
    base = StudentConfig() if preset is None else find_preset(str(preset))
    return base.replace(**given)


def read_plan(path: Path) -> Sweep:
    """The sweep that a YAML file describes.

    Raises:
        NotFound: there is no file.
        BadConfig: it is no YAML, or see `Sweep.from_dict`; names the file.
    """
    if not path.is_file():
        raise NotFound("no such file", where=path)
    try:
        values = parse_yaml(read_text(path, at_most=YAML_BYTES))
    except ImportError as error:
        raise MissingExtra("pyyaml", "train") from error
    except ValueError as error:
        raise BadConfig("the sweep can't be read", where=path, found=error) from error
    try:
        return Sweep.from_dict(_mapping("a sweep", values))
    except BadConfig as error:
        raise BadConfig(str(error), where=path) from error
