"""Annotated segments of one split: who does what, from when to when.

Promise: the arrays are equally long, uids are unique, times are finite and `start < stop`, and
every id exists in the taxonomy that they were checked against.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.annotations.taxonomy import Taxonomy
from antcache.errors import BadAnnotations
from antcache.untrusted import NAME

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("uid", "video", "start_s", "stop_s", "verb", "noun", "action")

LONGEST_S = 1e7
"""Seconds: four months, more than any video has, and few enough to be counted."""

MOMENT = NAME + 64
"""Characters of a moment's text at most."""

SAME_S = 0.1
"""Seconds by which a time may differ that two files give the same segment: frames of 1/30 s, say,
in the one, and hundredths in the other."""


def moments_of(
    video: Sequence[str], start_s: NDArray[np.float64], stop_s: NDArray[np.float64]
) -> NDArray[np.str_]:
    """`Segments.moments` of stretches (N,) of videos."""
    stretches = zip(video, start_s.tolist(), stop_s.tolist(), strict=True)
    return np.array([f"{start:.3f} {stop:.3f} {name}" for name, start, stop in stretches], np.str_)


def no_moment(moments: NDArray[Any]) -> str | None:
    """The first of some texts (N,) that is no moment; None where all are."""
    if moments.dtype.kind != "U":
        return f"{moments.dtype}"
    for text in moments.tolist():
        try:
            start, stop, video = text.split(" ", 2)
            # Some begin before their video, and lists may lack stops.
            there = math.isfinite(float(start)) and not math.isinf(float(stop))
        except ValueError:
            return repr(text[:100])
        if not there or len(video) > NAME:
            return repr(text[:100])
    return None


def apart(one: NDArray[np.str_], other: NDArray[np.str_], anchor: float = 0.0) -> NDArray[np.bool_]:
    """Which moments (N,) are of another video, or of another time of it than `SAME_S` allows.

    `anchor` is what is asked the time of, as in `Protocol.anchor`: the stop counts where it does.
    """
    (videos, times), (others, elsewhere) = (_split(each, anchor) for each in (one, other))
    found: NDArray[np.bool_] = (videos != others) | (np.abs(times - elsewhere) > SAME_S)
    return found


def _split(moments: NDArray[np.str_], anchor: float) -> tuple[NDArray[np.str_], NDArray[Any]]:
    """Video (N,) and time (N,) of each."""
    parts = [moment.split(" ", 2) for moment in moments.tolist()]
    start, stop = (np.array([float(p[i]) for p in parts], np.float64) for i in (0, 1))
    time = start + anchor * (stop - start) if anchor else start  # lists may lack stops
    return np.array([unicodedata.normalize("NFC", p[2]) for p in parts], np.str_), time


