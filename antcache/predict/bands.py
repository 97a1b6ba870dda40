"""Answers over time as bands: time from left to right, the likeliest actions one below the other.

Promise: a band is as strong as its action is likely; where there are more answers than can be told
apart, a column is the mean of several, and says of how many. What was right is told by shape as
well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from antcache.evaluation.report.svg import Drawing, shorten
from antcache.evaluation.report.words import clock
from antcache.predict.answers import Anticipation, percent
from antcache.predict.truth import WORDS, Truth

COLUMNS, MOST_STRIPS = 40, 40
"""Of a strip, and strips of a video; a video with more answers than fit has columns of several."""
ROWS = 6
"""Actions of a strip."""
PICTURES = 5
"""Of the film above a strip."""
WIDTH, LEFT, TOP, ROW = 360.0, 110.0, 34.0, 17.0
LETTERS = 17
LEVELS = 10
"""Strengths of a band."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """Some answers, one after the other.

    Attributes:
        start_s: where it begins.
        stop_s: where it ends.
        likely: probability of each action, the mean over the answers.
        answers: how many.
        judged: how the first fares; a key of `truth.WORDS`.
        truth: action that came after the first, -1 if nobody knows.
    """

    start_s: float
    stop_s: float
    likely: dict[int, float]
    answers: int
    judged: str
    truth: int


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A stretch of time.

    Attributes:
        start_s: where it begins.
        stop_s: where it ends.
        pictures_s: when the pictures above it are of: the middles of its parts, as far as there are
            answers.
        drawing: SVG.
    """

    start_s: float
    stop_s: float
    pictures_s: tuple[float, ...]
    drawing: str


