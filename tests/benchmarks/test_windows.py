"""`benchmarks/windows.py` in small: the windows of every parity are those of the published code."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def test_no_window_differs(repo: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repo / "benchmarks"))
    windows = importlib.import_module("windows")
    figures = windows.compare(data_dir, limit=150)
    assert len(figures) == 11
    assert {figure.value for figure in figures} == {0}
    assert sum(figure.n for figure in figures) == 11 * 150 * 5
