"""A store that predictions come into."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # published_predictions

from published_predictions import store

__all__ = ["store"]
