"""Runs on the scripted store, and a teacher that listens there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # scripted_kitchen

from scripted_kitchen import Scripted, scripted

from antcache.predict.listening.learning import Listened, listen


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Scripted:
    """The store and what was trained on it, which tests leave as they are."""
    return scripted(tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="session")
def listened(scripts: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Listened:
    """The teacher that listens."""
    folder = tmp_path_factory.mktemp("listened") / "listening"
    return listen(scripts.store, scripts.student, scripts.recogniser, scripts.teacher, folder)
