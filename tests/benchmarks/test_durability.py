"""A short form of `benchmarks/durability.py`: real commands, killed at random moments."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXTRACTIONS = [f"{kind}, {n}" for kind in ("zarr", "hdf5") for n in ("1 process", "3 processes")]
COMMANDS = [f"import{how}: {kind}" for how in ("", " --overwrite") for kind in ("zarr", "hdf5")]
COMMANDS += ["teacher train: count", "teacher train: sequence", "student train", "student sweep"]


@pytest.mark.slow
def test_nothing_is_lost_and_every_command_goes_on(repo: Path) -> None:
    """See the benchmark for what is checked each time."""
    command = [sys.executable, str(repo / "benchmarks" / "durability.py"), "--kills", "5"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads(result.stdout.strip().splitlines()[-1])
    assert figures["broken"] == []
    for case in (*EXTRACTIONS, *COMMANDS):
        kills = 5 if case in EXTRACTIONS else 2
        assert figures[f"kills: {case}"] == kills
        assert figures[f"violations: {case}"] == 0
        assert figures[f"re-runs that finished: {case}"] == kills
        if case in EXTRACTIONS:
            assert figures[f"videos listed after a kill, each verified: {case}"] > 0
