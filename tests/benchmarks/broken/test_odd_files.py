"""The benchmark of odd inputs: each answered right, and a wrong answer is found."""

from __future__ import annotations

from collections import Counter
from typing import Any

import odd_files
import pytest

pytestmark = pytest.mark.usefixtures("forked")
CASES = odd_files.cases()


def test_each_has_a_name_of_its_own_and_a_kind() -> None:
    names = Counter(case.name for case in CASES)
    assert [name for name, count in names.items() if count > 1] == []
    assert {case.kind for case in CASES} <= odd_files.LEAST.keys()


@pytest.mark.parametrize("kind", sorted({case.kind for case in CASES}))
def test_there_are_enough(kind: str) -> None:
    assert sum(case.kind == kind for case in CASES) >= odd_files.LEAST[kind]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Any) -> None:
    assert odd_files.answer(case).wrong == ""


def test_wrong_answers_are_found_and_counted() -> None:
    """A result where there is another one, a refusal that says another thing, and no refusal."""
    by_name = {case.name: case for case in CASES}
    good = by_name["splits as files with capitals"]
    bad = by_name["semicolons between the cells"]
    mixed = [
        odd_files.OddCase(
            name=f"{one.name}, {other.name}", kind="table", make=one.make, wrong=other.wrong
        )
        for one, other in (
            (good, by_name["one file for everything"]),
            (good, bad),
            (bad, good),
            (bad, by_name["a Git LFS pointer"]),
        )
    ]
    found = odd_files.answers([*mixed, good, bad])
    assert [bool(one.wrong) for one in found] == [True] * 4 + [False] * 2
    assert [one.refused for one in found] == [False, False, True, True, False, True]
    figures = {figure.figure: figure for figure in odd_files.figures(found)}
    assert (figures["table: inputs"].value, figures["table: wrong"].value) == (6, 4)
    assert figures["right"].value == 2
    assert not figures["table: wrong"].holds


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hung": True}, "more than 120 s"),
        ({"stderr": "Traceback (most recent call last):\n"}, "a traceback"),
        ({"code": -11}, "a crash"),
        ({"code": 2, "stderr": "Error: a\nError: b\n"}, "2 lines of error"),
        ({"code": 2, "stderr": "Error: a\nb\n"}, "2 lines of error"),
        ({"code": 2, "stderr": "note: x\n"}, "0 lines of error"),
        ({"code": 2, "stderr": "note: x\nError: a\n"}, ""),
        ({}, ""),
    ],
)
def test_what_no_command_may_do(changes: dict[str, Any], words: str) -> None:
    fine: dict[str, Any] = {
        "code": 0,
        "stdout": "",
        "stderr": "",
        "seconds": 0.1,
        "peak_bytes": 1,
        "hung": False,
    }
    said = odd_files.unruly([["x"]], [odd_files.forked.Outcome(**{**fine, **changes})])
    assert (words in said) if words else said == ""
