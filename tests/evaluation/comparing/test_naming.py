"""What two sides are called: as short as tells them apart, and never the same."""

from __future__ import annotations

import pytest

from antcache.errors import BadConfig
from antcache.evaluation.comparing.naming import side_names


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        (["runs/plain"], ["runs/distilled"], ("plain", "distilled")),
        (["targets/count"], ["runs/light"], ("count", "light")),
        (["one.safetensors"], ["x/two.safetensors"], ("one", "two")),
        (["r/x/predictions.safetensors"], ["r/y/held_out.safetensors"], ("x", "y")),
        (["mine/light"], ["yours/light"], ("mine/light", "yours/light")),
        (["r/plain-0", "r/plain-1"], ["r/soft-0", "r/soft-1"], ("plain", "soft")),
        (["r/plain-10", "r/plain-11"], ["r/soft-1", "r/soft-12"], ("plain", "soft")),
        (["p/0", "p/1"], ["q/0", "q/1"], ("p", "q")),
        (["light", "heavy"], ["x", "y"], ("light and 1 more", "x and 1 more")),
        (["same"], ["same"], ("same (A)", "same (B)")),
    ],
)
def test_names_are_those_of_the_runs(a, b, names):
    assert side_names(a, b) == names


def test_names_that_are_given_come_first():
    assert side_names(["x"], ["y"], ["hard labels", "soft targets"]) == (
        "hard labels",
        "soft targets",
    )
    assert side_names(["x"], ["y"], ()) == ("x", "y")
    for given in (["one"], ["one", "two", "three"], ["one", "one"], ["one", ""]):
        with pytest.raises(BadConfig, match="impossible names: expected two different ones"):
            side_names(["x"], ["y"], given)
