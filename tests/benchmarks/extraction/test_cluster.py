"""`benchmarks/cluster.py` in small, on the cluster of the tests; nothing is timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_in_small(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    gain, overhead = benchmark("cluster").figures(tmp_path, 3, 0.001, most=2)
    assert (gain.figure, gain.unit, gain.n) == ("2 nodes over one", "x", 3)
    assert gain.value > 0
    assert (overhead.figure, overhead.unit) == ("overhead a video", "ms")
