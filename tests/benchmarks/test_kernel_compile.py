"""`benchmarks/kernel_compile.py` in small: the kernels of one shape, compiled for a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_compile_report(repo: Path, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    options = ["--shapes", "64x106", "--forms", "dense", "--record", "--out", str(tmp_path)]
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(repo / "benchmarks" / "kernel_compile.py"), *options],
        capture_output=True,
        text=True,
        env={**env, "TRITON_CACHE_DIR": str(tmp_path / "cache")},
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a variant spills
    summary = json.loads(done.stdout.splitlines()[-1])
    # Two dtypes of the loss and of the scaling, and the gradient of bfloat16 once more.
    assert summary["variants compiled for sm_90"] == 5
    assert (done.returncode == 1) == bool(summary["bytes spilled by any variant, sm_90"])
    assert "tile_kernel" in done.stdout
    assert {r["figure"] for r in json.loads((tmp_path / "kernel_compile.json").read_text())} == {
        name for name in summary if name.endswith("sm_90")
    }
