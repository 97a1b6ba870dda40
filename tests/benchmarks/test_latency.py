"""`benchmarks/latency.py` in small: every head, twice, and a film of one second."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("latency", "--calls", "2", "--seconds", "1", "--share", "0.125")
    live = {name for name in found if name.startswith("live: ")}
    assert len(live) == 11
    assert all(found[name] > 0 for name in live if "dropped" not in name)
    assert set(found) - live == recorded("latency") - live
