from __future__ import annotations

import ast
import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from antcache import checks
from antcache.checks import Count, Positive, Share, Weight
from antcache.errors import BadConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    gap_s: Weight = 1.0
    frames: Count = 3


@dataclass(frozen=True, kw_only=True)
class Record:
    epochs: Count = 20
    lr: Positive = 1e-3
    dropout: Share | None = None
    tail: bool = False
    optimizer: Literal["adamw", "sgd"] = "adamw"
    stream: tuple[str, ...] = ()
    span: tuple[float, float] = (1.0, 2.0)
    weights: tuple[Weight, ...] | str | None = None
    names: Mapping[str, int] | None = None
    inner: Inner = Inner()
    said: Callable[[str], None] | None = None


@pytest.mark.parametrize(
    ("check", "value", "words"),
    [
        (lambda v: checks.at_least("k", v, 1), 0, "impossible k: expected from 1 to 1000000, "),
        (lambda v: checks.at_least("k", v, 1, 9), 10, "impossible k: expected from 1 to 9, "),
        (lambda v: checks.above("t", v, 0, math.inf), 0.0, "impossible t: expected above 0, "),
        (
            lambda v: checks.within("p", v, checks.Range(0, 1, below=True)),
            1,
            "impossible p: expected from 0 to below 1, ",
        ),
        (
            lambda v: checks.at_least("k", v, 0, where="a.csv"),
            -1,
            "a.csv: impossible k: expected from 0 to 1000000, ",
        ),
        (lambda v: checks.one_of("head", v, ("a", "b")), "c", "unknown head: expected a or b, "),
    ],
)
def test_what_a_setting_takes_is_said(
    check: Callable[[object], None], value: object, words: str
) -> None:
    with pytest.raises(BadConfig, match=f"^{re.escape(words)}found {value}$"):
        check(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None, torch.ones(())])
def test_only_finite_numbers_are_in_a_range(value: object) -> None:
    for check in (checks.at_least, checks.above):
        with pytest.raises(BadConfig, match="impossible x"):
            check("x", value, 0, math.inf)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(1), 10**400])
def test_numbers_of_any_type_are_in_a_range(value: float) -> None:
    checks.above("x", value, 0, math.inf)
    assert np.float32(0.5) in checks.Range(0, 1, below=True)
    assert 1 not in checks.Range(0, 1, below=True)


def test_a_slip_of_the_pen_is_told_the_nearest_name() -> None:
    with pytest.raises(BadConfig, match=r"expected adamw or sgd, found adamW \(did you mean adamw"):
        checks.one_of("optimizer", "adamW", ("adamw", "sgd"))
    with pytest.raises(BadConfig, match=r"^unknown settings: found epoch \(did you mean epochs\?"):
        checks.known("settings", ["lr", "epoch"], ("lr", "epochs"))
    with pytest.raises(BadConfig, match=r"^plan: unknown settings: expected lr, epochs, found b"):
        checks.known("settings", ["z", "b"], ("lr", "epochs"), where="plan")
    checks.known("settings", ["lr"], ("lr", "epochs"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 2.0}, "epochs: wrong type: expected int, found 2.0"),
        ({"epochs": True}, "epochs: wrong type: expected int, found True"),
        ({"epochs": 0}, "impossible epochs: expected from 1 to 1000000, found 0"),
        ({"lr": "1e-3"}, "lr: wrong type: expected float, found '1e-3'"),
        ({"lr": 0}, "impossible lr: expected above 0 to 1000000, found 0"),
        ({"dropout": "no"}, "dropout: wrong type: expected float or None, found 'no'"),
        ({"dropout": 1.0}, "impossible dropout: expected from 0 to below 1, found 1.0"),
        ({"tail": 1}, "tail: wrong type: expected bool, found 1"),
        ({"optimizer": "lion"}, "unknown optimizer: expected adamw or sgd, found lion"),
        ({"optimizer": None}, "optimizer: wrong type: expected adamw or sgd, found None"),
        ({"stream": "rgb"}, "stream: wrong type: expected tuple of str, found 'rgb'"),
        ({"stream": ("rgb", 5)}, "stream[1]: wrong type: expected str, found 5"),
        ({"span": (1.0,)}, "span: wrong type: expected (float, float), found (1.0,)"),
        ({"span": (1.0, "b")}, "span[1]: wrong type: expected float, found 'b'"),
        ({"weights": (1.0, -1.0)}, "impossible weights[1]: expected from 0 to 1000000, found -1.0"),
        ({"weights": 1.0}, "weights: wrong type: expected tuple of float or str or None, found"),
        ({"names": {"a": "b"}}, "names.a: wrong type: expected int, found 'b'"),
        ({"names": {1: 1}}, "a key of names: wrong type: expected str, found 1"),
        ({"inner": {"gap_s": 1}}, "inner: wrong type: expected Inner, found {'gap_s': 1}"),
        ({"inner": Inner(frames=2.5)}, "inner.frames: wrong type: expected int, found 2.5"),  # type: ignore[arg-type]
        ({"inner": Inner(gap_s=-1)}, "impossible inner.gap_s: expected from 0 to 1000000, found"),
    ],
)
def test_a_record_is_checked_by_its_annotations(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfig, match=f"^{re.escape(words)}"):
        checks.check_types(replace(Record(), **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 1, "dropout": 0},
        {"dropout": np.float64(0.5)},
        {"weights": (1, 2.5), "stream": ("rgb", "flow")},
        {"weights": "attention", "names": {"a": 1}},
        {"said": print},
    ],
)
def test_what_fits_is_taken(changes: dict[str, Any]) -> None:
    checks.check_types(replace(Record(), **changes))


