"""A page about videos: a film strip, what was expected over time, and how it fared where known.

Promise: one file that loads nothing and runs no script; text is escaped and none of it hidden; it
appears whole or not at all. Pictures are those of the times that they stand at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from antcache import __version__
from antcache.errors import UnreadableVideo
from antcache.evaluation.report.page import page_environment
from antcache.evaluation.report.words import clock
from antcache.extract.sources.thumbnails import data_url, thumbnails
from antcache.extract.videos.source import VideoSource
from antcache.files import atomic_file
from antcache.predict import bands
from antcache.predict.answers import KEPT, Anticipation, when
from antcache.predict.truth import BEST, Truth
from antcache.student.runs.kept import KeptStudent

TEMPLATE = "answers.html"
MOST_ROWS = 300
"""Of a video's table."""
PICTURE_HEIGHT = 72


@dataclass(frozen=True, kw_only=True)
class ShownVideo:
    """What a page says of one video.

    Attributes:
        name: of the video.
        answers: ascending in time, one at least, each with the `KEPT` likeliest actions.
        source: where its pictures come from; None: there are none.
        truth: what was really done, if anybody knows.
    """

    name: str
    answers: Sequence[Anticipation]
    source: Path | VideoSource | None = None
    truth: Truth | None = None


def write_page(
    path: Path,
    videos: Sequence[ShownVideo],
    student: KeptStudent,
    *,
    title: str = "What comes next",
    labelled: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the page to `path`.

    Args:
        path: of the HTML file.
        videos: one at least.
        student: who said it.
        title: of the page.
        labelled: whether labels were looked for.
        overwrite: replace a file that is there.

    Raises:
        AlreadyExists: `path` is there and `overwrite` is false, or it is a folder.
        MissingExtra: jinja2 is not installed, or Pillow.
        WriteFailed: the disk refused.
    """
    page = render(videos, student, title=title, labelled=labelled)
    with atomic_file(path, overwrite=overwrite) as staged:
        staged.write_text(page, "utf-8")


def render(
    videos: Sequence[ShownVideo],
    student: KeptStudent,
    *,
    title: str = "What comes next",
    labelled: bool = False,
) -> str:
    """The page; see `write_page`."""
    template = page_environment(("antcache.predict", ".")).get_template(TEMPLATE)
    protocol, names = student.protocol, student.taxonomy.actions
    page: str = template.render(
        title=title,
        version=__version__,
        head=student.config.model.head,
        source=", ".join(stream.source for stream in student.streams if stream.source),
        observed_s=protocol.observed_s,
        what="what is being done now"
        if protocol.recognises
        else f"what will be done {when(protocol.gap_s, protocol.anchor)}",
        labelled=labelled,
        kept=KEPT,
        levels=bands.LEVELS,
        places=bands.PICTURES,
        left=round(100 * bands.LEFT / bands.WIDTH, 3),
        right=round(100 * 4 / bands.WIDTH, 3),
        videos=[
            _about(video, names, protocol.observed_s, f"s{number}")
            for number, video in enumerate(videos, 1)
        ],
    )
    return page


def _about(
    video: ShownVideo, names: Sequence[str], observed_s: float, label: str
) -> dict[str, Any]:
    answers, truth = video.answers, video.truth
    drawn = bands.strips(answers, names, observed_s=observed_s, truth=truth, label=label)
    nth = -(-len(answers) // MOST_ROWS)
    return {
        "name": video.name,
        "count": len(answers),
        "first": clock(answers[0].time_s),
        "last": clock(answers[-1].time_s),
        "together": bands.together(answers),
        "tally": None if truth is None else _tally(answers, truth),
        "strips": list(zip(drawn, _films(video, drawn), strict=True)),
        "nth": nth,
        "rows": [_row(answer, names, truth) for answer in answers[::nth]],
    }


def _row(answer: Anticipation, names: Sequence[str], truth: Truth | None) -> dict[str, Any]:
    action = -1 if truth is None else truth.at(answer.time_s + answer.gap_s)
    return {
        "time": clock(answer.time_s),
        "said": ", ".join(str(each) for each in answer.top[:BEST]),
        "came": names[action] if action >= 0 else "",
        "judged": "none" if truth is None else truth.judged(answer),
    }


def _tally(answers: Sequence[Anticipation], truth: Truth) -> dict[str, int]:
    judged = [truth.judged(answer) for answer in answers]
    right, near = judged.count("right"), judged.count("near")
    return {"known": len(judged) - judged.count("none"), "right": right, "near": near}


def _films(video: ShownVideo, drawn: Sequence[bands.Strip]) -> list[list[tuple[str, str]]]:
    """Pictures above each strip, as addresses and what they are; none where none can be read."""
    if video.source is None:
        return [[] for _ in drawn]
    times = [time for strip in drawn for time in strip.pictures_s]
    try:
        made = thumbnails(video.source, times, height=PICTURE_HEIGHT)
    except UnreadableVideo:  # it could be read before: a page without pictures still says it all
        return [[] for _ in drawn]
    told = iter(
        [(data_url(each), f"at {clock(time)}") for each, time in zip(made, times, strict=True)]
    )
    return [list(islice(told, len(strip.pictures_s))) for strip in drawn]
