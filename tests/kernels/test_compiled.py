"""Compilation by numba: said once, kept for the next process, made anew when its text changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
import numpy as np
from outer import outer, told
out = np.zeros(1)
for _ in range(2):
    with told(outer, "the number", seconds=3):
        outer(out)
print(out[0])
"""
SAID = "compiling the number for this processor: about 3 s, "


def run(code: str, at: Path, **environment: str) -> tuple[str, str]:
    """What Python prints and logs, in a process that finds modules in the folder."""
    own = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**own, "PYTHONPATH": str(at), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two modules, of which one calls the compiled code of the other."""
    (tmp_path / "inner.py").write_text(INNER.format(number=1))
    (tmp_path / "outer.py").write_text(OUTER)
    return tmp_path


def test_compiled_once_and_anew_when_another_file_has_changed(folder: Path) -> None:
    assert run(RUN, folder) == ("1.0", f"{SAID}this once")
    assert run(RUN, folder) == ("1.0", "")
    (folder / "inner.py").write_text(INNER.format(number=2))
    assert run(RUN, folder) == ("2.0", f"{SAID}this once")
    assert run(RUN, folder) == ("2.0", "")


def test_kept_by_the_user_where_the_code_is_read_only(folder: Path) -> None:
    """As in a site-packages of root; a file in the folder's place keeps out root as well."""
    (folder / "__pycache__").write_text("")
    home = {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "home/cache")}
    assert run(RUN, folder, **home) == ("1.0", f"{SAID}this once")
    assert run(RUN, folder, **home) == ("1.0", "")


def test_compiled_in_every_process_where_no_folder_is(folder: Path) -> None:
    (folder / "__pycache__").write_text("")
    (folder / "home").write_text("")
    home = {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "home/cache")}
    number, said = run(RUN, folder, **home)
    assert number == "1.0"
    assert said.startswith(f"{SAID}in every process: no folder")
    assert "NUMBA_CACHE_DIR" in said


LOSS = "import torch; from antcache.kernels import distillation_loss as loss; "
LOSS += "[loss(torch.ones(2, 3), labels=torch.ones(2).long(), impl='numba') for _ in range(2)]"


def test_the_loss_says_so_once(tmp_path: Path) -> None:
    """No later process waits, whatever it computes."""
    said = [run(LOSS, tmp_path, NUMBA_CACHE_DIR=str(tmp_path))[1] for _ in range(2)]
    assert [line.count("compiling the distillation loss") for line in said] == [1, 0]


def test_all_compiled_code_is_part_of_what_the_loss_is_kept_by() -> None:
    """Each module whose compiled functions the loop calls is digested: numba looks at one file."""
    code = """
import inspect
from numba.core.dispatcher import Dispatcher
from antcache.kernels.loops import rows

def called(function, found):
    for value in inspect.getclosurevars(function.py_func).globals.values():
        if isinstance(value, Dispatcher) and value not in found:
            found.add(value)
            called(value, found)
    return found

print(*sorted({each.py_func.__module__ for each in called(rows.compute_rows, set())}))
print(*sorted(module.__name__ for module in rows.SOURCES))
"""
    called, digested = (line.split() for line in run(code, Path(__file__).parent)[0].splitlines())
    assert len(called) > 3
    assert set(called) - {"antcache.kernels.loops.rows"} <= set(digested)