SAMPLES = (None, True, 1, -1, 1.5, math.nan, "a", "", object(), int, torch.ones(()))
SAMPLES += ((), (1,), ("a", object()), [], [object()], {}, {"a": object()}, {1: "a"}, Inner())
WITH_ANY: tuple[Any, ...] = (
    Any,
    Any | None,
    object,
    tuple[Any, ...],
    tuple[str, Any],
    tuple[()],
    list[Any],
    dict[str, Any],
    Mapping[str, Any],
    Mapping[str, Mapping[str, Any]],
    Sequence[Any] | None,
    Callable[..., Any],
)


def kinds_of_all_settings(repo: Path) -> dict[str, Any]:
    """What every field of the package's settings takes, by class and field."""
    found: dict[str, Any] = {}
    for folder, package in (("antcache", "antcache"), ("kernels", "antcache.kernels")):
        for file in sorted((repo / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef) and "check_types(self" in ast.unparse(node):
                    parts = file.relative_to(repo / folder).with_suffix("").parts
                    module = importlib.import_module(".".join((package, *parts)))
                    kinds = checks.kinds_of(getattr(module, node.name))
                    found |= {f"{node.name}.{name}": kind for name, kind in kinds.items()}
    return found


def test_every_annotation_takes_a_value_or_refuses_it(repo: Path) -> None:
    """Those of all settings, and `Any` wherever it may stand: nothing but `BadConfig` is raised."""
    kinds = kinds_of_all_settings(repo)
    assert len(kinds) > 100
    for kind in (*kinds.values(), *WITH_ANY):
        for value in SAMPLES:
            with suppress(BadConfig):
                checks.check_type("x", value, kind)


def test_any_is_anything() -> None:
    for value in SAMPLES:
        for kind in (Any, object, Any | None):
            checks.check_type("x", value, kind)
        checks.check_type("x", {"a": value}, Mapping[str, Any])
        checks.check_type("x", {"a": {"b": value}}, Mapping[str, Mapping[str, Any]])
        checks.check_type("x", (value, value), tuple[Any, ...])
        checks.check_type("x", [value], list[Any])
    with pytest.raises(BadConfig, match=r"a key of x: wrong type: expected str, found 1"):
        checks.check_type("x", {1: 1}, Mapping[str, Any])
    with pytest.raises(BadConfig, match=r"x: wrong type: expected Mapping, found 1"):
        checks.check_type("x", 1, Mapping[str, Any])
    with pytest.raises(BadConfig, match=r"x: wrong type: expected tuple of Any or None, found 1"):
        checks.check_type("x", 1, tuple[Any, ...] | None)
