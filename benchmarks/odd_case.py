"""An odd input and its right answer: what `odd_files.py` runs.

Promise: `make` writes into an empty folder and touches nothing else; the command lines it returns
are the words behind `antcache`, to be run in that folder one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from forked import Outcome


@dataclass(frozen=True, kw_only=True)
class OddCase:
    """An input as users have them.

    Attributes:
        name: what it is, in a few words.
        kind: `video`, `table`, `lmdb` or `folder`.
        make: writes it into a folder, and returns the command lines that read it.
        wrong: what is wrong with what came out, in words; empty where the answer is right.
    """

    name: str
    kind: str
    make: Callable[[Path], list[list[str]]]
    wrong: Callable[[Path, Sequence[Outcome]], str]
