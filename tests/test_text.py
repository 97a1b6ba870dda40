from __future__ import annotations

import pytest

from antcache.text import cell, listed


@pytest.mark.parametrize(
    ("items", "shown", "expected"),
    [
        ([], 5, ""),
        (["a"], 5, "a"),
        (list("abcde"), 5, "a, b, c, d, e"),
        (list("abcdef"), 5, "a, b, c, d, e, and 1 more"),
        (list("abcdef"), 2, "a, b, and 4 more"),
    ],
)
def test_the_first_few_and_how_many_more(items, shown, expected):
    assert listed(items, shown) == expected


def test_five_are_named_unless_asked_otherwise():
    assert listed(list("abcdefg")) == "a, b, c, d, e, and 2 more"


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", " =1", "\uff1d1"])
def test_a_cell_is_no_formula(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["take pan", "a=b", "'=1", "", "<script>", "نعم", "🍳"])
def test_other_cells_are_as_they_were(text):
    assert cell(text) == text
    assert cell("\t=1\n") == r"\t=1\n"  # begins with a backslash
