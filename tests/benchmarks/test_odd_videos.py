"""Odd videos in small: some cases are answered right, and a wrong answer is noticed."""

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
    """`odd_videos`, and `forked` with everything loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        forked = importlib.import_module("forked")
        forked.preload()
        yield importlib.import_module("odd_videos"), forked


NAMES = ("AVI, packed bitstream", "raw MJPEG", "two films of one name", "linked folders")


def test_there_are_thirty(modules: tuple[ModuleType, ModuleType]) -> None:
    cases = modules[0].CASES
    assert len({case.name for case in cases}) == len(cases) == 30
    assert {case.kind for case in cases} == {"video"}
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
    last = replace(outcomes[-1], code=3, stderr="Error: something else")
    assert "exit code 3" in case.wrong(tmp_path, [*outcomes[:-1], last])


def test_other_pictures_are_noticed(modules: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    """Pictures at other times, and pictures of another shape."""
    odd, forked = modules
    films = importlib.import_module("odd_films")
    (case,) = (case for case in odd.CASES if case.name == "pixels twice as wide as high")
    for number, options in enumerate(
        ({"times": films.steady(50, 20)}, {"times": films.steady(), "size": (112, 56)})
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (command,) = case.make(folder)
        films.write(folder / "videos/v.mp4", **options)
        outcome = forked.run(command, folder=folder, timeout_s=60)
        assert "rows of" in case.wrong(folder, [outcome])
