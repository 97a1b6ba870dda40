"""Where tests find the real annotation data and the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real annotations: `ANTCACHE_DATA`, else `../shared/data`; skipped without them."""
    folder = Path(os.environ.get("ANTCACHE_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no annotation data at {folder}; set ANTCACHE_DATA")
    return folder
