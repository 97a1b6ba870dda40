"""`benchmarks/windows.py` in small: the windows of every parity are those of the published code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def test_no_window_differs(data_dir: Path, benchmark: Callable[[str], ModuleType]) -> None:
    windows = benchmark("windows")
    figures = windows.compare(data_dir, limit=150)
    assert len(figures) == 11
    assert {figure.value for figure in figures} == {0}
    assert sum(figure.n for figure in figures) == 11 * 150 * 5
