"""A toy store of the doctor's own, and the tiny kitchen that the student's tests have, too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # toy_store
sys.path.insert(0, str(Path(__file__).parents[1] / "student"))  # tiny_kitchen

from tiny_kitchen import _few_threads, make_store, small
from toy_store import make

__all__ = ["_few_threads", "make", "make_store", "small"]
