"""`benchmarks/prompted.py` in small: the same decoders, few names."""

from __future__ import annotations


def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("prompted", "--texts", "1")
    assert set(found) == recorded("prompted")
    assert all(value > 0 for value in found.values())
