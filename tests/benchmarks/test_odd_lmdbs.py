"""Odd lmdbs in small: some cases are answered right, and a wrong answer is noticed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Iterator[tuple[ModuleType, ModuleType]]:
    """`odd_lmdbs`, and `forked` with everything loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        forked = importlib.import_module("forked")
        forked.preload()
        yield importlib.import_module("odd_lmdbs"), forked


NAMES = ("four rows a second with a gap, in one file", "float16", "a rule for gaps, set later")


def test_there_are_ten(modules: tuple[ModuleType, ModuleType]) -> None:
    cases = modules[0].CASES
    assert len({case.name for case in cases}) == len(cases) == 10
    assert {case.kind for case in cases} == {"lmdb"}
    assert set(NAMES) <= {case.name for case in cases}


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_answered_right(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path, name: str
) -> None:
    odd, forked = modules
    (case,) = (case for case in odd.CASES if case.name == name)
    commands = case.make(tmp_path)
    outcomes = [forked.run(command, folder=tmp_path, timeout_s=60) for command in commands]
    assert case.wrong(tmp_path, outcomes) == ""
    last = replace(outcomes[-1], code=1, stderr="Error: something else")
    assert case.wrong(tmp_path, [*outcomes[:-1], last])


def test_other_rows_are_noticed(modules: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    odd, forked = modules
    case = odd.CASES[0]
    (command,) = case.make(tmp_path)
    outcome = forked.run([*command, "--fps-of-keys", "60"], folder=tmp_path, timeout_s=60)
    assert "other times" in case.wrong(tmp_path, [outcome])
