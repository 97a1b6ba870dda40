"""Both kinds of installation give the same importable package, typed, with the console script."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

CHECK = """
import antcache, antcache.kernels, antcache.cli.main, antcache.store.store
from importlib.resources import files
from pathlib import Path
pages = ("demo/report.html", "evaluation/report/page.html", "evaluation/report/style.css")
pages += ("browse/browse.html", "browse/browse.css", "browse/browse.js")
pages += ("evaluation/report/film.html", "evaluation/report/sort.js")
schemas = [f"evaluation/submission/schemas/{name}.json" for name in ("ek55", "ek100")]
for name in ("py.typed", *pages, *schemas):
    assert files("antcache").joinpath(name).is_file(), name
print(Path(antcache.__file__).resolve(), Path(antcache.kernels.__file__).resolve(), sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.parametrize("editable", [False, True])
def test_install(checkout: Path, tmp_path: Path, *, editable: bool) -> None:
    env = tmp_path / "venv"
    venv.create(env, with_pip=False)
    python = env / "bin/python"
    site = next((env / "lib").glob("python*/site-packages"))
    # Dependencies come from the running environment; the package itself is installed anew. This
    # name sorts first and ends up behind the new site-packages on sys.path all the same.
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(here) + "\n")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-compile",
    ]
    install += ["--no-deps", "--no-build-isolation", *(["-e"] if editable else []), str(checkout)]
    subprocess.run(install, check=True, cwd=tmp_path, capture_output=True)
    run = subprocess.run(
        [python, "-c", CHECK], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    package, kernels = (Path(line) for line in run.stdout.splitlines())
    if editable:
        assert package == checkout / "antcache/__init__.py"
        assert kernels == checkout / "kernels/__init__.py"
    else:
        assert package == site / "antcache/__init__.py"
        assert kernels == site / "antcache/kernels/__init__.py"
    for antcache in ([env / "bin/antcache"], [python, "-m", "antcache"]):
        said = subprocess.run(
            [*antcache, "--version"], check=True, cwd=tmp_path, capture_output=True, text=True
        )
        assert said.stdout.startswith("antcache, version "), antcache


@pytest.mark.slow
def test_versions_tried_are_those_that_setup_allows(
    repo: Path, checkout: Path, tmp_path: Path, benchmark: Callable[[str], ModuleType]
) -> None:
    """All that the extra `all` names, each from a lowest version on, and nothing for a GPU."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(tmp_path), str(checkout)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    found = list(benchmark("versions").requirements(wheel))
    bounds = dict(re.fullmatch(r"([a-z0-9_]+).*>=([0-9.]+).*", line).groups() for line in found)
    assert {"torch", "zarr", "av", "transformers", "numba", "h5py", "lmdb", "s3fs"} <= set(bounds)
    assert not {"triton", "pytest"} & set(bounds)
    # What is pinned is allowed.
    pins = dict(
        re.findall(r"^([\w-]+)==(.+)$", (repo / "constraints.txt").read_text(), re.MULTILINE)
    )
    pins = {name.lower(): version for name, version in pins.items()}
    assert set(bounds) <= set(pins)
    assert all(Requirement(line).specifier.contains(pins[Requirement(line).name]) for line in found)


def test_module_is_the_console_script(tmp_path: Path) -> None:
    """Exit code and words of a mistake included."""
    said = [
        subprocess.run([*antcache, "evaluate", "none.zarr", "run"], capture_output=True, text=True)
        for antcache in (
            [sys.executable, "-m", "antcache"],
            [Path(sys.executable).with_name("antcache")],
        )
    ]
    assert said[0].returncode == said[1].returncode == 2
    assert said[0].stderr == said[1].stderr != ""
