"""`benchmarks/steps.py` in small: every step is taken; nothing is timed."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded, data_dir: Path) -> None:
    found = run_benchmark(
        "steps", "--segments", "20", "--bootstrap", "10", ANTCACHE_DATA=str(data_dir)
    )
    assert set(found) == recorded("steps")
    assert all(value > 0 for value in found.values())
