"""Where the benchmarks of broken input make their folders: beside those of the tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _folders_lie_in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where there is enough of it, see `tests/conftest.py`; with the tests' folders they go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        yield
