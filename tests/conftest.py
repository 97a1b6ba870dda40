"""Where tests find the repository, its benchmarks and the real data. Nothing is left to chance."""

from __future__ import annotations

import importlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """A test that fails does so again: whatever draws without a seed of its own draws the same."""
    random.seed(0)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture
def gradients() -> Iterator[list[list[Any]]]:
    """The gradients that each step of an optimiser is given, as they are then."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    seen: list[list[Any]] = []

    def look(optimiser: Any, *_: Any) -> None:
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        seen.append([p.grad.clone() for p in parameters if p.grad is not None])

    handle = register_optimizer_step_pre_hook(look)
    yield seen
    handle.remove()


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def benchmark(repo: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a file of `benchmarks/` by its name, as these files import one another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repo / "benchmarks"))
        yield importlib.import_module


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real annotations: `ANTCACHE_DATA`, else `../shared/data`; skipped without them."""
    folder = Path(os.environ.get("ANTCACHE_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no annotation data at {folder}; set ANTCACHE_DATA")
    return folder
