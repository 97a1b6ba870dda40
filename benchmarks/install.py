"""What does an install bring beside PyTorch and Triton, and how long does it take?

    python benchmarks/install.py [--record] [--only DISTRIBUTION]

For `antcache` and for `antcache-kernels`, the loss alone: the wheel is installed by pip into an
environment that sees the PyTorch and the Triton that are here, and what these need themselves.
Counts the packages and bytes that come, and times the second of two installs, for which pip has
kept what it downloaded.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import shutil
import sys
import tempfile
import time
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version
from record import Figure, finish
from versions import ROOT, run

SOURCES = {"antcache": ROOT, "antcache-kernels": ROOT / "antcache-kernels"}
"""The folder that each distribution is built from."""
MOST_PACKAGES = {"antcache-kernels": 1}
"""Itself and nothing else."""


def needed(names: Iterable[str]) -> list[Distribution]:
    """The distributions of these names, as far as they are here, and all that they need."""
    found: dict[str, Distribution] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        here = list(importlib.metadata.distributions(name=name))
        if name in found or not here:
            continue
        found[name] = max(here, key=lambda one: Version(one.version))
        wanted = map(Requirement, found[name].requires or ())
        todo += [r.name for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})]
    return list(found.values())


@functools.cache
def places(*names: str) -> dict[str, Path]:
    """Where each file and folder lies that these and what they need put beside others."""
    found = {}
    for distribution in needed(names):
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            found[top] = Path(str(distribution.locate_file(top)))
    return found


def environment_with(folder: Path, *names: str) -> tuple[Path, Path]:
    """Make an environment in which these distributions are, and what they need, and nothing else.

    They are links in a folder beside it, where no installer writes: through a link in the
    environment itself it would write into the packages that are here.

    Returns:
        Its Python and the folder of what is installed into it.
    """
    environment, links = folder / "environment", folder / "links"
    links.mkdir(parents=True)
    for top, place in places(*names).items():
        (links / top).symlink_to(place)
    venv.create(environment, with_pip=False)
    site = next(environment.glob("lib/python*/site-packages"))
    (site / "links.pth").write_text(f"{links}\n")
    return environment / "bin/python", site


def wheel_of(source: Path, folder: Path) -> Path:
    """The wheel that a folder's `setup.py` makes."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    shutil.rmtree(source / "build", ignore_errors=True)  # it may hold modules that are gone
    run(*build, "-w", folder, source)
    shutil.rmtree(source / "build")
    return max(folder.glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime_ns)


def bytes_in(folder: Path) -> int:
    """Of the files in it; what a link leads to is not in it."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def measure(name: str, folder: Path) -> list[Figure]:
    """Install one distribution, and again."""
    wheel = wheel_of(SOURCES[name], folder)
    for again in ("first", "second"):
        python, site = environment_with(folder / again, "torch", "triton")
        size = bytes_in(site)
        begun = time.perf_counter()
        run(sys.executable, "-m", "pip", "--python", python, "install", "-q", wheel)
        seconds = time.perf_counter() - begun
        came = sorted(site.glob("*.dist-info"))
        megabytes = (bytes_in(site) - size) / 1e6
        shutil.rmtree(folder / again)
    print(f"{name}: {', '.join(one.name.partition('-')[0] for one in came)}", file=sys.stderr)
    most = MOST_PACKAGES.get(name)
    return [
        Figure(figure=f"packages, {name}", value=len(came), unit="", at_most=most, n=1),
        Figure(figure=f"megabytes, {name}", value=megabytes, unit="MB", n=1),
        Figure(figure=f"seconds, {name}", value=seconds, unit="s", n=1),
    ]


def main() -> None:
    """Build, install, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--only", choices=SOURCES, help="this distribution alone")
    given = parser.parse_args()
    figures = []
    for name in [given.only] if given.only else SOURCES:
        with tempfile.TemporaryDirectory() as scratch:
            figures += measure(name, Path(scratch))
    finish("install", figures, record=given.record)


if __name__ == "__main__":
    main()
