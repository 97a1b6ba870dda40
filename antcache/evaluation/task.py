"""What task figures are of: how long before which point of an action it is predicted.

Promise: figures of two tasks are never put together. What does not say its gap (a file of an
earlier version or of somebody else, a teacher that knows all of the past) is unknown, no match for
any in particular, and taken beside all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from antcache.annotations.protocols import Anchor, Gap, anchor_name
from antcache.checks import check_types
from antcache.errors import FingerprintMismatch
from antcache.store.tokens import SAME_S


@dataclass(frozen=True, kw_only=True)
class Task:
    """What was asked.

    Attributes:
        anchor: what the gap was counted back from; see `Protocol.anchor`.
        gap_s: seconds between what was seen and that point; None: unknown.
    """

    anchor: Anchor = 0.0
    gap_s: Gap | None = None

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def text(self) -> str:
        """Both in a few words."""
        return f"anchor {anchor_name(self.anchor)}, gap {self.gap}"

    @property
    def gap(self) -> str:
        """The gap in a word or two."""
        return "unknown" if self.gap_s is None else f"{self.gap_s:.10g} s"

    def to_dict(self) -> dict[str, str | float | None]:
        """JSON-ready form."""
        return {"anchor": anchor_name(self.anchor), "gap_s": self.gap_s}

    def joined(self, other: Task, where: object) -> Task:
        """This task, once `other` was found to be the same: with its gap if this one has none.

        Raises:
            FingerprintMismatch: it is another one; names `where` it was found, and both.
        """
        said = "another task, whose figures can't be put together"
        if other.anchor != self.anchor:
            raise FingerprintMismatch(
                f"predictions for another anchor: {said}",
                where=where,
                expected=anchor_name(self.anchor),
                found=anchor_name(other.anchor),
                hint="see docs/protocol.md, `--anchor`",
            )
        if self.gap_s is None or other.gap_s is None:
            return replace(self, gap_s=other.gap_s if self.gap_s is None else self.gap_s)
        if abs(other.gap_s - self.gap_s) > SAME_S:
            raise FingerprintMismatch(
                f"predictions for another gap: {said}",
                where=where,
                expected=self.gap,
                found=other.gap,
                hint="`antcache evaluate` says the gap of each",
            )
        return self
