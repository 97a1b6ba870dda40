"""What an extractor finds in a sentence: an action, as verb and object."""

from __future__ import annotations

from typing import NamedTuple


class ParsedAction(NamedTuple):
    """What the cook is told to do; `object` is None where the instruction names none."""

    verb: str
    object: str | None


Seen = list[tuple[str, bool]]
"""Things that an instruction has named so far, and whether they are many."""


def meant(seen: Seen, *, many: bool) -> str | None:
    """What a pronoun stands for: the last thing of its number, or else the last."""
    fitting = [thing for thing, plural in seen if plural == many]
    return fitting[-1] if fitting else seen[-1][0] if seen else None
