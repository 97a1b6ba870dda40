"""`benchmarks/startup.py` in small: every command is answered as it should be; nothing is timed."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("startup", "--repeats", "2")
    assert set(found) == recorded("startup")
