"""`benchmarks/install.py` in small, and what may not happen to the packages that it links."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.slow
def test_the_kernels_bring_nothing(run_benchmark, recorded) -> None:
    """For this distribution nothing has to be downloaded."""
    found = run_benchmark("install", "--only", "antcache-kernels")
    assert set(found) == {name for name in recorded("install") if "kernels" in name}
    assert found["packages, antcache-kernels"] == 1
    assert 0 < found["megabytes, antcache-kernels"] < 1


def test_no_link_lies_where_an_installer_writes(
    benchmark: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """It would write, and remove, in the environment that runs the tests."""
    python, site = benchmark("install").environment_with(tmp_path, "packaging")
    prefix = python.parents[1]
    packages = [path for path in prefix.rglob("*") if path.is_symlink() and path.is_dir()]
    assert {path.name for path in packages} <= {"lib64"}
    code = "import packaging, sys; print(packaging.__file__); print(sys.prefix)"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    place, where = map(Path, said.stdout.splitlines())
    assert where == prefix
    assert not place.is_relative_to(prefix)
    assert not site.is_relative_to(place.parents[1])
