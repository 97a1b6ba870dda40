"""A short form of `benchmarks/durability.py`: real extractions, killed at random moments."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_nothing_is_lost_when_extraction_is_killed(repo):
    """Zarr and HDF5, one process and three; see the benchmark for what is checked each time."""
    command = [sys.executable, str(repo / "benchmarks" / "durability.py"), "--kills", "6"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads(result.stdout.strip().splitlines()[-1])
    assert figures["broken"] == []
    for kind in ("zarr", "hdf5"):
        for processes in ("1 process", "3 processes"):
            case = f"{kind}, {processes}"
            assert figures[f"kills: {case}"] == 6
            assert figures[f"violations: {case}"] == 0
            assert figures[f"re-runs that finished: {case}"] == 6
            assert figures[f"videos listed after a kill, each verified: {case}"] > 0
