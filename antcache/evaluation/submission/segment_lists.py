"""Lists of segments without labels: what a leaderboard asks to be predicted.

Promise: the order of the file is kept, no uid is twice, and what has no labels says so: verb, noun
and action are -1. Four forms are read: RULSTM's `test_seen.csv` and `test_unseen.csv` (no header,
`uid, video, start, stop`, frames at 30 fps), the official lists with a header (`uid` or
`narration_id`, `video_id`, `start_timestamp`, `stop_timestamp`), tables of one's own (a header
`uid, video, start, stop`, in seconds or, with `fps`, frames, whatever else it names), and, for uids
alone, one per line. Headers are known in any case, quoted or not. Uids of tables of one's own are
kept as they are, as their import keeps them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from antcache.annotations import Segments
from antcache.annotations.files import SHOWN, Rows, first_cells, is_integer, read_rows, read_table
from antcache.annotations.table import read_rows_of, seconds
from antcache.errors import BadAnnotations, BadConfig
from antcache.timebase import frames_to_seconds

NAMES = ("narration_id", "uid")
"""Columns that name a segment, the better one first: EPIC-KITCHENS-100 has had both."""
RULSTM = ("uid", "video", "start", "stop")
OFFICIAL = ("video_id", "start_timestamp", "stop_timestamp")
NO_LABEL = -1


def read_uids(path: Path) -> list[str]:
    """Uids (N) of a list in any of the forms, without leading zeros.

    Raises:
        NotFound: the file can't be read.
        BadAnnotations: it has another form, or a uid twice.
    """
    head = first_cells(path)
    if _is_own(head):
        return _uids(read_rows_of(path, RULSTM[:1], None), "uid", as_they_are=True)
    named = [name for name in NAMES if name in head]
    if named:
        return _uids(read_table(path, named[:1]), named[0])
    return _uids(read_rows(path, RULSTM if len(head) > 1 else RULSTM[:1]), "uid")


def read_unlabeled(
    path: Path, *, fps: float | None = None, usual_fps: float | None = None
) -> Segments:
    """Segments (N) of a list with times; their verb, noun and action are -1.

    Args:
        path: the list.
        fps: frames per second of `start` and `stop`, for tables of one's own.
        usual_fps: the same where `fps` is not given: of the tables that the labels come from.

    Raises:
        NotFound: the file can't be read.
        BadConfig: a rate that is impossible, or for another form.
        BadAnnotations: it has another form, a uid twice, or a segment that ends before it starts.
    """
    head = first_cells(path)
    named = [name for name in NAMES if name in head] or [NAMES[0]]
    if fps is not None and not _meant_as_own(head):
        raise BadConfig(
            "only a table of one's own takes a frame rate",
            where=path,
            expected=f"the header {','.join(RULSTM)}",
            found=", ".join(head)[:SHOWN],
        )
    if _meant_as_own(head):
        fps = usual_fps if fps is None else fps
        rows = read_rows_of(path, RULSTM, fps)
        uid, video = _uids(rows, "uid", as_they_are=True), rows.words("video")
        start_s, stop_s = (seconds(rows, name, fps) for name in RULSTM[2:])
    elif _official(head):
        rows = read_table(path, (named[0], *OFFICIAL))
        uid, video = _uids(rows, named[0]), rows.words("video_id")
        start_s, stop_s = (rows.timestamps(name) for name in OFFICIAL[1:])
    else:
        rows = read_rows(path, RULSTM)
        uid, video = _uids(rows, "uid"), rows.words("video")
        start_s, stop_s = (frames_to_seconds(rows.integers(name)) for name in RULSTM[2:])
    wrong = (stop_s <= start_s) | (start_s < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadAnnotations(
            "the segment stops before it starts, or starts before the video",
            where=rows.place(row),
            found=f"{start_s[row]:.3f} to {stop_s[row]:.3f} s",
        )
    none = np.full(len(uid), NO_LABEL)
    return Segments.of(
        uid=uid, video=video, start_s=start_s, stop_s=stop_s, verb=none, noun=none, action=none
    )


def _is_own(head: list[str]) -> bool:
    """Whether the first line is the header of a table of one's own."""
    return set(RULSTM) <= set(head)


def _meant_as_own(head: list[str]) -> bool:
    """Whether it is, or would be if it lacked nothing.

    It names more columns of one's own tables than official ones, and `uid` or two of them: one
    other word alone may be the name of a video.
    """
    own = set(RULSTM).intersection(head)
    return _is_own(head) or (len(own) > len(_official(head)) and ("uid" in own or len(own) > 1))


def _official(head: list[str]) -> set[str]:
    """Columns of the official lists in the first line, without those that others have, too."""
    return {NAMES[0], *OFFICIAL}.intersection(head)


def _uids(rows: Rows, column: str, *, as_they_are: bool = False) -> list[str]:
    uids = rows.words(column)
    if not as_they_are:
        uids = [str(int(uid)) if is_integer(uid) else uid for uid in uids]
    seen: dict[str, int] = {}
    for row, uid in enumerate(uids):
        if uid in seen:
            raise BadAnnotations(
                f"the uid is used twice, first at {rows.place(seen[uid])}",
                where=rows.place(row),
                found=uid,
            )
        seen[uid] = row
    return uids
