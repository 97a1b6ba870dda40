"""What a benchmark of strange input tries: one input, and the command lines that read it.

Promise: `make` writes the input into an empty folder, and nothing outside; the command lines it
returns are the words behind `antcache`, to be run in that folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class InputCase:
    """An input from somebody.

    Attributes:
        name: what it is, in a few words.
        make: writes it into a folder, and returns the command lines that read it.
    """

    name: str
    make: Callable[[Path], list[list[str]]]
