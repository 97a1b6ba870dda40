"""Files from anybody that a command is given: what they try, and the commands that read them.

Promise: see `cases.py`. Each case is one file (or what one folder holds) that is no honest one: it
lies about its size, nests without end, names other files, waits, or wants to be run. Files of other
people lie in `victim/`: nothing of it may be changed or show up anywhere.
"""

from __future__ import annotations

import hostile_arrays
import hostile_lmdbs
import hostile_predictions
import hostile_settings
import hostile_tables
import hostile_tensors
import hostile_videos
from cases import InputCase

KINDS = (
    hostile_videos,
    hostile_tables,
    hostile_predictions,
    hostile_tensors,
    hostile_settings,
    hostile_lmdbs,
    hostile_arrays,
)


def cases() -> list[InputCase]:
    """All cases of files."""
    return [case for kind in KINDS for case in kind.cases()]
