"""`benchmarks/transfer.py` in small, and what its map of names says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from antcache.annotations import Taxonomy


def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("transfer")
    assert set(found) == recorded("transfer")
    assert found["50 Salads: mapped"] == found["50 Salads: covered"] == 100


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("take_cup", "take_cup"),
        ("pour_egg2pan", None),  # the pan is where, not what
        ("Slice-Slice 1 tomato on a board", "cut_tomato"),  # by another verb
        ("Place-Place the mugs inside the oven", "put_cup"),  # and another thing
        ("Wait-Wait for 5 minutes", None),
    ],
)
def test_names_are_mapped_by_the_tables(
    benchmark: Callable[[str], ModuleType], name: str, action: str | None
) -> None:
    words = benchmark("transfer_words")
    actions = ("take_cup", "put_cup", "cut_tomato", "take_pan")
    pairs = ((0, 0), (1, 0), (2, 1), (0, 2))
    taxonomy = Taxonomy(
        dataset="kitchen",
        verbs=("take", "put", "cut"),
        nouns=("cup", "tomato", "pan"),
        actions=actions,
        action_verbs=tuple(v for v, _ in pairs),
        action_nouns=tuple(n for _, n in pairs),
    )
    found = words.mapped(name, words.index_of(taxonomy))
    assert (None if found is None else actions[found]) == action
