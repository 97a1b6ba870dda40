"""One video over time: the true segments, and what teacher, A and B expected before each.

Promise: every segment of the video that counts is drawn at its own time and listed in a table; a
guess is marked by its shape as well as its colour. A's and B's guesses are those of the first pair
of runs. Letters: N segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy
from antcache.errors import BadConfig
from antcache.evaluation.comparing.compare import Comparison
from antcache.evaluation.comparing.systems import System
from antcache.evaluation.report.svg import Drawing, shorten
from antcache.evaluation.report.words import clock, signed

SPANS_S = (600, 300, 120, 60, 30, 20, 10, 5, 2)
USUAL, MOST = 12, 20  # segments that begin in nine of ten strips, and in the fullest
CLEAR = (10, 80)  # segments of a video that shows something and fits a page
WIDTH, LEFT, ROW, LANE = 360.0, 80.0, 19.0, 9.0
LETTERS = 11  # of a name that fit beside its row
MARK = 13.0
STATES = {
    "right": "right",
    "near": "wrong, but the truth is among the 5 best",
    "wrong": "wrong",
    "none": "no prediction",
}


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What one system expected: the action's name, and one of `STATES`."""

    name: str
    state: str

    @property
    def words(self) -> str:
        """The state in words."""
        return STATES[self.state]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One segment of the video.

    Attributes:
        number: from 1, by start.
        start_s: seconds.
        stop_s: seconds.
        truth: the action's name.
        guesses: row -> guess.
    """

    number: int
    start_s: float
    stop_s: float
    truth: str
    guesses: dict[str, Guess]


@dataclass(frozen=True, kw_only=True)
class VideoTimeline:
    """A video.

    Attributes:
        video: its name.
        chosen: why it is shown, in words; empty if it was asked for.
        events: by start.
        rows: what each system is called, in the order of the drawing: `teacher`, `a` and `b`.
        strips: the drawings, one for each stretch of time in which something happens.
    """

    video: str
    chosen: str
    events: tuple[Event, ...]
    rows: dict[str, str]
    strips: tuple[str, ...]

    def tally(self) -> list[tuple[str, int, int]]:
        """For each row: what it is called, guesses that are right, or right or among the 5 best."""
        counts = []
        for row, name in self.rows.items():
            states = [event.guesses[row].state for event in self.events]
            right = states.count("right")
            counts.append((name, right, right + states.count("near")))
        return counts


def timeline(found: Comparison, taxonomy: Taxonomy, video: str | None = None) -> VideoTimeline:
    """The timeline of a video.

    Args:
        found: the comparison.
        taxonomy: names of the actions.
        video: which; None takes the one whose gain in top-1 is the closest to that of all.

    Raises:
        BadConfig: no segment of the video counts.
    """
    chosen = ""
    if video is None:
        video, chosen = _typical(found)
    rows = np.flatnonzero(found.segments.video == video)
    if not len(rows):
        names = found.segments.videos
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise BadConfig(
            "no segment of this video counts",
            where=f"split {found.split}",
            expected=f"one of {', '.join(names[:5])}{more}",
            found=video,
        )
    rows = rows[np.lexsort([found.segments.stop_s[rows], found.segments.start_s[rows]])]
    systems = {} if found.teacher is None else {"teacher": found.teacher}
    systems |= {"a": found.a[0], "b": found.b[0]}
    called = {row: row for row in systems} | dict(zip("ab", found.names, strict=True))
    events = tuple(
        Event(
            number=number,
            start_s=float(found.segments.start_s[row]),
            stop_s=float(found.segments.stop_s[row]),
            truth=taxonomy.actions[found.segments.action[row]],
            guesses={name: _guess(system, int(row), taxonomy) for name, system in systems.items()},
        )
        for number, row in enumerate(rows, start=1)
    )
    return VideoTimeline(
        video=video,
        chosen=chosen,
        events=events,
        rows=called,
        strips=tuple(_strips(events, called)),
    )


def _typical(found: Comparison) -> tuple[str, str]:
    """A video that shows what the whole comparison does, and why it was taken."""
    sides = ([s.right(1) for s in side] for side in (found.a, found.b))
    a, b = (np.mean(hits, axis=0) for hits in sides)
    names, place, sizes = np.unique(found.segments.video, return_inverse=True, return_counts=True)
    gains = 100 * np.bincount(place, weights=b - a) / sizes
    whole = 100 * float((b - a).mean())
    fits = (sizes >= CLEAR[0]) & (sizes <= CLEAR[1])
    kept = np.flatnonzero(fits if fits.any() else np.ones(len(names), dtype=bool))
    best = kept[np.lexsort([-sizes[kept], np.abs(gains[kept] - whole)])[0]]
    among = f" of {CLEAR[0]} to {CLEAR[1]} segments" if fits.any() else ""
    why = (
        f"Of the videos{among} it is the one whose gain in top-1 ({signed(float(gains[best]))} "
        f"points) is the closest to that of the whole split ({signed(whole)})."
    )
    return str(names[best]), why


def _guess(system: System, row: int, taxonomy: Taxonomy) -> Guess:
    if system.guess[row] < 0:
        return Guess(name="", state="none")
    rank = system.ranked.ranks["action"][row]
    state = "right" if rank < 1 else "near" if rank < 5 else "wrong"
    return Guess(name=taxonomy.actions[system.guess[row]], state=state)


def _strips(events: Sequence[Event], rows: Mapping[str, str]) -> list[str]:
    starts = np.array([event.start_s for event in events])
    span = next((s for s in SPANS_S if _fits(starts, s)), SPANS_S[-1])
    lanes = _lanes(events)
    drawings = []
    for strip in range(int(max(event.stop_s for event in events) // span) + 1):
        begin, end = strip * span, (strip + 1) * span
        inside = [i for i, e in enumerate(events) if e.start_s < end and e.stop_s > begin]
        if inside:
            drawings.append(
                _strip(strip, begin, end, [(events[i], lanes[i]) for i in inside], rows)
            )
    return drawings


def _fits(starts: NDArray[np.float64], span: float) -> bool:
    counts = np.unique(starts // span, return_counts=True)[1]
    return bool(counts.max() <= MOST and np.quantile(counts, 0.9) <= USUAL)


def _lanes(events: Sequence[Event]) -> list[int]:
    """A lane for each segment, so that those that overlap are drawn one below the other."""
    ends: list[float] = []
    lanes = []
    for event in events:
        lane = next((i for i, end in enumerate(ends) if end <= event.start_s), len(ends))
        ends[lane : lane + 1] = [event.stop_s]
        lanes.append(lane)
    return lanes


def _strip(
    number: int,
    begin: float,
    end: float,
    events: Sequence[tuple[Event, int]],
    rows: Mapping[str, str],
) -> str:
    """One stretch of time: an axis, the segments, their numbers, and a mark per system below."""
    scale = (WIDTH - LEFT - 8) / (end - begin)

    def place_of(seconds: float) -> float:
        return LEFT + (min(max(seconds, begin), end) - begin) * scale

    beginning = [event for event, _ in events if event.start_s >= begin]
    top, depth = 16.0, LANE * (1 + max(lane for _, lane in events))
    first = top + depth + 16  # baseline of the numbers
    drawing = Drawing(
        f"strip-{number}",
        WIDTH,
        first + 6 + ROW * len(rows),
        title=f"{clock(begin)} to {clock(end)}",
        description=_described(beginning, rows),
    )
    for i in range(6):
        at = begin + (end - begin) * i / 5
        drawing.line([(place_of(at), top - 3), (place_of(at), first + ROW * len(rows))], "grid")
        if i < 5:
            drawing.text(place_of(at), top - 6, clock(at).removesuffix(".0"), "small soft mid")
    drawing.text(0, top + 8, "truth")
    for event, lane in events:
        words = f"{event.number}: {event.truth}, {clock(event.start_s)} to {clock(event.stop_s)}"
        width = max(2.0, place_of(event.stop_s) - place_of(event.start_s) - 1)
        drawing.rect(place_of(event.start_s), top + LANE * lane, width, LANE - 2, "truth", words)
    for place, (row, name) in enumerate(rows.items(), start=1):
        drawing.text(0, first + ROW * place - 2, shorten(name, LETTERS), row)
    places = _spread([place_of(event.start_s) for event in beginning])
    for event, x in zip(beginning, places, strict=True):
        drawing.line([(place_of(event.start_s), top + depth - 1), (x, first - 9)], "lead")
        drawing.text(x, first, str(event.number), "small mid")
        for number, (row, name) in enumerate(rows.items()):
            guess = event.guesses[row]
            said = f"{name}: {guess.name or '-'} ({guess.words}); truth: {event.truth}"
            _mark(drawing, x, first + ROW * number + 6, guess.state, said)
    return str(drawing)


def _spread(wanted: Sequence[float]) -> list[float]:
    """Ascending places at least a mark apart and inside the strip, near the `wanted` ones."""
    if not wanted:
        return []
    low, high = LEFT + MARK / 2, WIDTH - MARK / 2 - 1
    apart = min(MARK + 2, (high - low) / max(1, len(wanted) - 1))
    places: list[float] = []
    for value in wanted:
        places.append(max(value, low if not places else places[-1] + apart))
    limit = high
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], limit)
        limit = places[i] - apart
    return places


def _mark(drawing: Drawing, x: float, y: float, state: str, words: str) -> None:
    """A box with a tick, a box with a 5, an empty box with a cross, or a dash."""
    half = MARK / 2
    if state == "none":
        drawing.line([(x - 4, y + half), (x + 4, y + half)], "mark none", words)
        return
    drawing.rect(x - half, y, MARK, MARK, f"mark {state}", words)
    if state == "right":
        drawing.line([(x - 3.5, y + 7), (x - 1, y + 9.5), (x + 3.5, y + 3.5)], "sign right")
    elif state == "near":
        drawing.text(x, y + 10, "5", "small mid")
    else:
        drawing.line([(x - 3, y + 3.5), (x + 3, y + 9.5)], "sign wrong")
        drawing.line([(x + 3, y + 3.5), (x - 3, y + 9.5)], "sign wrong")


def _described(events: Sequence[Event], rows: Mapping[str, str]) -> str:
    if not events:
        return "No segment begins here."
    return " ".join(
        f"{event.number}: {event.truth}; "
        + ", ".join(f"{rows[row]} {guess.words}" for row, guess in event.guesses.items())
        + "."
        for event in events
    )
