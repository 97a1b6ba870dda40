"""The kitchen whose runs are compared."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # compared_kitchen

from compared_kitchen import kitchen

__all__ = ["kitchen"]
