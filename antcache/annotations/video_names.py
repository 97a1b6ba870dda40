"""Videos of tables by the names under which a store has them.

Promise: `P01.mp4` and `day1/P01.mp4` are `P01`, as `antcache extract` calls them, and a note says
so; a name that a store has is taken as it is. Two videos never become one, and labels of which the
store could use none, or none of a video for a slip of case or punctuation, are refused. A name is
no slip for a stored one that the table names exactly. Names that no video can have are noted, or
refused where there is no other.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from antcache.annotations.dataset import Dataset
from antcache.annotations.segments import Segments
from antcache.errors import BadAnnotations
from antcache.text import VIDEO_NAMES, is_video_name, listed

ENDINGS = re.compile(
    r"\.(3gp|asf|avi|dv|flv|ivf|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|mxf|nut|ogv|ts|vob|webm|wmv)$", re.I
)
"""Of files of videos."""


def match_videos(dataset: Dataset, stored: Collection[str] = ()) -> Dataset:
    """The dataset with its videos called as in a store.

    Args:
        dataset: as it was read.
        stored: the videos of which the store has features; without any, videos are called as
            `antcache extract` will call them.

    Raises:
        BadAnnotations: two videos would have one name, or the store has features but none of these
            videos, or one of them under a name that differs in case or punctuation.
    """
    given = {video for segments in dataset.splits.values() for video in segments.videos}
    called, notes = _called(given, set(stored), dataset.source)
    splits = {split: _renamed(segments, called) for split, segments in dataset.splits.items()}
    return replace(dataset, splits=splits, warnings=(*dataset.warnings, *notes))


def match_segments(
    segments: Segments, stored: Collection[str], *, source: str
) -> tuple[Segments, list[str]]:
    """Segments with their videos called as in a store, and notes; see `match_videos`."""
    called, notes = _called(set(segments.videos), set(stored), source)
    return _renamed(segments, called), notes


def match_files(
    segments: Segments, files: Collection[str], *, source: str
) -> tuple[Segments, list[str], list[str]]:
    """Segments with their videos called as files that are there, notes, and the videos of which
    there is no file; see `match_videos`."""
    called, notes = _called(set(segments.videos), set(files), source, FILES)
    lacking = [name for name in called.values() if name not in files and is_video_name(name)]
    return _renamed(segments, called), notes, sorted(lacking)


@dataclass(frozen=True, kw_only=True)
class NamesThere:
    """Where names are known from, in words.

    Attributes:
        whose: has so many of the videos.
        names: what a right one would be.
        hint: what to do about wrong ones.
        yet: what the others lack there; empty: the caller says so.
    """

    whose: str
    names: str
    hint: str
    yet: str


STORE = NamesThere(
    whose="the store has",
    names="names as in the store",
    hint="call the videos in the table as the store does: antcache store info",
    yet="have no features in the store yet",
)
FILES = NamesThere(
    whose="there are files of",
    names="names of the files, without ending",
    hint="call the videos in the table as their files are called",
    yet="",
)


def _called(
    given: set[str], known: set[str], source: str, words: NamesThere = STORE
) -> tuple[dict[str, str], list[str]]:
    """What each of the given videos is called, and what is to be said of that."""
    called = {video: video if video in known else bare_name(video) for video in sorted(given)}
    _check_apart(called, source)
    notes = []
    changed = [video for video, name in called.items() if name != video]
    if changed:
        notes.append(
            f"{len(changed)} of {len(given)} videos are called as antcache extract calls them: "
            + renaming(changed[0], called[changed[0]])
        )
    notes += _check_possible(called, source)
    if known:
        notes += _check_known(called, known, source, words)
    return called, notes


def _renamed(segments: Segments, called: dict[str, str]) -> Segments:
    video = np.asarray([called[name] for name in segments.video.tolist()], dtype=np.str_)
    return replace(segments, video=video)


def bare_name(text: str) -> str:
    """The name of a video without folders and the ending of its file, in composed form (NFC).

    A text that gives no name that a video can have is left as it is.
    """
    if not text.isprintable():  # no path that anybody wrote
        return text
    name = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = unicodedata.normalize("NFC", ENDINGS.sub("", name))
    return name if is_video_name(name) else text


def renaming(given: str, name: str) -> str:
    """That the video `given` is called `name`, in words, also where they look alike."""
    said = f"{given} is {name}"
    if given != name and unicodedata.normalize("NFC", given) == name:
        said += " in composed form (Unicode NFC)"
    return said


def _check_apart(called: dict[str, str], source: str) -> None:
    owner: dict[str, str] = {}
    for video, name in called.items():
        if owner.setdefault(name, video) != video:
            raise BadAnnotations(
                f"two videos would be called {name!r}",
                where=source,
                found=f"{owner[name]} and {video}",
                hint="a video is called like its file, without folders: rename one of them",
            )


def _check_possible(called: dict[str, str], source: str) -> list[str]:
    """Refuse names of which no store could have any; say which it can't have."""
    never = [video for video, name in called.items() if not is_video_name(name)]
    if never and len(never) == len(called):
        raise BadAnnotations(
            "no video can be called so",
            where=source,
            expected=VIDEO_NAMES,
            found=repr(never[0]),
            hint="call the videos as their files are called",
        )
    if not never:
        return []
    return [
        f"{len(never)} of {len(called)} videos have a name that no video can have in a store, and "
        f"so will have no features: {listed(never)}"
    ]


def _check_known(
    called: dict[str, str], known: set[str], source: str, words: NamesThere
) -> list[str]:
    """Refuse names that the store has in another form; say which it does not have."""
    missing = [video for video, name in called.items() if name not in known]
    # A stored video that the table names exactly is nobody's slip: the other one is another video.
    loose = {_loose(name): name for name in sorted(known.difference(called.values()))}
    slips = [video for video in missing if _loose(called[video]) in loose]
    if slips or len(missing) == len(called):
        video = (slips or missing)[0]
        close = loose.get(_loose(called[video])) or _nearest(called[video], known)
        raise BadAnnotations(
            f"{words.whose} {len(called) - len(missing)} of these {len(called)} videos",
            where=source,
            expected=f"{words.names}; the nearest is {close!r}",
            found=repr(video),
            hint=words.hint,
        )
    yet = [video for video in missing if is_video_name(called[video])]
    if not yet or not words.yet:
        return []
    return [f"{len(yet)} of {len(called)} videos {words.yet}: {listed(yet)}"]


def _loose(name: str) -> str:
    """A name without case, and with one kind of punctuation."""
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFKC", name).casefold()).strip("_")


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return near[0] if near else min(known)
