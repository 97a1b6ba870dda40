"""Stores with something of everything, in both forms, that tests damage."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from shelves import KINDS

from antcache.store import Store

sys.path.insert(0, str(Path(__file__).parent))  # damaged


@pytest.fixture(scope="session")
def rot(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark, whose short form these tests are."""
    return benchmark("bit_rot")


@pytest.fixture(scope="session")
def built(rot: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("built")
    return {kind: Path(rot.build(folder / kind, kind).path) for kind in KINDS}


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, built: dict[str, Path], tmp_path: Path) -> Store:
    """A store with something of everything."""
    path = tmp_path / f"store.{request.param}"
    shutil.copytree(built[request.param], path)
    return Store.open(path)
