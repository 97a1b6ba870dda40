"""`benchmarks/linear.py` in small: every figure, and a bound on memory that is kept there too."""

from __future__ import annotations

from pathlib import Path

import pytest

SHAPE, RECORDED = "1024x16x16384", "1024 x 256 x 131072"
LINUX = Path("/proc/self/clear_refs").exists()


@pytest.mark.skipif(not LINUX, reason="a process's high-water mark is set back on Linux alone")
def test_every_figure_on_record_is_measured_and_memory_is_under_a_quarter(
    run_benchmark, recorded
) -> None:
    found = run_benchmark("linear", "--repeats", "1", "--shape", SHAPE)
    small = SHAPE.replace("x", " x ")
    assert {name.replace(small, RECORDED) for name in found} == recorded("linear")
    memory = [value for name, value in found.items() if name.startswith("memory")]
    assert len(memory) == 4
    assert 0 < max(memory) <= 0.25
