"""The fuzzing benchmark in small: every kind of file intact, and changed in a few ways."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import specimens

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


KINDS = list(specimens.SPECIMENS)


@pytest.fixture(scope="module")
def fuzz(benchmark: Any, forked: ModuleType) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        module = benchmark("fuzz")
        patch.setattr(module, "SECONDS", 60.0)  # the machine may be shared; what hangs has no end
        yield module


def test_there_are_enough() -> None:
    names = [specimen.kind for specimen in KINDS]
    assert len(names) == len(set(names)) >= 20


@pytest.mark.parametrize("specimen", KINDS, ids=lambda specimen: specimen.kind)
def test_kind(specimen: Any, fuzz: ModuleType, tmp_path: Path) -> None:
    """The command reads the whole file; of two changed ones, too, nothing comes but one line."""
    folder = fuzz.copy_kitchen(tmp_path)
    for command in specimen.commands:
        outcome = fuzz.run(fuzz.words(command), folder=folder, timeout_s=60)
        expected = 2 if specimen.kind == "sweep plan" else 0
        assert outcome.code == expected, f"{command}: {outcome}"
        assert specimen.kind != "sweep plan" or "the store has no features" in outcome.stderr
    tally = fuzz.try_kind(specimen, folder, 2, seed=1, keep=None)
    assert tally.runs == 2 * len(specimen.commands)
    assert not any(tally.wrong.values()), tally


def test_mutants_are_those_of_the_seed(fuzz: ModuleType, tmp_path: Path) -> None:
    folder = fuzz.copy_kitchen(tmp_path)
    whole = (folder / KINDS[0].path).read_bytes()
    first, again, other = (list(fuzz.mutants(KINDS[0], folder, 30, seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first[:10] == list(fuzz.mutants(KINDS[0], folder, 10, 0))
    assert sum(data != whole for data in first) > 25
    assert len({len(data) for data in first}) > 5


def test_what_is_wrong_is_counted(fuzz: ModuleType) -> None:
    fine = {"code": 2, "stdout": "", "seconds": 1.0, "peak_bytes": 1 << 30, "hung": False}
    outcome = importlib.import_module("forked").Outcome
    line = "Warning: odd\nError: no\n"
    for changes, wrong in (
        ({"stderr": line}, set()),
        ({"stderr": "", "code": 0}, set()),
        ({"stderr": line + "more\n"}, {"errors of several lines"}),
        ({"stderr": ""}, {"errors of several lines"}),
        ({"stderr": "Traceback (most recent call last):\n", "code": 1}, {"tracebacks"}),
        ({"stderr": "", "code": -11}, {"tracebacks"}),
        ({"stderr": line, "code": -9, "hung": True}, {"hangs"}),
        ({"stderr": line, "peak_bytes": 3 << 30}, {"over 2 GiB"}),
    ):
        found = outcome(**{**fine, **changes})
        assert {what for what, is_so in fuzz.WRONG.items() if is_so(found)} == wrong