def strips(
    answers: Sequence[Anticipation],
    names: Sequence[str],
    *,
    observed_s: float,
    truth: Truth | None,
    label: str,
) -> list[Strip]:
    """The answers about one video, ascending in time.

    Args:
        answers: one at least.
        names: of all actions.
        observed_s: how much a window sees.
        truth: what was really done, if anybody knows.
        label: what ids on the page begin with.
    """
    step = _step([answer.time_s for answer in answers])
    groups: dict[int, list[Column]] = {}
    for number, column in _columns(answers, step, truth):
        groups.setdefault(number // COLUMNS, []).append(column)
    found, span = [], step * COLUMNS
    for number, own in groups.items():
        begin, end = number * span, (number + 1) * span
        name = f"{label}-{number}"
        drawing = _draw(name, begin, end, own, names, observed_s, answers[0].gap_s)
        middles = (begin + (i + 0.5) * span / PICTURES for i in range(PICTURES))
        pictures_s = tuple(time for time in middles if time <= own[-1].stop_s)
        found.append(Strip(start_s=begin, stop_s=end, pictures_s=pictures_s, drawing=drawing))
    return found


def together(answers: Sequence[Anticipation]) -> int:
    """Of how many answers a column is, at most."""
    step = _step([answer.time_s for answer in answers])
    return max(column.answers for _, column in _columns(answers, step, None))


def _step(times_s: Sequence[float]) -> float:
    """How wide a column is, in seconds: the usual step between answers, or several."""
    usual = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.5
    length = times_s[-1] - times_s[0] + usual
    return usual * max(1, math.ceil(length / usual / (COLUMNS * MOST_STRIPS) - 1e-6))


def _columns(
    answers: Sequence[Anticipation], step: float, truth: Truth | None
) -> Iterator[tuple[int, Column]]:
    """Columns, each with its number from time 0 on."""
    groups: dict[int, list[Anticipation]] = {}
    for answer in answers:
        groups.setdefault(math.floor(answer.time_s / step + 1e-6), []).append(answer)
    for number, own in sorted(groups.items()):
        likely: dict[int, float] = {}
        for answer in own:
            for each in answer.top:
                likely[each.action] = likely.get(each.action, 0.0) + each.probability / len(own)
        first = own[0]
        yield (
            number,
            Column(
                start_s=number * step,
                stop_s=(number + 1) * step,
                likely=likely,
                answers=len(own),
                judged="none" if truth is None else truth.judged(first),
                truth=-1 if truth is None else truth.at(first.time_s + first.gap_s),
            ),
        )


def _draw(
    name: str,
    begin: float,
    end: float,
    columns: Sequence[Column],
    names: Sequence[str],
    observed_s: float,
    gap_s: float,
) -> str:
    total: dict[int, float] = {}
    for column in columns:
        for action, probability in column.likely.items():
            total[action] = total.get(action, 0.0) + probability
    shown = sorted(total, key=lambda action: (-total[action], action))[:ROWS]
    known = any(column.truth >= 0 for column in columns)
    bottom = TOP + ROW * (len(shown) + known)
    scale = (WIDTH - LEFT - 4) / (end - begin)
    drawing = Drawing(
        name,
        WIDTH,
        bottom + 4,
        title=f"{clock(begin)} to {clock(end)}",
        description=_described(columns, names),
    )

    def place(seconds: float) -> float:
        return LEFT + (min(max(seconds, begin), end) - begin) * scale

    for i in range(6):
        at = begin + (end - begin) * i / 5
        drawing.line([(place(at), TOP - 3), (place(at), bottom)], "grid")
        if i < 5:
            drawing.text(place(at), TOP - 7, clock(at).removesuffix(".0"), "small soft mid")
    _draw_window(drawing, begin, scale, observed_s, gap_s)
    for row, action in enumerate(shown):
        y = TOP + ROW * row
        drawing.text(0, y + 12, shorten(names[action], LETTERS))
        for column in columns:
            x, width = place(column.start_s), max(1.0, (column.stop_s - column.start_s) * scale)
            width = min(width, WIDTH - x)
            probability = column.likely.get(action, 0.0)
            words = f"{clock(column.start_s)}: {names[action]} {percent(probability)}"
            level = min(LEVELS, math.ceil(probability * LEVELS))
            if probability >= 0.01:
                drawing.rect(x, y + 1, width, ROW - 2, f"band p{level}", words)
            if column.truth == action:
                drawing.line([(x, y + ROW - 1.5), (x + width, y + ROW - 1.5)], "came")
    if known:
        y = TOP + ROW * len(shown)
        drawing.text(0, y + 12, "was it right?", "soft")
        for column in columns:
            if column.judged != "none":
                x, width = place(column.start_s), (column.stop_s - column.start_s) * scale
                came = f"{names[column.truth]} came, {WORDS[column.judged]}"
                height = {"right": 11.0, "near": 6.0, "wrong": 2.0}[column.judged]
                words = f"{clock(column.start_s)}: {came}"
                drawing.rect(
                    x, y + 14 - height, max(1.0, width - 0.6), height, f"hit {column.judged}", words
                )
    return str(drawing)


def _draw_window(
    drawing: Drawing, begin: float, scale: float, observed_s: float, gap_s: float
) -> None:
    """How long a window is, and the gap after it, on the scale of the time below."""
    room = (WIDTH - LEFT - 4) / scale
    seen = min(observed_s, room - gap_s) if room > gap_s else room
    end = LEFT + seen * scale
    drawing.text(0, 9, f"sees {observed_s:g} s, gap {gap_s:g} s", "small soft")
    drawing.line([(LEFT, 6), (end, 6)], "seen")
    if gap_s and room > gap_s:
        drawing.line([(end, 6), (end + gap_s * scale, 6)], "gap")


def _described(columns: Sequence[Column], names: Sequence[str]) -> str:
    """The likeliest action of each stretch of time in which it stays the same."""
    said: list[str] = []
    last: int | None = None
    for column in columns:
        best = max(column.likely, key=lambda action: column.likely[action], default=None)
        if best is not None and best != last:
            said.append(f"From {clock(column.start_s)}: {names[best]}.")
        last = best
    return " ".join(said)
