"""`benchmarks/reads.py` in small: every way to read windows, and packing."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("reads", "--repeats", "2", "--videos", "2", "--rows", "200")
    assert set(found) == recorded("reads")
