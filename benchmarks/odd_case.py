"""An odd input and its right answer: what `odd_files.py` runs.

Promise: as of every `InputCase`; its command lines run one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cases import InputCase
from forked import Outcome


@dataclass(frozen=True, kw_only=True)
class OddCase(InputCase):
    """An input as users have them.

    Attributes:
        kind: `video`, `table`, `lmdb` or `folder`.
        wrong: what is wrong with what came out, in words; empty where the answer is right.
    """

    kind: str
    wrong: Callable[[Path, Sequence[Outcome]], str]
