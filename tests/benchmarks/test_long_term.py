"""`benchmarks/long_term.py`, which is small enough to be run whole."""

from __future__ import annotations


def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("long_term")
    assert set(found) == recorded("long_term")
    assert found["ED@(5,5)"] < found["ED@(5,1)"] < 1
    assert found["after 20%, the next 10%"] > found["after 20%, the next 50%"] > 100 / 19
