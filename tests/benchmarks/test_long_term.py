"""`benchmarks/long_term.py`, in small."""

from __future__ import annotations


def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("long_term")
    assert set(found) == recorded("long_term")
    assert 0 <= found["ED@(5,1)"] < found["ED@(5,5)"] < 1  # in one order: draws err
