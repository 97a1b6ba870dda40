"""Several videos, asked about one after the other.

Promise: what can't be read or has no answer is kept beside the answers, and the others are asked
about all the same; of one video alone, its error is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antcache.errors import AntcacheError, BadConfig
from antcache.extract.sources.finding import find_videos
from antcache.extract.sources.lists import LISTS
from antcache.extract.videos.finding import Videos
from antcache.predict.answers import Anticipation, Anticipations, Unanswered, as_dict
from antcache.store.location import Location
from antcache.text import utf8

if TYPE_CHECKING:
    from antcache.predict.anticipator import Anticipator


def videos_of(places: Iterable[Location]) -> tuple[Videos, list[str]]:
    """The videos of files, folders, lists and URLs, each name once, and what was passed over.

    Raises:
        BadConfig: two have one name.
        NotFound, Unreachable: see `find_videos`.
    """
    together, passed = Videos(), list[str]()
    for place in places:
        if isinstance(place, Path) and place.is_file() and place.suffix.lower() not in LISTS:
            name = utf8(place.stem)  # whatever a store would say of it
            if name in together:
                raise BadConfig("two videos of one name", where=place, found=together[name])
            together[name] = place
            continue
        own = find_videos(place)
        for name, video in own.items():
            together.add(name, video)
        together.refused.extend(own.refused)
        if own.passed_over:
            passed.append(own.passed_over)
    return together, passed


def check_apart(files: Iterable[Path], videos: Videos) -> None:
    """Refuse to replace a video that is asked about.

    Raises:
        BadConfig: one of the files to write is one.
    """
    read = set[Path]()
    for video in videos.values():
        for part in [video] if isinstance(video, Path) else getattr(video, "parts", [video]):
            place = getattr(part, "path", part)
            if isinstance(place, Path):
                read.add(place.resolve())
    for file in files:
        if file.resolve() in read:
            raise BadConfig(
                "this is one of the videos", where=file, hint="name another file to write"
            )


class AskedVideos:
    """Asks about videos, one after the other.

    Args:
        anticipator: whom.
        videos: about which.
        every: about which times of each.
        at: or about these.
        top: how many actions are said.

    Attributes:
        takers: are given each answer.
        keeps: how many likeliest actions of each time are `kept`.
        kept: answers by video, for what is written in the end; none if nobody `keeps` any.
        count: how many answers there were.
        wrong: what has none.
    """

    def __init__(
        self,
        anticipator: Anticipator,
        videos: Videos,
        *,
        every: float | None,
        at: tuple[float, ...] | None,
        top: int,
    ) -> None:
        self.anticipator, self.videos = anticipator, videos
        self.every, self.at, self.top = every, at, top
        self.takers: list[Callable[[Anticipation], None]] = []
        self.keeps = 0
        self.kept: dict[str, list[Anticipation]] = {}
        self.count = 0
        self.wrong: list[AntcacheError] = []

    def all(self) -> list[dict[str, Any]]:
        """An account of each video, JSON-ready; answers go to the takers as they come."""
        self.wrong += [each.error for each in self.videos.refused]
        told = []
        for name, video in self.videos.items():
            kept: list[Anticipation | Unanswered] = []
            try:
                for each in self._each(name, video):
                    kept.append(each)
            except AntcacheError as error:
                if not self.several:
                    raise
                self.wrong.append(error)
                continue
            protocol = self.anticipator.protocol
            told.append(as_dict(name, protocol.gap_s, protocol.anchor, kept))
        return told

    @property
    def several(self) -> bool:
        """Whether there is more than one video."""
        return len(self.videos) + len(self.videos.refused) > 1

    def _each(self, name: str, video: Any) -> Iterator[Anticipation | Unanswered]:
        answers = 0
        part: Anticipations | None = None
        for part in self.anticipator.parts(video, every=self.every, at=self.at, name=name):
            if self.keeps and len(part):
                self.kept.setdefault(name, []).extend(part.top(self.keeps))
            for each in part.top(self.top):
                answers += 1
                for take in self.takers:
                    take(each)
                yield each
        assert part is not None
        self.count += answers
        self.wrong += [_unanswered(name, own) for own in _by_reason(part.unanswered)]
        yield from part.unanswered
        if not answers and not part.unanswered:
            raise BadConfig(
                "no time of this video can be asked about",
                where=name,
                found=f"its last frame is at {part.last_s:g} s",
                hint="a smaller `every`, or `at`",
            )


def _by_reason(unanswered: Iterable[Unanswered]) -> list[list[Unanswered]]:
    """Times without an answer, those of one reason together."""
    found: dict[str, list[Unanswered]] = {}
    for each in unanswered:
        found.setdefault(each.reason, []).append(each)
    return list(found.values())


def _unanswered(video: str, alike: Sequence[Unanswered]) -> BadConfig:
    """What is said of times that have no answer for one reason: thousands may be asked about."""
    first, count = alike[0], len(alike)
    if count == 1:
        return BadConfig("no such time", where=video, found=str(first))
    return BadConfig("no such times", where=video, found=f"{count}, the first {first}")
