"""Files of arrays in a folder, and which video each is of.

Promise: nothing is left out in silence, and a file that can't be a video's fails alone, in one
line: two that would be one video, and a name that none can have.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from antcache.errors import AntcacheError, BadConfig, NotFound
from antcache.interop.array_files.forms import COMPANION, FORMS, form_of
from antcache.interop.naming import called, note_of
from antcache.text import listed


@dataclass(frozen=True, kw_only=True)
class ArrayFiles:
    """The files of a folder.

    Attributes:
        folder: where they lie.
        videos: file by video, in the order of videos.
        refused: what can't be a video, by its path; name and reason.
        note: which videos are not called as their files, in one line; empty if none.
        passed_over: what else lies there, in one line; empty if nothing.
    """

    folder: Path
    videos: dict[str, Path]
    refused: dict[Path, tuple[str, AntcacheError]] = field(default_factory=dict)
    note: str = ""
    passed_over: str = ""

    @property
    def name(self) -> str:
        """Name of the folder, without those above it."""
        return Path(os.path.realpath(self.folder)).name


def find_arrays(folder: Path, stored: Collection[str] = ()) -> ArrayFiles:
    """The files of arrays in a folder and those below it, by the videos that they are called after.

    Args:
        folder: links to other folders in it are not followed.
        stored: names that the stream has, which are taken as they are.

    Raises:
        NotFound: there is no folder, or no such file in it.
    """
    if not folder.is_dir():
        raise NotFound("no such folder", where=folder, expected=f"files of {_endings()}")
    found: dict[str, list[Path]] = {}
    refused: dict[Path, tuple[str, AntcacheError]] = {}
    written: dict[str, str] = {}
    others: Counter[str] = Counter()
    for path in _walk(folder, others):
        stem = path.name.removesuffix(path.suffix)
        try:
            video = called(stem, stored)
        except BadConfig as error:
            refused[path] = (stem, BadConfig(f"{error.message}; rename it", where=path))
            continue
        found.setdefault(video, []).append(path)
        if stem != video:
            written[video] = stem
    for video, paths in found.items():
        for path in paths if len(paths) > 1 else ():
            wrong = BadConfig(
                f"{len(paths)} files would be the video {video!r}",
                where=path,
                found=listed([str(each.relative_to(folder)) for each in paths]),
                hint="names must differ without folders and endings: rename one",
            )
            refused[path] = (video, wrong)
    videos = {video: paths[0] for video, paths in sorted(found.items()) if len(paths) == 1}
    if not videos and not refused:
        raise NotFound(
            "no arrays here",
            where=folder,
            expected=f"files of {_endings()}",
            found=_line(others),
        )
    return ArrayFiles(
        folder=folder,
        videos=videos,
        refused=refused,
        note=note_of({v: s for v, s in written.items() if v in videos}, len(videos)),
        passed_over=f"{folder}: passed over {_line(others)}" if others else "",
    )


def _endings() -> str:
    return ", ".join(f".{form}" for form in FORMS)


def _walk(folder: Path, others: Counter[str]) -> list[Path]:
    """Files of arrays in a folder and those below it, by path; what else is there is counted."""
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        others[f"unreadable folder ({error.strerror})"] += 1

    for at, inside, names in os.walk(folder, onerror=unreadable):
        links = [name for name in inside if Path(at, name).is_symlink()]
        hidden = [name for name in (*inside, *names) if name.startswith(".")]
        others.update({"links to folders": len(links), "hidden": len(hidden)})
        inside[:] = [name for name in inside if name not in hidden]
        there = set(names)
        for name in sorted(there.difference(hidden)):
            path = Path(at, name)
            if name.endswith(COMPANION) and name.removesuffix(COMPANION) + ".npy" in there:
                continue  # read with the file that it belongs to
            if form_of(name):
                found.append(path)
            else:
                others[path.suffix.lower() or "no ending"] += 1
    others += Counter()  # forgets what was counted as none
    return sorted(found)


def _line(others: Counter[str]) -> str:
    kinds = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    return listed([f"{count} {kind}" for kind, count in kinds])
