"""A store that LMDBs come into."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from antcache.store import Store

sys.path.insert(0, str(Path(__file__).parent))  # frame_lmdbs


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "s.zarr")
