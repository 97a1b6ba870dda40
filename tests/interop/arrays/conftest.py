"""Where the tests of arrays find the pickles that they share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # handmade_pickles
