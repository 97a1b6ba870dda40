"""What an extractor finds in a sentence: an action, as verb and object."""

from __future__ import annotations

from typing import NamedTuple


class ParsedAction(NamedTuple):
    """What the cook is told to do; `object` is None where the instruction names none."""

    verb: str
    object: str | None
