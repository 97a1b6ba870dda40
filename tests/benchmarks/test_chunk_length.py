"""`benchmarks/chunk_length.py` in small: every length of chunks, on a fiftieth of the rows."""

from __future__ import annotations

import pytest


@pytest.mark.slow
@pytest.mark.usefixtures("forked_parts")
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    found = run_benchmark("chunk_length", "--repeats", "2", "--share", "0.02")
    assert set(found) == recorded("chunk_length")
