"""`benchmarks/cross_fitting.py` in small: all kinds of targets, for one epoch and two seeds."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("cross_fitting", "--share", "0.13", "--epochs", "1", "--seeds", "2")
    assert set(found) == recorded("cross_fitting")