@dataclass(frozen=True, kw_only=True)
class Segments:
    """N segments, in the order of their file.

    Attributes:
        uid: (N,) str, unique within a dataset.
        video: (N,) str.
        start_s: (N,) float64 seconds.
        stop_s: (N,) float64 seconds.
        verb: (N,) int64 ids, -1 where actions are single labels; see `Taxonomy.paired`.
        noun: (N,) int64 ids, likewise.
        action: (N,) int64 ids.
    """

    uid: NDArray[np.str_]
    video: NDArray[np.str_]
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    verb: NDArray[np.int64]
    noun: NDArray[np.int64]
    action: NDArray[np.int64]

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in COLUMNS}
        if len(set(lengths.values())) > 1:
            raise BadAnnotations("columns of unequal length", found=lengths)

    @classmethod
    def of(cls, **columns: ArrayLike) -> Segments:
        """Segments from anything array-like, converted to the types above."""
        kinds: dict[str, Any] = dict.fromkeys(("uid", "video"), np.str_)
        kinds |= dict.fromkeys(("start_s", "stop_s"), np.float64)
        return cls(**{k: np.asarray(v, dtype=kinds.get(k, np.int64)) for k, v in columns.items()})

    def __len__(self) -> int:
        return len(self.uid)

    def __getitem__(self, rows: NDArray[Any] | slice) -> Segments:
        """The segments at `rows` (indices, a mask or a slice)."""
        return Segments(**{name: getattr(self, name)[rows] for name in COLUMNS})

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the videos, sorted."""
        return tuple(str(v) for v in np.unique(self.video))

    def moments(self) -> NDArray[np.str_]:
        """Which stretch of which video each segment is (N,), as text: `start stop video`.

        What was said of a segment was said of this stretch, whatever its uid is given to later.
        """
        return moments_of(self.video.tolist(), self.start_s, self.stop_s)

    def apart_from(self, moments: NDArray[np.str_], anchor: float = 0.0) -> NDArray[np.bool_]:
        """Which segments (N,) are other stretches than `moments` (N,) say; see `apart`."""
        videos, times = _split(moments, anchor)
        start, stop = np.round(self.start_s, 3), np.round(self.stop_s, 3)
        own = start + anchor * (stop - start) if anchor else start
        found: NDArray[np.bool_] = (self.video != videos) | (np.abs(own - times) > SAME_S)
        return found

    def in_order(self) -> dict[str, NDArray[np.int64]]:
        """Positions of each video's segments in order of start; of two that start together, the one
        that stops first is the earlier."""
        order = np.lexsort((self.stop_s, self.start_s, self.video))
        names, first = np.unique(self.video[order], return_index=True)
        parts = np.split(order, first[1:])
        return dict(zip(names.tolist(), parts, strict=False))  # without segments, one empty part

    def locate(self, uids: NDArray[np.str_]) -> NDArray[np.int64]:
        """Position (n,) of each segment of `uids` (n,), -1 where there is no such one."""
        return locate(self.uid, uids)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The columns by name."""
        return {name: getattr(self, name) for name in COLUMNS}

    def table(self) -> pd.DataFrame:
        """The columns as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.arrays())

    def check(self, taxonomy: Taxonomy, place: Callable[[int], str]) -> None:
        """Check texts, times, ids and uniqueness; `place(row)` names where a row comes from.

        Raises:
            BadAnnotations: for the first segment that is wrong.
        """

        def first(bad: NDArray[np.bool_]) -> int | None:
            return int(np.argmax(bad)) if bad.any() else None

        for kind in ("uid", "video"):
            texts = getattr(self, kind)
            width = texts.dtype.itemsize // np.dtype("U1").itemsize
            if width > NAME:
                raise BadAnnotations(
                    f"a {kind} as long as no name",
                    where=place(int(np.char.str_len(texts).argmax())),
                    expected=f"at most {NAME} characters",
                    found=width,
                )
        wrong = ~(np.isfinite(self.start_s) & np.isfinite(self.stop_s) & (self.start_s >= 0))
        if (row := first(wrong)) is not None:
            raise BadAnnotations(
                "a time is negative or not a number",
                where=place(row),
                found=f"{self.start_s[row]} to {self.stop_s[row]} s",
            )
        if (row := first(self.stop_s > LONGEST_S)) is not None:
            raise BadAnnotations(
                "a time that no video has",
                where=place(row),
                expected=f"at most {LONGEST_S:.0f} s",
                found=f"{self.start_s[row]} to {self.stop_s[row]} s",
                hint="if times are frames, give --fps",
            )
        if (row := first(self.stop_s <= self.start_s)) is not None:
            raise BadAnnotations(
                "the segment stops before it starts",
                where=place(row),
                found=f"{self.start_s[row]:.3f} to {self.stop_s[row]:.3f} s",
            )
        for kind in reversed(taxonomy.kinds):
            ids, limit = getattr(self, kind), len(getattr(taxonomy, f"{kind}s"))
            if (row := first((ids < 0) | (ids >= limit))) is not None:
                raise BadAnnotations(
                    f"unknown {kind} id",
                    where=place(row),
                    expected=f"0 to {limit - 1}",
                    found=int(ids[row]),
                )
        apart = (taxonomy.verb_of[self.action] != self.verb) | (
            taxonomy.noun_of[self.action] != self.noun
        )
        if (row := first(apart)) is not None:
            action = int(self.action[row])
            raise BadAnnotations(
                f"action {action} ({taxonomy.actions[action]}) has another verb or noun",
                where=place(row),
                expected=f"verb {taxonomy.verb_of[action]}, noun {taxonomy.noun_of[action]}"
                if taxonomy.paired
                else "none (-1): the actions are single labels",
                found=f"verb {self.verb[row]}, noun {self.noun[row]}",
            )
        _, earliest, position = np.unique(self.uid, return_index=True, return_inverse=True)
        before = earliest[position]
        if (row := first(before != np.arange(len(self)))) is not None:
            raise BadAnnotations(
                f"the uid is used twice, first at {place(int(before[row]))}",
                where=place(row),
                found=self.uid[row],
            )


def locate(known: NDArray[np.str_], asked: NDArray[np.str_]) -> NDArray[np.int64]:
    """Position (n,) among the uids `known` (N,) of each of `asked` (n,), -1 where it is none.

    Of a uid that stands in `known` several times it is the first.
    """
    if not len(known):
        return np.full(len(asked), -1, dtype=np.int64)
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known, asked, sorter=order), len(known) - 1)
    found = order[place]
    return np.where(known[found] == asked, found, -1)
