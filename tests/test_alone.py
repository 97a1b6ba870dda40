"""The loss alone: from a clone, by `pip install --no-deps`, and as the distribution of its own."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import ModuleType
from typing import Any, NamedTuple
from zipfile import ZipFile

import pytest

from antcache.kernels.loss import EXTRAS

Use = Callable[..., tuple[Path, list[str]]]

LOSS = """
import importlib, json, os, sys, torch
def use(package):
    distillation_loss = importlib.import_module(package).distillation_loss
    x = torch.linspace(-3, 3, 20, dtype=torch.float64).reshape(4, 5).requires_grad_()
    loss = distillation_loss(x, x.detach().flip(0), torch.arange(4), temperature=2.0)
    loss.backward()
    home = sys.modules[distillation_loss.__module__.rpartition(".")[0]].__file__
    return home, str(loss.item()), str(x.grad.abs().sum().item()), *sys.modules
"""
USE = f"""{LOSS}
for line in sys.stdin:
    package, *places = json.loads(line)
    child = os.fork()
    if child == 0:
        sys.path[1:1] = places  # where PYTHONPATH has them
        importlib.invalidate_caches()
        print(json.dumps(use(package)), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
SAME = """
import importlib, pkgutil, torch
import antcache.kernels, antcache_kernels
for module in pkgutil.walk_packages(antcache_kernels.__path__, "antcache_kernels."):
    importlib.import_module(module.name)
assert set(antcache_kernels.__all__) == set(antcache.kernels.__all__)
x, t = torch.randn(2, 4, 40, generator=torch.Generator().manual_seed(0))
def results(package, impl):
    logits = x.clone().requires_grad_()
    loss = package.distillation_loss(logits, t, torch.arange(4), temperature=2.0, impl=impl)
    return loss.detach(), torch.autograd.grad(loss, logits)[0]
for impl in ("torch", "triton"):
    ours, theirs = results(antcache.kernels, impl), results(antcache_kernels, impl)
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1]), impl
assert torch.ops.antcache.distillation_loss != torch.ops.antcache_kernels.distillation_loss
print(antcache_kernels.__file__)
"""


class Bare(NamedTuple):
    """An environment with PyTorch and Triton alone."""

    python: Path
    site: Path


@pytest.fixture
def bare(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> Bare:
    return Bare(*benchmark("install").environment_with(tmp_path / "bare", "torch", "triton"))


@pytest.fixture(scope="module")
def wheel(
    benchmark: Callable[[str], ModuleType],
    copy_sources: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """Function: the wheel of a folder of a checkout, built once."""
    made = tmp_path_factory.mktemp("wheels")
    sources = copy_sources(made / "checkout")
    return functools.cache(lambda folder: benchmark("install").wheel_of(sources / folder, made))


def pip(python: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """What pip says, for the environment of this Python; no index is asked."""
    return subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={"PIP_CONFIG_FILE": "/dev/null"},
    )


@contextmanager
def used(python: Path | str, cwd: Path) -> Iterator[Use]:
    """Function: compute a loss in a process of its own: where the code lies, and two numbers.

    Each is a fork of one of this Python in that folder, which has imported PyTorch and nothing
    else. Nothing that a clone or a wheel can be without may have been imported.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen([python, "-c", USE], stderr=errors, cwd=cwd, env={}, **pipes) as process,
    ):

        def use(package: str, *places: Path) -> tuple[Path, list[str]]:
            with suppress(BrokenPipeError):  # it has ended, and its errors say why
                print(json.dumps([package, *map(str, places)]), file=process.stdin, flush=True)
            said = process.stdout.readline()
            errors.seek(0)
            assert said, errors.read()
            home, *numbers = json.loads(said)[:3]
            loaded = {name.partition(".")[0] for name in json.loads(said)[3:]}
            assert not loaded & {"pandas", "zarr", "h5py", "click", "scipy", "rich", "transformers"}
            return Path(home), numbers

        yield use


@pytest.fixture(scope="module")
def truth() -> list[str]:
    """The numbers of the code under test, with all that is installed here."""
    here: dict[str, Any] = {}
    exec(LOSS, here)
    return list(here["use"]("antcache.kernels")[1:3])


@pytest.mark.slow
def test_a_clone_without_an_install(checkout: Path, bare: Bare, truth: list[str]) -> None:
    with used(bare.python, checkout) as use:
        home, numbers = use("antcache.kernels")
    assert home == checkout / "kernels/__init__.py"
    assert numbers == truth


def test_a_clone_runs_its_own_kernels(checkout: Path) -> None:
    """Also where another one is installed, as here."""
    with used(sys.executable, checkout) as use:
        home, _ = use("antcache.kernels")
    assert home == checkout / "kernels/__init__.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "package", "options"),
    [(".", "antcache.kernels", ["--no-deps"]), ("antcache-kernels", "antcache_kernels", [])],
)
def test_a_wheel_beside_torch_and_triton(
    wheel: Callable[[str], Path],
    bare: Bare,
    truth: list[str],
    tmp_path: Path,
    folder: str,
    package: str,
    options: list[str],
) -> None:
    made = wheel(folder)
    with used(bare.python, tmp_path) as use:
        home, numbers = use(package, made)
        assert home.is_relative_to(made)  # a wheel is a zip file
        assert numbers == truth
        done = pip(bare.python, "install", "-q", "--no-index", "--no-compile", *options, made)
        assert done.returncode == 0, done.stderr
        home, numbers = use(package)
        assert home.is_relative_to(bare.site / package.partition(".")[0])
        assert numbers == truth
    checked = pip(bare.python, "check").stdout
    assert ("antcache-kernels" in checked, "antcache " in checked) == (False, bool(options))


@pytest.mark.slow
def test_both_distributions_in_one_process(wheel: Callable[[str], Path], tmp_path: Path) -> None:
    """They own no file together, compute the same, and what errors say to install is there."""
    for package in EXTRAS:
        pytest.importorskip(package, reason=f"{package} is not installed")
    ours, alone = ZipFile(wheel(".")), ZipFile(wheel("antcache-kernels"))
    assert not set(ours.namelist()) & set(alone.namelist())
    metadata = next(name for name in alone.namelist() if name.endswith("/METADATA"))
    described = alone.read(metadata).decode()
    assert all(f"Provides-Extra: {extra}" in described for extra in EXTRAS.values())

    alone.extractall(tmp_path / "alone")
    done = subprocess.run(
        [sys.executable, "-c", SAME],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "alone"), "TRITON_INTERPRET": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "alone/antcache_kernels/__init__.py")


@pytest.mark.slow
def test_copies_are_not_installed_as_links(checkout: Path, bare: Bare) -> None:
    words = ["--no-index", "--no-build-isolation", "-e", checkout / "antcache-kernels"]
    done = pip(bare.python, "install", *words)
    assert done.returncode != 0
    assert "error: antcache-kernels is made of copies: install it without -e" in (
        done.stdout + done.stderr
    )
