"""Where the tests of the student find their tiny kitchen."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # tiny_kitchen

from tiny_kitchen import _few_threads, make_run, make_store, small

__all__ = ["_few_threads", "make_run", "make_store", "small"]
