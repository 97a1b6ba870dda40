"""How what is given as videos is to be read.

Promise: settings that say nothing beside others are refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from antcache.checks import Range, check_types
from antcache.errors import BadConfig

ImageRate = Annotated[float, Range(0, 1000, above=True)]
"""Pictures per second; high-speed cameras included."""

GB = 10**9


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How videos are read that are not one local file each.

    Attributes:
        image_fps: folders and tars of numbered pictures are videos, taken at this rate: the picture
            n was seen at n / image_fps seconds.
        image_times: the same, with the times out of a table `video,frame,seconds`.
        fill: where a number is missing, the picture before is shown on.
        chapters: files that are one recording: `gopro`, by their names as GoPro gives them, or a
            table `video,file`, with `start_s` if they do not follow one another.
        scratch: folder for videos at URLs, which are fetched one by one and deleted when they are
            done; None: one of the system's folder for temporary files.
        scratch_size: bytes that may lie there at any time, of all processes together.
    """

    image_fps: ImageRate | None = None
    image_times: Path | None = None
    fill: bool = False
    chapters: Path | str | None = None
    scratch: Path | None = None
    scratch_size: Annotated[int, Range(1, 10**18)] = 20 * GB

    def __post_init__(self) -> None:
        check_types(self)
        if self.image_fps is not None and self.image_times is not None:
            raise BadConfig("`image_fps` and `image_times` exclude each other")
        if self.fill and not self.of_pictures:
            raise BadConfig("`fill` only with `image_fps` or `image_times`")

    @property
    def of_pictures(self) -> bool:
        """Whether pictures are read."""
        return self.image_fps is not None or self.image_times is not None
