"""A short form of `benchmarks/durability.py`: real commands, killed at random moments."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

EXTRACTIONS = [f"{kind}, {n}" for kind in ("zarr", "hdf5") for n in ("1 process", "3 processes")]
COMMANDS = [f"import{how}: {kind}" for how in ("", " --overwrite") for kind in ("zarr", "hdf5")]
COMMANDS += ["teacher train: count", "teacher train: sequence", "student train", "student sweep"]


@pytest.mark.slow
def test_nothing_is_lost_and_every_command_goes_on(
    repo: Path, forked: ModuleType, tmp_path: Path
) -> None:
    """See the benchmark for what is checked each time."""
    script = repo / "benchmarks/durability.py"
    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = forked.run(
        ("--kills", "2"), folder=tmp_path, timeout_s=580, environment=one_thread, script=script
    )
    assert done.code == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert figures["broken"] == []
    for case in (*EXTRACTIONS, *COMMANDS):
        kills = 2 if case in EXTRACTIONS else 1
        assert figures[f"kills: {case}"] == kills
        assert figures[f"violations: {case}"] == 0
        assert figures[f"re-runs that finished: {case}"] == kills
    # One kill may come before any video is there; not all of them.
    assert sum(figures[f"videos listed after a kill, each verified: {e}"] for e in EXTRACTIONS) > 0
