"""`benchmarks/waiting.py` in small: the smallest head, three steps; nothing is timed."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    size = "1 layer, 128 wide"
    found = run_benchmark("waiting", "--repeats", "2", "--steps", "1", "--size", size)
    assert set(found) == {name for name in recorded("waiting") if name.startswith(size)} != set()
