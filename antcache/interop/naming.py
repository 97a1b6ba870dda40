"""What videos of others are called here: by their keys or files, as `antcache extract` calls them.

Promise: a name that a stream has is taken as it is; folders and endings of videos are left out of
others, in any script, and a note says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from antcache.annotations.video_names import bare_name, renaming
from antcache.store.format import video_name


def called(text: str, stored: Collection[str]) -> str:
    """What the video `text` is called; `stored` are those that the stream has.

    Raises:
        BadConfig: no video can be called so.
    """
    return video_name(text if text in stored else bare_name(text))


def note_of(written: Mapping[str, str], count: int) -> str:
    """Which of `count` videos have other names than where they come from, in one line.

    Args:
        written: how they are called there, by video, of those that are called otherwise here.
        count: of all videos.
    """
    if not written:
        return ""
    video, key = next(iter(written.items()))
    return (
        f"{len(written)} of {count} videos are called as antcache extract calls them: "
        + renaming(key, video)
    )
