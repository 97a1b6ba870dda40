"""`benchmarks/decoding.py` in small: every figure, on two seconds of small films."""

from __future__ import annotations


def test_every_figure_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("decoding", "--repeats", "2", "--seconds", "2", "--height", "72")
    assert set(found) == recorded("decoding")
