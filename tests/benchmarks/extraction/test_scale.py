"""`benchmarks/scale.py` in small: every call is made on every kind of store; nothing is timed."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded) -> None:
    pytest.importorskip("moto.server", reason="moto is not installed: no S3 server")
    found = run_benchmark("scale", "--videos", "3", "--repeats", "1")
    assert set(found) == recorded("scale")
    assert all(value > 0 for name, value in found.items() if name.endswith("memory"))
