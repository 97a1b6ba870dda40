"""Videos, a store of them, small backbones: those of the tests of extraction."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # predict_kitchen


def _extraction() -> Any:
    """The `conftest` of `tests/extract`, which is another module than this one."""
    place = HERE.parent / "extract" / "conftest.py"
    spec = importlib.util.spec_from_file_location("extraction_conftest", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_shared = _extraction()
one_thread, video, models, small = _shared.one_thread, _shared.video, _shared.models, _shared.small
vit, videomae = _shared.vit, _shared.videomae

from predict_ears import Listening, ears  # noqa: E402
from predict_kitchen import Kitchen, kitchen  # noqa: E402


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, video: Any) -> Kitchen:
    """The videos and their store, to which tests add streams and nothing else."""
    return kitchen(tmp_path_factory.mktemp("kitchen"), video.write)


@pytest.fixture(scope="session")
def listening(made: Kitchen, vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Listening:
    """A teacher that listens, which tests leave as it is."""
    return ears(tmp_path_factory.mktemp("listening"), made, vit)
