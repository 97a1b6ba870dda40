"""`benchmarks/ablation.py` in small: every row, one seed, on little data."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded, tmp_path) -> None:
    found = run_benchmark(
        "ablation", "--seeds", "1", "--threads", "1", "--work", str(tmp_path / "work")
    )
    assert set(found) == recorded("ablation")
