"""`benchmarks/browse.py` in small: a few videos, one process."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    pytest.importorskip("uvicorn")
    options = ("--videos", "12", "--segments", "200", "--repeats", "1")
    found = run_benchmark("browse", *options)
    assert set(found) == recorded("browse")
    assert 30 < found["first page, peak memory"] <= found["everything, peak memory"]
