"""`benchmarks/kernel_plot.py`: a picture of a few rows, and one line without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from antcache.kernels.benchmark import rows as bench

CASE = {
    "device": "a GPU",
    "driver": "1.2",
    "torch": "2.13",
    "triton": "3.9",
    "date": "2026-01-02",
    "mode": bench.BOTH,
    "dtype": "float32",
    "B": 16384,
    "C": 2513,
    "W": 2513,
    "ms_p20": 0.9,
    "gb_s": 4000.0,
    "copy_share": 0.9,
    "peak_mb": 164.5,
}


@pytest.mark.parametrize("value", ["copy_share", "ms_p50"])
def test_plot(repo: Path, tmp_path: Path, forked: ModuleType, value: str) -> None:
    pytest.importorskip("matplotlib")
    times = {bench.OURS: 1.0, bench.LIGER: 3.1, bench.PLAIN: 4.1, bench.COMPILED: 1.6}
    rows = [
        bench.Row(**{**CASE, "contender": name, "form": form, "ms_p50": ms, "ms_p80": 9.0})
        for name, ms in times.items()
        for form in ("dense", "top-50", bench.LINEAR)
    ]
    rows += [replace(row, W=2528, dtype="bfloat16", device="NVIDIA H200") for row in rows]
    bench.write_rows(tmp_path / "kernel.csv", rows)
    script = repo / "benchmarks/kernel_plot.py"
    options = ["--csv", str(tmp_path / "kernel.csv"), "--out", str(tmp_path / "kernel.png")]
    options += ["--value", value, "--device", "NVIDIA H200"]
    done = forked.run(options, folder=tmp_path, timeout_s=120, script=script)
    assert done.code == 0, done.stderr
    assert (tmp_path / "kernel.png").read_bytes()[:4] == b"\x89PNG"
    none = ("--csv", str(tmp_path / "none.csv"))
    missing = forked.run(none, folder=tmp_path, timeout_s=120, script=script)
    assert (missing.code, len(missing.stderr.splitlines())) == (2, 1)
