"""Which split a row of one's own tables is in.

Promise: a column `split` decides, or else the name of the file; `Train`, `VAL` and `training` are
`train` and `validation`. One file without such a column is one split, which a note says, unless it
is asked to be split: by whole videos, the same ones each time, whatever the order of lines and
however their paths are spelled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from antcache.annotations.dataset import Part
from antcache.annotations.files import SHOWN
from antcache.annotations.video_names import bare_name
from antcache.checks import Range, within
from antcache.errors import BadAnnotations, BadConfig
from antcache.text import NAMES, is_name, listed

KNOWN = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid"), "validation"),
    "test": "test",
}
"""What splits are called in any case, and what they are then."""


def named_splits(whole: Part, homes: Sequence[str]) -> tuple[dict[str, Part], list[str]]:
    """Splits in the order train, validation, then by name; `homes` (N) names that of each row.

    What is to be said is which of them are one split under several names.

    Raises:
        BadAnnotations: a name that a split can't have, or one that differs from another in case.
    """
    called = {home: KNOWN.get(home.lower(), home) for home in homes}
    _check(called, homes, whole.place)
    home = np.asarray([called[name] for name in homes])
    first = [name for name in ("train", "validation") if name in home]
    order = first + sorted(set(home.tolist()) - set(first))
    alike = {name: sorted(given for given, own in called.items() if own == name) for name in order}
    said = [
        f"{' and '.join(given)} are one split, {name!r}"
        for name, given in alike.items()
        if len(given) > 1
    ]
    return {name: whole.at(np.flatnonzero(home == name)) for name in order}, said


def _check(called: dict[str, str], homes: Sequence[str], place: Callable[[int], str]) -> None:
    alike: dict[str, str] = {}
    for home, name in called.items():
        if not is_name(name):
            raise BadAnnotations(
                "a split can't be called so",
                where=place(homes.index(home)),
                expected=NAMES,
                found=repr(home[:SHOWN]),
            )
        if alike.setdefault(name.lower(), name) != name:
            raise BadAnnotations(
                "two splits are called alike",
                where=place(homes.index(home)),
                expected=alike[name.lower()],
                found=home,
            )


def by_video(whole: Part, fraction: float) -> tuple[dict[str, Part], str]:
    """A share of the videos as `validation`, the others as `train`; and a line that says which.

    The videos are drawn by a hash of their names as stores have them, so that a video more or less
    moves few others, and how its path is spelled none.

    Raises:
        BadConfig: the fraction is not between 0 and 1, or there is one video only.
    """
    within("share of the videos", fraction, Range(0, 1, above=True, below=True))
    names = np.asarray([bare_name(video) for video in whole.segments.video.tolist()])
    videos = sorted(set(names.tolist()), key=_drawn)
    if len(videos) < 2:
        raise BadConfig(
            "one video can't be split by video",
            expected="two videos or more",
            found=", ".join(videos),
            hint="split it in time with a column 'split'",
        )
    count = min(max(1, round(fraction * len(videos))), len(videos) - 1)
    aside = sorted(videos[:count])
    held: NDArray[np.bool_] = np.isin(names, aside)
    said = (
        f"split by video: {len(videos) - count} videos ({int((~held).sum())} segments) are train, "
        f"{count} ({int(held.sum())}) validation: {listed(aside, 12)}"
    )
    return {
        "train": whole.at(np.flatnonzero(~held)),
        "validation": whole.at(np.flatnonzero(held)),
    }, said


def _drawn(video: str) -> bytes:
    return hashlib.blake2b(video.encode(), digest_size=16).digest()
