"""`benchmarks/kernel_compile.py` in small: the kernels of one shape, compiled for two GPUs.

The walk through the machine code of all three is in `machine_code/`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from antcache.kernels.benchmark.bounds import transfers
from antcache.kernels.benchmark.rows import Case

SHARE = "ceiling of the share of copy bandwidth, {}, 65536 x 106 bfloat16 dense"


@pytest.fixture
def run(repo: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    pytest.importorskip("triton")
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(repo / "benchmarks" / "kernel_compile.py"), *options],
            capture_output=True,
            text=True,
            env={**env, "TRITON_CACHE_DIR": str(tmp_path / "cache")},
            cwd=tmp_path,
            check=False,
        )

    return run


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def tables(text: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Lines of variants and of forward passes, each by its columns."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    split = next(i for i, line in enumerate(lines) if line.startswith("| forward and gradient"))
    both = lines[:split], lines[split:]
    return tuple(
        [dict(zip(cells(part[0]), cells(line), strict=True)) for line in part[2:]] for part in both
    )


def test_report(run, tmp_path: Path) -> None:
    shown = ("--shapes", "65536x106", "--forms", "dense", "--dtypes", "bfloat16")
    archs = ("sm_90", "sm_100")
    done = run(
        *shown, "--arch", ",".join(archs), "--opcodes", "2", "--record", "--out", str(tmp_path)
    )
    assert done.returncode in (0, 1), done.stderr
    variants, passes = tables(done.stdout)
    summary = json.loads(done.stdout.splitlines()[-1])
    records = {r["figure"]: r for r in json.loads((tmp_path / "kernel_compile.json").read_text())}
    assert summary.pop("benchmark") == "kernel_compile"
    broken = summary.pop("broken")
    assert summary == {name: record["value"] for name, record in records.items()}
    assert broken == [name for name, record in records.items() if not record["holds"]]
    assert done.returncode == bool(broken)

    for arch in archs:
        here = [one for one in variants if one["arch"] == arch]
        assert len(here) == summary[f"variants compiled, {arch}"] == len(variants) / len(archs) > 2
        assert (
            max(int(one["regs"]) for one in here)
            == summary[f"registers of the largest variant, {arch}"]
        )
        # A row of all its warps takes at least an exponential and a load for every 32 classes.
        assert max(float(one["instr/row"]) for one in here) > 2 * 106 / 32
    opcodes = [line for line in done.stdout.splitlines() if line.startswith("    a row: ")]
    assert len(opcodes) == len(variants)
    assert all(line.count(",") == 1 for line in opcodes)
    (one,) = passes
    assert float(one["needed/row"]) == 3 * 2 * 106  # student, teacher, gradient
    assert 3 * 2 * 106 <= float(one["moved/row"]) < 1.1 * 3 * 2 * 106
    for device in ("H100", "H200"):
        share = summary[SHARE.format(device)]
        assert 0 < share <= 1
        assert one[f"{device} share"] == f"{share:.0%}"
    assert records[SHARE.format("H100")]["at_least"] > 0


def test_long_rows_make_the_transfers_that_their_bounds_are_for(run) -> None:
    shown = ("--shapes", "8192x131072", "--forms", "dense,top-50", "--dtypes", "bfloat16")
    done = run(*shown, "--arch", "sm_90")
    assert done.returncode in (0, 1), done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    _, passes = tables(done.stdout)
    assert len(passes) == 2
    for one, form in zip(passes, ("dense", "top-50"), strict=True):
        case = Case(dtype="bfloat16", form=form, batch=8192, classes=131072)
        least, made = transfers(case)
        needed, moved = float(one["needed/row"]), float(one["moved/row"])
        assert moved / needed == pytest.approx(made / least, rel=1e-2)
        of = f" for {made} transfers" if made > least else ""
        for device in ("H100", "H200"):
            share = summary[f"ceiling of the share of copy bandwidth{of}, {device}, {case}"]
            assert one[f"{device} share"] == f"{share * least / made:.0%}"


@pytest.fixture
def refused(repo: Path, tmp_path: Path, forked: ModuleType) -> Callable[..., str]:
    """Function: what it says of options that it does not take."""
    script = repo / "benchmarks/kernel_compile.py"

    def refused(*options: str) -> str:
        done = forked.run(options, folder=tmp_path, timeout_s=60, script=script)
        assert done.code == 2
        assert "Traceback" not in done.stderr
        return done.stderr

    return refused


def test_every_form_can_be_asked_for(refused) -> None:
    known = refused("--forms", "thick").partition("expected ")[2].partition(", found")[0]
    assert len(known.split(", ")) > 3
    assert "unknown dtype" in refused("--forms", ",".join(known.split(", ")), "--dtypes", "int4")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--arch", "sm_91"], "unknown arch: expected sm_80, sm_90, sm_100, found sm_91"),
        (["--forms", "thick"], "unknown form"),
        (["--dtypes", "int4"], "unknown dtype"),
        (["--shapes", "64x106/100"], "not a width of rows: expected 106 or more"),
    ],
)
def test_unknown_words_are_named(refused, options: list[str], said: str) -> None:
    assert said in refused(*options)
