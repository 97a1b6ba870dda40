"""`benchmarks/counting.py` in small."""

from __future__ import annotations


def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("counting", "--rounds", "1")
    assert set(found) == recorded("counting")
    assert all(value >= 0 for value in found.values())
