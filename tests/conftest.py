"""Where tests find the repository, its benchmarks and the real annotation data."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

REPO = Path(__file__).resolve().parent.parent


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
