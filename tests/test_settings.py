from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from antcache.checks import Count, Share, Weight, check_types
from antcache.errors import BadConfig
from antcache.settings import (
    FREE,
    NOT_LEARNED,
    changed,
    read,
    settings_of,
    ungrouped,
    values_of,
)


@dataclass(frozen=True, kw_only=True)
class Oven:
    heat: Weight = field(default=180.0, metadata=FREE)
    """How hot it is,
    in degrees."""
    fan: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.fan and self.heat > 200:
            raise BadConfig("too hot for the fan")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    oven: Oven = field(default_factory=Oven)
    name: str = field(default="bread", metadata=NOT_LEARNED)
    """What it is called."""


@dataclass(frozen=True, kw_only=True)
class Twice:
    oven: Oven = field(default_factory=Oven)
    fan: bool = True


def test_a_setting_is_what_its_field_says() -> None:
    heat, fan, name = settings_of(Recipe).values()
    assert (heat.name, heat.group, heat.default, heat.text) == (
        *("heat", "oven", 180.0),
        "How hot it is, in degrees.",
    )
    assert (heat.identity, heat.sweep) == (True, "free")
    assert (fan.text, fan.sweep, fan.kind) == ("", "shared", bool)
    assert (name.group, name.identity) == ("", False)


def test_a_name_stands_for_one_field() -> None:
    with pytest.raises(AssertionError, match="two settings of Twice have one name"):
        settings_of(Twice)


def test_settings_are_changed_all_at_once() -> None:
    hot = changed(Recipe(), {"heat": 250.0, "name": "pizza"})
    assert hot == Recipe(oven=Oven(heat=250.0), name="pizza")
    assert values_of(hot) == {"heat": 250.0, "fan": False, "name": "pizza"}
    with pytest.raises(BadConfig, match="too hot"):
        changed(hot, {"fan": True})
    assert changed(hot, {"fan": True, "heat": 100.0}).oven.fan
    with pytest.raises(BadConfig, match=r"^unknown steps: found hat \(did you mean heat\?\)"):
        changed(Recipe(), {"hat": 1}, what="steps")


def test_groups_are_taken_apart() -> None:
    assert ungrouped(Recipe, {"oven": {"heat": 1.0}, "name": "x"}) == {"heat": 1.0, "name": "x"}
    assert ungrouped(Recipe, {"oven": 5, "colour": {"a": 1}}) == {"oven": 5, "colour": {"a": 1}}
    assert ungrouped(Recipe, {"": {"heat": 1.0}}) == {"": {"heat": 1.0}}


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        (Count, "3", 3),
        (Count, 3, 3),
        (Count, "3.5", "3.5"),
        (Weight, "1e-3", 1e-3),
        (Weight, "fast", "fast"),
        (Share | None, "none", None),
        (Share | None, None, None),
        (bool, "True", True),
        (bool, "no", "no"),
        (str, "1", "1"),
        (Literal["none", "mse"], "none", "none"),
        (tuple[str, ...], "a, b", ("a", "b")),
        (tuple[str, ...], ["a", "b"], ("a", "b")),
        (tuple[str, ...], "a", ("a",)),
        (tuple[str, ...], "a,", ("a", "")),
        (tuple[str, ...], None, ()),
        (tuple[str, ...], 5, 5),
        (tuple[str, ...] | None, None, None),
        (tuple[Weight, ...] | str | None, "1,3", (1.0, 3.0)),
        (tuple[Weight, ...] | str | None, ["1", 3], (1.0, 3)),
        (tuple[Weight, ...] | str | None, "2", (2.0,)),
        (tuple[Weight, ...] | str | None, "attention", "attention"),
        (tuple[Weight, ...] | str | None, "1,x", (1.0, "x")),
    ],
)
def test_written_values_are_read_as_their_kind_or_left(
    kind: object, written: object, value: object
) -> None:
    found = read(kind, written)
    assert found == value
    assert type(found) is type(value)
