"""Which files are chapters of one recording: by GoPro's names, or as a table says.

Promise: a recording of GoPro's is called like its first file, and none of its chapters may be
missing; files that are called otherwise stay videos of their own, and so do those that a table does
not name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path, PurePosixPath

from antcache.annotations.files import read_table
from antcache.errors import BadAnnotations, BadConfig
from antcache.extract.sources.chapters import Chapter, Chapters
from antcache.extract.sources.clocks import PER_S, nanoseconds
from antcache.extract.videos.finding import Video, Videos, path_of
from antcache.extract.videos.source import file_name
from antcache.store.location import Location
from antcache.text import listed

GOPRO = "gopro"

NEW = re.compile(r"(G[HXLS])(\d\d)(\d{4})", re.I | re.A)
"""From HERO6 on: codec, chapter from 01 on, recording."""
FIRST, LATER = re.compile(r"GOPR(\d{4})", re.I | re.A), re.compile(r"GP(\d\d)(\d{4})", re.I | re.A)
"""Before: the first chapter, and the others from 01 on."""


def join_chapters(found: Videos, chapters: Path | str, root: Location) -> None:
    """Put one video in place of each recording's files.

    Args:
        found: videos, of which some are chapters.
        chapters: `gopro`, or a table `video,file` with `start_s` where chapters do not follow one
            another.
        root: the folder that files of a table are relative to.

    Raises:
        NotFound, BadAnnotations: the table can't be read, or names what is not there.
    """
    if chapters == GOPRO:
        _by_gopro(found)
    else:
        _by_table(found, Path(chapters), root)


def _by_gopro(found: Videos) -> None:
    recordings: dict[tuple[Location, str, str], list[tuple[int, str]]] = {}
    for name, video in found.items():
        path = path_of(video)
        if place := _place_of(file_name(path)):
            kind, chapter, recording = place
            folder = path.rpartition("/")[0] if isinstance(path, str) else path.parent
            recordings.setdefault((folder, kind, recording), []).append((chapter, name))
    for (folder, kind, recording), files in recordings.items():
        files.sort()
        first = int(kind != "GP")
        numbers = [number for number, _ in files]
        if numbers == [first]:  # a recording of one file
            continue
        videos = [found.pop(name) for _, name in files]
        due = next(n for n in range(first, len(files) + first + 1) if n not in numbers)
        if len(set(numbers)) < len(numbers) or due <= numbers[-1]:
            error = BadConfig(
                f"chapter {_called(kind, due, recording)} is missing"
                if due <= numbers[-1]
                else "two files of one chapter",
                where=folder,
                found=listed([file_name(path_of(video)) for video in videos]),
                hint="give --chapters a table that says when each begins",
            )
            found.refuse(files[0][1], path_of(videos[0]), error)
        else:
            found.add(files[0][1], Chapters(tuple(Chapter(each) for each in videos)))


def _place_of(file: str) -> tuple[str, int, str] | None:
    """Kind, chapter and recording that a file is of, by its name."""
    stem = file.rpartition(".")[0]
    if match := NEW.fullmatch(stem):
        return match[1].upper(), int(match[2]), match[3]
    if match := FIRST.fullmatch(stem):
        return "GP", 0, match[1]
    if match := LATER.fullmatch(stem):
        return "GP", int(match[1]), match[2]
    return None


def _called(kind: str, chapter: int, recording: str) -> str:
    return f"GOPR{recording}" if kind == "GP" and not chapter else f"{kind}{chapter:02}{recording}"


def _by_table(found: Videos, table: Path, root: Location) -> None:
    rows = read_table(table, ("video", "file"), ("start_s",))
    starts: list[Fraction | None] = [None] * len(rows)
    if "start_s" in rows.columns:
        starts = rows.convert("start_s", _start, "seconds, or nothing where it follows")
    known = _files(found, root)
    parts: dict[str, list[Chapter]] = {}
    taken: set[str] = set()
    for row, (video, file) in enumerate(zip(rows.words("video"), rows.words("file"), strict=True)):
        key = str(PurePosixPath(file))
        if key not in known or key in taken:
            raise BadAnnotations(
                "a file that stands twice" if key in taken else "a file that is not there",
                where=rows.place(row),
                expected=f"one of those of {root}: {listed(sorted(known))}",
                found=file,
            )
        taken.add(key)
        parts.setdefault(video, []).append(Chapter(known[key], starts[row]))
    used = {path_of(known[key]) for key in taken}
    for name in [name for name, video in found.items() if path_of(video) in used]:
        del found[name]
    found.refused[:] = [each for each in found.refused if each.path not in used]
    for video, chapters in parts.items():
        found.add(video, Chapters(tuple(chapters)))


def _files(found: Videos, root: Location) -> Mapping[str, Video]:
    """Files by where they lie below `root`, and by their names alone where these are unlike."""
    videos: list[Video] = [*found.values()]
    videos += [each.path for each in found.refused if isinstance(each.path, Path)]
    known: dict[str, Video] = {}
    names: dict[str, list[Video]] = {}
    for video in videos:
        path = path_of(video)
        names.setdefault(file_name(path), []).append(video)
        if isinstance(path, Path) and isinstance(root, Path) and path.is_relative_to(root):
            known[path.relative_to(root).as_posix()] = video
        elif isinstance(path, str) and isinstance(root, str):
            known[path.removeprefix(root).lstrip("/")] = video
    return {name: each[0] for name, each in names.items() if len(each) == 1} | known


def _start(text: str) -> Fraction | None:
    return Fraction(nanoseconds(text), PER_S) if text else None
