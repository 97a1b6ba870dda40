"""What is given as videos: a file, a folder, a list, a URL; and what is in it, by name.

Promise: nothing is left out in silence (see `videos/finding.py`); nothing is decoded or fetched.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from antcache.errors import AntcacheError, BadConfig, NotFound
from antcache.extract.sources.chapter_names import join_chapters
from antcache.extract.sources.clocks import FrameClock, SteadyClock, read_clocks
from antcache.extract.sources.config import SourceConfig
from antcache.extract.sources.lists import LISTS, read_list
from antcache.extract.sources.picture_files import is_tar
from antcache.extract.sources.picture_video import PictureVideo
from antcache.extract.sources.urls import add_url, look_at_url
from antcache.extract.videos.containers import FRAMES, IMAGES, PICTURES
from antcache.extract.videos.finding import SUFFIXES, FolderSearch, OfPictures, Videos, line_of
from antcache.store.location import Location, parse_location
from antcache.text import listed


def find_videos(path: str | Path, config: SourceConfig | None = None) -> Videos:
    """Videos by name, which is the file's stem.

    Args:
        path: a file; a folder, which is searched with its subfolders; a `.txt`, `.list` or `.csv`
            file that lists some; or a URL of a file or folder.
        config: how what is no file of its own is read.

    Hidden files and folders are passed over. A folder whose own name ends like a video's counts as
    one, so that it is reported rather than ignored. With `image_fps` or `image_times`, a folder
    with numbered pictures is a video of its name, and so is a tar.

    Raises:
        NotFound: there is nothing at `path`, or no video in it.
        BadConfig: none of the videos can go into a store.
        BadAnnotations: a list or a table can't be read.
        Unreachable: a URL can't be.
    """
    config = config or SourceConfig()
    place = parse_location(path)
    found = Videos()
    of_pictures = _reader(config)
    search = FolderSearch(found, of_pictures)
    if isinstance(place, str):
        look_at_url(place, found, search.others, config, of_pictures)
    elif place.suffix.lower() in LISTS and place.is_file():
        _look_at_list(place, found, search, config, of_pictures)
    elif place.is_dir():
        search.look_into(place)
    elif os.path.lexists(place):
        found.is_one = True
        _add_file(place, found, search, of_pictures)
    if config.chapters is not None:
        join_chapters(found, config.chapters, place)
    if not found and not found.refused:
        raise _nothing(place, search.others, of_pictures is not None)
    if not found:
        raise found.refused[0].error
    if search.others:
        found.passed_over = f"{place}: passed over {line_of(search.others)}"
    return found


def _add_file(
    path: Path, found: Videos, search: FolderSearch, of_pictures: OfPictures | None
) -> None:
    if of_pictures is not None and path.suffix.lower() in IMAGES:
        raise BadConfig("one picture is no video", where=path, hint="give the folder that it is in")
    if of_pictures is not None and is_tar(path):
        search.add_pictures(path)
    else:
        found.add(path.stem, path)


def _look_at_list(
    path: Path,
    found: Videos,
    search: FolderSearch,
    config: SourceConfig,
    of_pictures: OfPictures | None,
) -> None:
    """Add what a list names: videos and, where it gives them no names, folders of some."""
    for each in read_list(path):
        place = each.place
        if isinstance(place, str):
            add_url(place, found, config, of_pictures, name=each.name)
        elif not os.path.lexists(place):
            error = NotFound("no such file or folder", where=each.where, found=place)
            found.refuse(each.name or place.stem, place, error)
        elif each.name and of_pictures is not None and (place.is_dir() or is_tar(place)):
            try:
                found.add(each.name, of_pictures(each.name, place))
            except AntcacheError as error:
                found.refuse(each.name, place, error)
        elif each.name:
            found.add(each.name, place)
        elif place.is_dir():
            search.look_into(place)
        else:
            _add_file(place, found, search, of_pictures)


def _reader(config: SourceConfig) -> OfPictures | None:
    """What makes videos of folders and tars of pictures; None if that is not asked for."""
    if not config.of_pictures:
        return None
    clocks = {} if config.image_times is None else read_clocks(config.image_times)

    def made(name: str, path: Path) -> PictureVideo:
        clock: FrameClock | None = clocks.get(name)
        if config.image_fps is not None:
            clock = SteadyClock(config.image_fps)
        if clock is None:
            raise BadConfig(
                "no times of this video",
                where=path,
                expected=f"rows of {name!r} in {config.image_times}",
                found=listed(list(clocks)),
            )
        return PictureVideo(path, clock, config.fill)

    return made


def _nothing(place: Location, others: Counter[str], of_pictures: bool) -> NotFound:
    """What to say where there is no video."""
    there = isinstance(place, str) or os.path.lexists(place)
    frames = any(others[ending] for ending in PICTURES)
    return NotFound(
        "no videos here" if there else "no such file or folder",
        where=place,
        expected=f"a video, or a folder with {' '.join(SUFFIXES)} files",
        found=line_of(others),
        hint=FRAMES if frames and not of_pictures else "",
    )
