"""`benchmarks/versions.py` in small: every command, with the versions that are here."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.mark.slow
def test_every_command_works_here(run_benchmark) -> None:
    (worked,) = run_benchmark("versions", "--small").values()
    assert worked > 15


def test_a_command_that_fails_is_told(
    benchmark: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    versions = benchmark("versions")
    found = {"commands": 3, "failed": {"store info x": "Error: it broke"}, "versions": {}}
    figure = versions.judge("here", found)
    assert (figure.value, figure.at_least, figure.holds) == (2, 3, False)
    assert "store info x\nError: it broke" in capsys.readouterr().err
