"""What files of arrays are called, and the arrays in them.

Promise: what is exported has the names that an import looks for.
"""

from __future__ import annotations

FORMS = ("npy", "npz", "pt", "mat")
"""Forms of files, which are their endings."""

FEATURES, TIMES, AHEAD = "features", "times", "sees_ahead_s"
"""Arrays in a file: rows, their times, and `Stream.sees_ahead_s`, a key of its `config`, too."""

COMPANION = f".{TIMES}.npy"
"""Ending of the file that holds the times of a `.npy`, which has room for one array."""


def form_of(name: str) -> str:
    """The form of a file by the ending of its name, in any case; empty if it has none."""
    ending = name.rpartition(".")[2].lower()
    return ending if ending in FORMS else ""
