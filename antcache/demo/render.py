"""Timelines drawn as real MP4 files: nouns look different, verbs move differently.

Promise: every noun has a shape and a colour of its own, every verb a motion of its own; each video
has its own walls, lights, clutter of other objects, and camera noise. Frame n is shown at n / fps.
"""

from __future__ import annotations

import colorsys
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy
from antcache.checks import Amount, Count, Weight, check_types
from antcache.demo.kitchen import KitchenVideo
from antcache.errors import needs

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Size and difficulty of the pictures."""

    size: Count = 64
    """Height and width in pixels."""
    fps: Count = 10
    clutter: Amount = 6
    """Unrelated objects lying about in each video."""
    noise: Weight = 10.0
    """Standard deviation of the camera noise, of 255."""

    def __post_init__(self) -> None:
        check_types(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


@dataclass(frozen=True)
class Pose:
    """Where and how the object in hand is: centre in -1 to 1, size and turn in radians."""

    x: float = 0.0
    y: float = 0.0
    size: float = 0.34
    turn: float = 0.0


def pose(verb: str, phase: float) -> Pose:
    """The motion of a verb at `phase` 0 to 1."""
    swing = float(np.sin(6 * np.pi * phase))
    circle = 4 * np.pi * phase
    match verb:
        case "take":
            return Pose(x=0.9 * (1 - phase))
        case "put":
            return Pose(x=-0.9 * phase, y=0.4 * phase)
        case "open":
            return Pose(size=0.2 + 0.35 * phase)
        case "close":
            return Pose(size=0.55 - 0.35 * phase)
        case "cut":
            return Pose(y=0.25 * abs(swing))
        case "wash":
            return Pose(x=0.3 * swing, y=-0.3)
        case "pour":
            return Pose(x=0.2, y=-0.45, turn=1.6 * phase)
        case "mix":
            return Pose(x=0.4 * float(np.cos(circle)), y=0.4 * float(np.sin(circle)))
        case "turn-on":
            return Pose(y=0.5, size=0.3, turn=-0.8 * phase)
        case "turn-off":
            return Pose(y=0.5, size=0.3, turn=0.8 * phase - 0.8)
    raise AssertionError(verb)


def _light(verb: str, phase: float) -> float:
    """Taps, hobs and kettles glow when they are on."""
    return 40 * {"turn-on": phase, "turn-off": 1 - phase}.get(verb, 0.0)


SHAPES = ("disc", "square", "triangle", "ring", "cross", "bar")


def _shape(kind: str, x: Image, y: Image) -> Mask:
    """The pixels of a shape of unit size around (0, 0)."""
    match kind:
        case "disc":
            return x**2 + y**2 < 1
        case "square":
            return np.maximum(abs(x), abs(y)) < 0.85
        case "triangle":
            return (y < 0.8) & (y > 2 * abs(x) - 1)
        case "ring":
            return abs(x**2 + y**2 - 0.75) < 0.35
        case "cross":
            return (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 1)
        case "bar":
            return (abs(x) < 0.35) & (abs(y) < 1)
    raise AssertionError(kind)


def look(noun: int, count: int) -> tuple[str, NDArray[np.float32]]:
    """Shape and RGB colour of a noun among `count`."""
    red, green, blue = colorsys.hsv_to_rgb(
        noun / count, 0.55 + 0.45 * (noun % 2), 0.75 + 0.25 * (noun % 3 == 0)
    )
    return SHAPES[noun % len(SHAPES)], 255 * np.array([red, green, blue], np.float32)


class Scene:
    """One kitchen on one day: walls, light and clutter, and whatever is being done in it."""

    def __init__(self, taxonomy: Taxonomy, config: RenderConfig, rng: np.random.Generator) -> None:
        self._taxonomy = taxonomy
        self._config = config
        self._rng = rng
        axis = np.linspace(-1, 1, config.size, dtype=np.float32)
        self._y, self._x = np.meshgrid(axis, axis, indexing="ij")
        walls = rng.uniform(60, 150, size=3).astype(np.float32)
        shade = rng.uniform(-25, 25, size=2).astype(np.float32)
        slope = self._x * shade[0] + self._y * shade[1]
        self._room: Image = walls + slope[..., None]
        for _ in range(config.clutter):
            noun = int(rng.integers(len(taxonomy.nouns)))
            x, y = rng.uniform(-0.9, 0.9, size=2)
            self._draw(self._room, noun, Pose(x=x, y=y, size=rng.uniform(0.1, 0.2)), opacity=0.7)

    def _draw(self, image: Image, noun: int, at: Pose, opacity: float = 1.0) -> None:
        kind, colour = look(noun, len(self._taxonomy.nouns))
        x, y = (self._x - at.x) / at.size, (self._y - at.y) / at.size
        cosine, sine = np.float32(np.cos(at.turn)), np.float32(np.sin(at.turn))
        mask = _shape(kind, x * cosine + y * sine, y * cosine - x * sine)
        image[mask] += opacity * (colour - image[mask])

    def frame(self, action: int | None, phase: float) -> NDArray[np.uint8]:
        """Picture (size, size, 3) of an action at `phase` 0 to 1, or of nothing going on."""
        image = self._room.copy()
        if action is not None:
            verb = self._taxonomy.verbs[self._taxonomy.action_verbs[action]]
            at = pose(verb, phase)
            hand = (self._x - at.x) ** 2 + (self._y - at.y - at.size) ** 2 < 0.03
            image[hand] = (224, 172, 138)
            self._draw(image, self._taxonomy.action_nouns[action], at)
            image += _light(verb, phase)
        shape = image.shape
        image += self._config.noise * self._rng.standard_normal(shape, dtype=np.float32)
        return np.clip(image, 0, 255).astype(np.uint8)


def render(
    timeline: KitchenVideo, taxonomy: Taxonomy, config: RenderConfig, path: Path, *, seed: int
) -> None:
    """Write a timeline as an MP4 file.

    Raises:
        MissingExtra: PyAV is not installed.
    """
    with needs("av", "demo"):
        import av
    rng = np.random.default_rng([seed, int(timeline.video.strip("K"))])
    scene = Scene(taxonomy, config, rng)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=config.fps)
        stream.width = stream.height = config.size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, config.fps)
        stream.bit_rate = 400_000
        for number in range(int(timeline.duration_s * config.fps)):
            seconds = number / config.fps
            now = int(np.searchsorted(timeline.start_s, seconds, side="right")) - 1
            action, phase = None, 0.0
            if now >= 0 and seconds < timeline.stop_s[now]:
                start, stop = timeline.start_s[now], timeline.stop_s[now]
                action = int(timeline.actions[now])
                phase = float((seconds - start) / (stop - start))
            frame = av.VideoFrame.from_ndarray(scene.frame(action, phase), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
