"""A small student that is quick to make, and places to watch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from predict_kitchen import Kitchen, extracted, trained

from antcache.extract import load_backbone
from antcache.predict import Anticipator

sys.path.insert(0, str(Path(__file__).parent))  # live_servers


@pytest.fixture(scope="session")
def student(made: Kitchen, vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on 4 rows per second of single pictures."""
    extracted(made, load_backbone(str(vit), device="cpu"), "live", dtype="float32")
    return trained(made, tmp_path_factory.mktemp("runs") / "live", "live", epochs=1)


@pytest.fixture(scope="session")
def anticipator(student: Path, vit: Path) -> Any:
    """The student and its backbone."""
    return Anticipator.load(student, backbone=str(vit), device="cpu")
