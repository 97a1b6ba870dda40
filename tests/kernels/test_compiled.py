"""Compilation by numba: said once, kept for the next process, made anew when its text changes."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba")

INNER = "from numba import njit\n\n@njit\ndef inner():\n    return {number}\n"
OUTER = """
import inner
from antcache.kernels.loops.compiled import digest, keep, told

def made(source):
    def outer(out):
        source
        out[0] = inner.inner()
    return outer

outer = keep(made(digest(inner)))
"""
RUN = """
import sys
from numba.core import config
config.reload_config()  # as where numba is imported anew
sys.dont_write_bytecode = True
sys.path.insert(0, {at!r})
import numpy as np
from outer import outer, told
out = np.zeros(1)
for _ in range(2):
    with told(outer, "the number", seconds=3):
        outer(out)
print(out[0])
"""
Run = Callable[[], tuple[str, str]]
SAID = "compiling the number for this processor: about 3 s, "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two modules, of which one calls the compiled code of the other."""
    (tmp_path / "inner.py").write_text(INNER.format(number=1))
    (tmp_path / "outer.py").write_text(OUTER)
    return tmp_path


@pytest.fixture
def run(folder: Path, together: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Function: what a process that imports these modules prints and logs."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)

    def ran() -> tuple[str, str]:
        (done,) = together(RUN.format(at=str(folder)))
        assert done.code == 0, done
        return done.stdout.strip(), done.stderr.strip()

    return ran


@pytest.fixture
def read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user whose modules lie in a site-packages of root; a file in the place of
    compiled code keeps out root as well."""
    (folder / "__pycache__").write_text("")
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "home/cache"))
    return folder / "home"


def test_compiled_once_and_anew_when_another_file_has_changed(folder: Path, run: Run) -> None:
    assert run() == ("1.0", f"{SAID}this once")
    assert run() == ("1.0", "")
    (folder / "inner.py").write_text(INNER.format(number=2))
    assert run() == ("2.0", f"{SAID}this once")
    assert run() == ("2.0", "")


@pytest.mark.usefixtures("read_only")
def test_kept_by_the_user_where_the_code_is_read_only(run: Run) -> None:
    assert run() == ("1.0", f"{SAID}this once")
    assert run() == ("1.0", "")


@pytest.mark.usefixtures("read_only")
def test_kept_in_the_folder_that_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    assert run() == ("1.0", f"{SAID}this once")
    assert run() == ("1.0", "")
    assert list((tmp_path / "named").rglob("*.nbc"))


def test_compiled_in_every_process_where_no_folder_is(read_only: Path, run: Run) -> None:
    read_only.write_text("")
    number, said = run()
    assert number == "1.0"
    assert said.startswith(f"{SAID}in every process: no folder")
    assert "NUMBA_CACHE_DIR" in said


LOSS = "import torch; from antcache.kernels import distillation_loss as loss; "
LOSS += "[loss(torch.ones(2, 3), labels=torch.ones(2).long(), impl='numba') for _ in range(2)]"


def test_the_loss_says_so_once(tmp_path: Path) -> None:
    """Before the wait, and no later process waits, whatever it computes."""
    command, words = [sys.executable, "-c", LOSS], "compiling the distillation loss"
    empty = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    with subprocess.Popen(command, env=empty, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = any(words in line for line in process.stderr)
        process.kill()  # it takes half a minute, and once for all tests is enough
    assert said
    assert not list(tmp_path.rglob("*.nbc"))
    count = [
        subprocess.run(command, capture_output=True, text=True, check=True).stderr.count(words)
        for _ in range(2)
    ]
    assert count in ([0, 0], [1, 0])  # kept where all tests have it, perhaps by another


def test_all_compiled_code_is_part_of_what_the_loss_is_kept_by() -> None:
    """Each module whose compiled functions the loop calls is digested: numba looks at one file."""
    from numba.core.dispatcher import Dispatcher

    from antcache.kernels.loops import rows

    def called(function: Any, found: set[Any]) -> set[Any]:
        for value in inspect.getclosurevars(function.py_func).globals.values():
            if isinstance(value, Dispatcher) and value not in found:
                found.add(value)
                called(value, found)
        return found

    modules = {each.py_func.__module__ for each in called(rows.compute_rows, set())}
    assert len(modules) > 3
    digested = {module.__name__ for module in rows.SOURCES}
    assert modules - {"antcache.kernels.loops.rows"} <= digested
