"""What the tests of this folder share: its modules by their names."""

from __future__ import annotations

import sys
from pathlib import Path

# So that test_remote.py can subclass the contract, and workers can unpickle what tests define.
sys.path.insert(0, str(Path(__file__).parent))
