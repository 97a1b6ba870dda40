"""One hostile input and the commands that read it: what `hostile.py` runs.

Promise: `make` writes into an empty folder and touches nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Case:
    """An input from somebody else.

    Attributes:
        name: what it is, in a few words.
        make: writes the input into an empty folder and returns the command lines (the words behind
            `antcache`) that read it, to be run with that folder as working directory.
    """

    name: str
    make: Callable[[Path], list[list[str]]]
