"""`benchmarks/demo.py` in small: the demo itself, for one epoch and two seeds."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("demo", "--share", "0.08", "--epochs", "1", "--seeds", "2")
    assert set(found) == recorded("demo")
