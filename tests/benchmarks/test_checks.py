"""`benchmarks/checks.py` in small: who compares nothing, who comes first, who comes later."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("checks", "--repeats", "1")
    assert set(found) == recorded("checks")
