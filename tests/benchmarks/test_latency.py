"""`benchmarks/latency.py` in small: every head, twice."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("latency", "--calls", "2")
    assert set(found) == recorded("latency")
