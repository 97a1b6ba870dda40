"""The benchmark of the kernel: what it measures, what it leaves, and what it calls broken."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import BadConfig
from antcache.kernels.benchmark import rows as bench
from antcache.kernels.benchmark.rows import BOTH, COMPILED, EAGER, LIGER, OURS, PLAIN, Row
from antcache.kernels.benchmark.run import gpu_jobs, parse_shapes

NUMBA = importlib.util.find_spec("numba") is not None
# Finders of editable installs, and whatever the kernel must not need, are out of the way.
BARE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")
                    and "editable" not in getattr(f, "__name__", "").lower()]
sys.path_hooks[:] = [h for h in sys.path_hooks if "ditable" not in repr(h)]
sys.path[:] = [p for p in sys.path if "editable" not in p]
BANNED = {banned!r}
from importlib.machinery import PathFinder
class Without:  # as if the banned packages were not installed
    @staticmethod
    def find_spec(name, path=None, target=None):
        banned = name.split(".")[0] in BANNED
        return None if banned else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Without if f is PathFinder else f for f in sys.meta_path]
import importlib.util
try:
    found = importlib.util.find_spec("antcache")
except ModuleNotFoundError:
    found = None
assert found is None, "the checkout is importable anyhow"
import runpy
sys.argv = {argv!r}
sys.path.insert(0, {folder!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def without_compiler() -> AbstractContextManager[None]:
    """As on a machine where torch.compile finds no C++ compiler, which saves its time."""
    from torch._inductor import config

    return config.patch({"cpp.cxx": (None, "no-such-compiler")})


def row(**values: object) -> Row:
    given = {
        "device": "a GPU",
        "driver": "1.2",
        "torch": "2.13",
        "triton": "3.9",
        "date": "2026-01-02",
        "contender": OURS,
        "mode": BOTH,
        "dtype": "float32",
        "form": "dense",
        "B": 16384,
        "C": 2513,
        "W": 2513,
        "ms_p20": 0.9,
        "ms_p50": 1.0,
        "ms_p80": 1.2,
        "gb_s": 4000.0,
        "copy_share": 0.9,
        "peak_mb": 164.5,
    }
    return Row(**{**given, **values})


def bare(script: Path, *options: str, cwd: Path, banned: list[str]) -> subprocess.CompletedProcess:
    """Run a benchmark as from a checkout that is not installed."""
    code = BARE.format(banned=banned, argv=[str(script), *options], folder=str(script.parent))
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TRITON_INTERPRET")}
    env["CXX"] = "no-such-compiler"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=env, check=False
    )


def test_command_measures_and_records_on_the_cpu(tmp_path: Path) -> None:
    command = ["bench", "kernel", "--device", "cpu", "--quick", "--shapes", "4x125"]
    result = CliRunner().invoke(cli, [*command, "--record", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "copy bandwidth" in result.output
    assert "not measured: the GPU's cases" in result.output
    assert max(map(len, result.output.splitlines())) <= 100
    rows = bench.read_rows(tmp_path / "kernel.csv")
    assert {(r.B, r.C) for r in rows} == {(4, 125)}
    assert len(rows) == 9
    for r in rows:
        assert r.device.startswith("CPU")
        if r.contender == COMPILED and not shutil.which(os.environ.get("CXX", "g++")):
            assert r.note
        elif r.contender in (PLAIN, EAGER, COMPILED) or NUMBA:
            assert r.ms_p20 is not None
            assert 0 < r.ms_p20 <= r.ms_p50 <= r.ms_p80
            times = 3 if r.mode == BOTH else 2  # two tensors read, one written
            assert r.gb_s == pytest.approx(times * 4 * r.B * r.C / r.ms_p50 * 1e-6, rel=1e-4)
        else:
            assert r.note


def test_bare_checkout_needs_torch_and_triton_only(repo: Path, tmp_path: Path) -> None:
    banned = ["click", "rich", "zarr", "numba", "h5py", "pandas", "matplotlib", "numcodecs"]
    script = repo / "benchmarks" / "kernel.py"
    options = (
        "--device",
        "cpu",
        "--quick",
        "--shapes",
        "4x16",
        "--record",
        "--output",
        str(tmp_path),
    )
    done = bare(script, *options, cwd=tmp_path, banned=banned)
    assert done.returncode == 0, done.stderr
    rows = bench.read_rows(tmp_path / "kernel.csv")
    notes = {r.contender: r.note for r in rows if r.note}
    assert set(notes) == {OURS, bench.OVER, COMPILED}
    assert all("numba" in notes[name] for name in (OURS, bench.OVER))
    assert notes[COMPILED] == "torch.compile needs a C++ compiler on a CPU, and found none"
    assert {r.contender for r in rows if r.ms_p50} == {PLAIN, EAGER}
    assert json.loads(done.stdout.splitlines()[-1])["broken"] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shapes", "3x"], "shapes not understood"),
        (["--shapes", "3x1"], "impossible shapes"),
        (["--device", "tpu"], "unknown device"),
        (["--minutes", "0"], "impossible --minutes"),
        (["--output", "x"], "--record"),
    ],
)
def test_bad_input_is_one_line(repo: Path, options: list[str], words: str) -> None:
    result = CliRunner().invoke(cli, ["bench", "kernel", *options], standalone_mode=True)
    assert result.exit_code == 2
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_file_says_bad_input_in_one_line(repo: Path) -> None:
    command = [sys.executable, str(repo / "benchmarks/kernel.py"), "--shapes", "3x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: shapes not understood")
    assert len(done.stderr.splitlines()) == 1


def test_no_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = CliRunner().invoke(cli, ["bench", "kernel", "--device", "cuda"])
    assert (result.exit_code, "no GPU" in result.output) == (2, True)


def test_the_table_says_each_reason_once() -> None:
    skipped = [
        row(contender=LIGER, B=batch, note="not here", **dict.fromkeys(bench.NUMBERS))
        for batch in (1, 2, 3)
    ]
    lines = bench.table([row(W=2528), *skipped]).splitlines()
    assert len(lines) == 4
    assert "|16384x2513/2528|" in lines[2]
    assert lines[3] == "liger, 1 x 2513 float32 dense and 2 more: not here"


def test_csv_replaces_what_was_measured_again_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kernel.csv"
    old, other = row(), row(device="another GPU", ms_p50=7.0)
    skipped = row(contender=LIGER, note="not, here", **dict.fromkeys(bench.NUMBERS))
    bench.write_rows(path, [old, other, skipped])
    assert bench.read_rows(path) == [old, other, skipped]
    bench.write_rows(path, [row(ms_p50=2.0, date="2026-02-03")])
    assert bench.read_rows(path) == [row(ms_p50=2.0, date="2026-02-03"), other, skipped]
    bench.write_rows(path, [row(W=2528)])  # padded rows are another case
    assert bench.read_rows(path)[-1] == row(W=2528)
    assert len(bench.read_rows(path)) == 4


def test_a_foreign_csv_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "kernel.csv"
    path.write_text("a,b\n1,2\n")
    options = ["--device", "cpu", "--shapes", "4x16", "--record", "--output", str(tmp_path)]
    result = CliRunner().invoke(cli, ["bench", "kernel", *options])
    assert result.exit_code == 2
    assert path.read_text() == "a,b\n1,2\n"
    with pytest.raises(BadConfig, match="not a CSV"):
        bench.write_rows(path, [row()])


def test_figures_of_other_devices_stay(tmp_path: Path) -> None:
    path = tmp_path / "kernel.json"
    figures = [bench.Figure(figure=name, value=1.0, unit="x", at_least=0.5) for name in "ab"]
    for device in ("one", "two", "two"):
        bench.write_figures(path, figures, device=device, versions={}, command="x")
    records = json.loads(path.read_text())
    assert len(records) == 2 * len(figures)
    assert all(record["holds"] for record in records)


def test_shapes_are_those_of_the_project() -> None:
    found = bench.shapes()
    assert len(found) == len(set(found)) == 13
    assert {(128, 106), (65536, 3806), (8192, 131072)} <= set(found)
    cases = bench.cases(found)
    assert len(set(cases)) == len(cases) == 13 * 2 * 3 + 2 + 2
    padded = [case for case in cases if case.padded]
    assert [(c.batch, c.classes, c.width) for c in padded] == [
        (16384, 2513, 2528),
        (65536, 2513, 2528),
    ]
    for case in padded:  # what it is compared with has been measured just before
        assert cases[cases.index(case) - 1] == case.unpadded
    assert {(c.batch, c.classes) for c in cases if c.form == bench.LINEAR} == {(8192, 131072)}
    assert set(bench.shapes(quick=True)) <= set(found)
    assert parse_shapes("16384x2513, 2x3") == ((16384, 2513), (2, 3))


def test_every_contender_is_measured_once_in_every_case() -> None:
    cases = bench.cases(bench.shapes())
    jobs = gpu_jobs(cases)
    found = {case: [name for job, names in jobs if job == case for name in names] for case in cases}
    others = {PLAIN, EAGER, LIGER, bench.ORDA, bench.FLA, COMPILED}
    for case, names in found.items():
        second = bench.WHOLE if case.form == bench.LINEAR else bench.OVER
        assert len(names) == len(set(names))
        assert set(names) == {OURS, second, *others}
    assert jobs[0] == (cases[0], found[cases[0]])  # compiled, too: it has a bound there


def test_a_failure_of_ours_breaks_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_arguments: object, **_named: object) -> None:
        raise ZeroDivisionError("ours is wrong")

    monkeypatch.setattr("antcache.kernels.benchmark.contenders.distillation_loss", fails)
    options = [
        "--device",
        "cpu",
        "--quick",
        "--shapes",
        "4x16",
        "--record",
        "--output",
        str(tmp_path),
    ]
    with without_compiler():
        result = CliRunner().invoke(cli, ["bench", "kernel", *options])
    assert result.exit_code == 1, result.output
    assert "FAILED: ours" in result.output
    notes = {r.contender: r.note for r in bench.read_rows(tmp_path / "kernel.csv")}
    assert notes[OURS] == "error: ZeroDivisionError: ours is wrong"
    assert notes[PLAIN] == ""
