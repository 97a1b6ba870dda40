"""Where tests find the repository, its benchmarks and the real data. Nothing is left to chance.

What they do to a disk is in `disks.py`, what runs beside them in `processes.py` and `servers.py`.
"""

from __future__ import annotations

import gc
import importlib
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
import torch

if not torch.cuda.is_available():
    # Before anything imports Triton, as transformers does: its interpreter runs the kernels on the
    # CPU. `auto` never takes it, only impl="triton" does.
    os.environ["TRITON_INTERPRET"] = "1"

sys.path.insert(0, str(Path(__file__).parent))
pytest_plugins = ("disks", "hub", "memory", "processes", "servers", "shelves")

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


SHARED_MEMORY = Path("/dev/shm")
ROOM = 2 << 30
"""Bytes that the folders of the tests that are under way stay well below."""


def pytest_configure(config: pytest.Config) -> None:
    """Folders of tests lie in memory where there is enough, and programs may be run there: a disk
    takes about a fifth more of CPU time, and is waited for with each folder that is removed.

    Who wants them elsewhere says so, with `--basetemp` or `PYTEST_DEBUG_TEMPROOT`.
    """
    asked = config.getoption("basetemp") or "PYTEST_DEBUG_TEMPROOT" in os.environ
    if asked or not os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return
    found = os.statvfs(SHARED_MEMORY)
    if found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(SHARED_MEMORY)


def pytest_sessionstart() -> None:
    """A shell has what it runs in the background ignore interrupts; commands under test must not.

    What is garbage as a process is forked is its parent's: a decoder in it would wait for threads
    that did not come along, which is a crash.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.register_at_fork(after_in_child=gc.freeze)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Write out bytes of paths that are no text: reports go to another process as UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What thousands of tests are made of stays: looking through it for garbage again and again
    takes a tenth of the time of all of them, and as much again where it is looked for often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """A test that fails does so again: whatever draws without a seed of its own draws the same."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def gradients() -> Iterator[list[list[Any]]]:
    """The gradients that each step of an optimizer is given, as they are then."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    seen: list[list[Any]] = []

    def look(optimizer: Any, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        seen.append([p.grad.clone() for p in parameters if p.grad is not None])

    handle = register_optimizer_step_pre_hook(look)
    yield seen
    handle.remove()


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def copy_sources(repo: Path) -> Callable[[Path], Path]:
    """Function: makes a folder with the sources, so that building leaves nothing in the real ones.

    It gives the folder back.
    """
    made = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")

    def copied(folder: Path) -> Path:
        folder.mkdir()
        for name in ("antcache", "kernels", "cli", "antcache-kernels"):
            shutil.copytree(repo / name, folder / name, ignore=made, symlinks=True)
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(repo / name, folder / name)
        return folder

    return copied


@pytest.fixture
def checkout(copy_sources: Callable[[Path], Path], tmp_path: Path) -> Path:
    """A copy of the sources of its own."""
    return copy_sources(tmp_path / "checkout")


@pytest.fixture(scope="session")
def benchmark() -> Callable[[str], ModuleType]:
    """Imports a file of `benchmarks/` by its name, as these files import one another."""
    return importlib.import_module


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real annotations: `ANTCACHE_DATA`, else `../shared/data`; skipped without them."""
    folder = Path(os.environ.get("ANTCACHE_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no annotation data at {folder}; set ANTCACHE_DATA")
    return folder
