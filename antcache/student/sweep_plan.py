"""What a sweep trains: a plan, made in Python or read from a YAML file, and checked.

Promise: a plan is members of one architecture; anything else in it is one clear error, before a
store is opened.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from antcache.errors import BadConfig, MissingExtra, NotFound, quoted
from antcache.student.config import StudentConfig
from antcache.untrusted import YAML_BYTES, parse_yaml, read_text

DATA = ("targets", "top_k", "tail", "allow_missing_targets")
"""Settings that choose soft targets."""

GATES = ("feature_weight", "past_weight", "verb_noun_weight", "dropout")
"""Settings that may not be 0 in one member and not in another."""

MOST = 10_000
"""Runs of a sweep: each has a folder and is checked against the first."""

FREE = (
    *("seed", "weight", "temperature", "label_smoothing", *DATA, *GATES),
    *("optimiser", "lr", "weight_decay", "warmup_epochs", "grad_clip", "ema", "patience"),
    "logit_adjustment",
)
"""Settings in which members may differ; in all others they are one architecture, one set of
windows, and one rhythm of batches."""


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
        if self.at_once is not None and self.at_once < 1:
            raise BadConfig("impossible at_once", expected="at least 1", found=self.at_once)
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
            (f"{name}/seed-{seed}", replace(config, seed=seed))
            for name, config in self.settings.items()
            for seed in self.seeds
        ]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sweep:
        """A sweep from its written form: `base`, `seeds`, and `settings` or `grid`.

        Raises:
            BadConfig: a key or a setting is unknown or impossible.
        """
        known = {"base", "seeds", "settings", "grid", "at_once"}
        unknown = sorted(map(str, set(values) - known))
        if unknown:
            raise BadConfig(
                "unknown keys of a sweep",
                expected=", ".join(sorted(known)),
                found=", ".join(unknown),
            )
        if ("settings" in values) == ("grid" in values):
            raise BadConfig("a sweep needs either settings or a grid")
        seeds, at_once = values.get("seeds", [0, 1, 2, 3, 4]), values.get("at_once")
        if not isinstance(seeds, list) or any(type(seed) is not int for seed in seeds):
            raise BadConfig("seeds must be a list of whole numbers", found=seeds)
        if at_once is not None and type(at_once) is not int:
            raise BadConfig("wrong type", where="at_once", expected="a whole number", found=at_once)
        if "grid" in values:
            grid = _mapping("grid", values["grid"])
            columns = [v if isinstance(v, list) else [v] for v in grid.values()]
            _check_count(math.prod(map(len, columns)), "combinations of the grid")
            changes = {
                ",".join(f"{k}={v}" for k, v in zip(grid, point, strict=True)): dict(
                    zip(grid, point, strict=True)
                )
                for point in itertools.product(*columns)
            }
        else:
            changes = _mapping("settings", values["settings"])
        base = _mapping("base", values.get("base") or {})
        settings = {
            str(name): _config({**base, **_mapping(f"settings.{name}", change or {})})
            for name, change in changes.items()
        }
        return cls(settings=settings, seeds=tuple(seeds), at_once=at_once)


def check_members(settings: Mapping[str, StudentConfig]) -> None:
    """Refuse settings that can't be trained at once.

    Raises:
        BadConfig: names the setting in which they differ.
    """
    (first, base), *others = settings.items()
    wanted = base.to_dict()
    for name, config in others:
        found = config.to_dict()
        differ = [
            key
            for key, value in wanted.items()
            if found[key] != value
            and (key not in FREE or (key in GATES and (getattr(config, key) == 0) != (value == 0)))
        ]
        if differ:
            raise BadConfig(
                "the settings of a sweep must share architecture, windows and batches",
                where=f"{differ[0]} of {name}",
                expected=f"{getattr(base, differ[0])}, as in {first}",
                found=getattr(config, differ[0]),
                hint="make a sweep of its own for it",
            )


def _check_count(count: int, what: str) -> None:
    if count > MOST:
        raise BadConfig(f"too many {what}", expected=f"at most {MOST} runs", found=count)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadConfig(f"{name} must be names and values", found=value)
    return dict(value)


def _config(values: Mapping[str, Any]) -> StudentConfig:
    """A config from written values, of a preset if one is named."""
    from antcache.student.presets import find_preset

    given = dict(values)
    preset = given.pop("preset", None)
    base = StudentConfig() if preset is None else find_preset(str(preset))
    kinds = {field.name: str(field.type) for field in fields(StudentConfig)}
    for name, value in given.items():
        # YAML takes 1e-3 for text: it wants 1.0e-3.
        if isinstance(value, str) and kinds.get(name, "").startswith("float"):
            try:
                given[name] = float(value)
            except ValueError as error:
                raise BadConfig(f"{name} must be a number", found=value) from error
    try:
        return StudentConfig.from_dict({**base.to_dict(), **given})
    except TypeError as error:
        raise BadConfig(
            "a setting has the wrong type", found=f"{quoted(given)}: {error}"
        ) from error


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
