"""Where the tests of long-term anticipation find the teachers that they share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # next_in_order
