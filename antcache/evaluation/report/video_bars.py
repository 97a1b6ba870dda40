"""The gain of every video as a bar, in order of the gain.

Promise: every video is a bar at its own gain, the bars of all share one scale, and a video without
a gain is drawn as a stroke at zero.
"""

from __future__ import annotations

from antcache.evaluation.comparing.compare import Comparison
from antcache.evaluation.report.svg import Drawing, ticks
from antcache.evaluation.report.words import signed

WIDTH, HEIGHT = 720.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 714.0, 10.0, 164.0
NAMED = 200  # videos whose bars say their names; of more the table does


def words(found: Comparison) -> str:
    """How many videos gain and lose, and how the gains spread, in a sentence."""
    gains = [video.gain for video in found.videos]
    up, down = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    best, worst = found.videos[0], found.videos[-1]
    return (
        f"In top-1, {found.names[1]} is above {found.names[0]} in {up} of {len(gains)} videos, "
        f"below in {down} and equal in {len(gains) - up - down}: from {signed(worst.gain, 1)} "
        f"points ({worst.video}, {worst.n:,} segments) to {signed(best.gain, 1)} "
        f"({best.video}, {best.n:,}). A video of few segments moves easily."
    )


def draw(found: Comparison) -> str:
    """The bars as SVG, the largest gain first."""
    videos = found.videos
    low = min(0.0, videos[-1].gain)
    high = max(0.0, videos[0].gain)
    if low == high:
        low, high = -1.0, 1.0
    step = (RIGHT - LEFT) / len(videos)

    def up(gain: float) -> float:
        return BOTTOM - (gain - low) / (high - low) * (BOTTOM - TOP)

    drawing = Drawing(
        "video-gains",
        WIDTH,
        HEIGHT,
        title="Gain in top-1 of each video, points",
        description=words(found),
    )
    for value in ticks(low, high):
        drawing.line([(LEFT, up(value)), (RIGHT, up(value))], "grid")
        drawing.text(
            LEFT - 5, up(value) + 4, signed(value, 0 if value == int(value) else 1), "end soft"
        )
    gap = min(2.0, step / 4)
    for number, video in enumerate(videos):
        top, bottom = sorted((up(video.gain), up(0.0)))
        name = f"{video.video}: {signed(video.gain, 1)} points, {video.n:,} segments"
        style = "gain" if video.gain > 0 else "loss" if video.gain < 0 else "truth"
        drawing.rect(
            LEFT + number * step,
            top,
            min(step - gap, 40.0),
            max(1.0, bottom - top),
            style,
            name if len(videos) <= NAMED else "",
        )
    drawing.text((LEFT + RIGHT) / 2, HEIGHT - 6, "videos, by gain", "mid soft")
    return str(drawing)
