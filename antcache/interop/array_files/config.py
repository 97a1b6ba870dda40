"""What has to be said of arrays before they can be rows of a stream: their width, and their times.

Promise: nothing is guessed. Frame f (from 0) of a video at V frames per second is shown from f / V
on, and is seen when it is over, at (f + 1) / V: frame n of LMDBs, counted from 1, at n / V. Row r
has seen the W frames from r * stride - padding on. Its time is the end of the last of them,
(r * stride - padding + W) / V, after which it has seen nothing, or their middle,
(r * stride - padding + W / 2) / V, after which it has seen W / (2 V) seconds more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from antcache.checks import Amount, Count, Range, Weight, check_types
from antcache.errors import BadConfig
from antcache.interop.array_files.forms import AHEAD
from antcache.store.format import check_name

Rate = Annotated[float, Range(0, 1000, above=True)]
Layout = Literal["rows-first", "dim-first"]
RowTime = Literal["end", "middle", "listed"]

WINDOWS = ("video_fps", "stride", "window")
"""Settings that say together which frames a row has seen."""


@dataclass(frozen=True, kw_only=True)
class ArraysImportConfig:
    """Settings of an import.

    Attributes:
        dim: width D of a row.
        stream: name of the stream in the store.
        fps: rows per second, each of which has seen one period, 1 / fps.
        video_fps: frames per second of the videos that windows are counted in.
        stride: frames from one row's window to the next one's.
        window: frames that a row has seen.
        padding: frames of the first window that lie before the video.
        time: which moment of its window is a row's time; `listed`: each file says it, as `times`.
        sees_ahead_s: how long after its listed time a row has seen, in seconds.
        layout: how files lie, `rows-first` (rows, D) or `dim-first` (D, rows); None: as D tells.
        key: name of the array in files that have several; None: `features`, or the only one.
        dtype: how rows are stored, float16 or float32.
    """

    dim: Count
    stream: str = "rgb"
    fps: Rate | None = None
    video_fps: Rate | None = None
    stride: Count | None = None
    window: Count | None = None
    padding: Amount = 0
    time: RowTime = "end"
    sees_ahead_s: Weight | None = None
    layout: Layout | None = None
    key: str | None = None
    dtype: Literal["float16", "float32"] = "float32"

    def __post_init__(self) -> None:
        check_name(self.stream, "stream")
        check_types(self)
        given = [name for name in WINDOWS if getattr(self, name) is not None]
        if self.time == "listed":
            if self.fps is None or self.sees_ahead_s is None or given or self.padding:
                raise BadConfig(
                    "listed times need two settings, and these alone",
                    expected="fps and sees_ahead",
                    hint="`fps` is about how many rows there are per second, `sees_ahead` how many "
                    "seconds after its time a row has seen: 0 for none",
                )
        elif self.sees_ahead_s is not None:
            raise BadConfig(
                "`sees_ahead` is for listed times", hint="windows say how far their rows see"
            )
        elif (self.fps is None) == (not given) or given not in ([], [*WINDOWS]):
            raise BadConfig(
                "which rows are seen when",
                expected="fps, or all of video_fps, stride and window",
                found=", ".join([*(["fps"] if self.fps is not None else []), *given]) or "none",
            )
        elif self.padding >= (self.window or 1):
            raise BadConfig("impossible padding", expected="less than a window", found=self.padding)

    @property
    def rows_per_second(self) -> float:
        """Rate of the stream; nominal where times are listed."""
        return self._frames[0] / self._frames[1]

    @property
    def start_s(self) -> float:
        """Time of row 0, unless times are listed."""
        fps, _, window, padding = self._frames
        return ((window if self.time == "end" else window / 2) - padding) / fps

    @property
    def ahead_s(self) -> float:
        """How long after its own time a row has seen, in seconds."""
        if self.sees_ahead_s is not None:
            return float(self.sees_ahead_s)
        fps, _, window, _ = self._frames
        return window / 2 / fps if self.time == "middle" else 0.0

    @property
    def _frames(self) -> tuple[float, int, int, int]:
        """Frames per second, stride, window and padding; a row of its own period is one frame."""
        if self.fps is not None:
            return float(self.fps), 1, 1, 0
        assert self.video_fps is not None
        assert self.stride is not None
        assert self.window is not None
        return float(self.video_fps), self.stride, self.window, self.padding

    def settings(self, source: str) -> dict[str, Any]:
        """What determines the rows of files in the folder called `source`, JSON-ready."""
        windows = {name: getattr(self, name) for name in (*WINDOWS, "padding")}
        windows["video_fps"] = self._frames[0]
        return {
            "importer": "arrays",
            "source": source,
            "key": self.key,
            "time": self.time,
            **(windows if self.window is not None else {}),
            AHEAD: self.ahead_s,
        }

    @property
    def described(self) -> str:
        """When rows were seen, in words."""
        if self.window is None:
            rows = f"{self.fps:g} rows per second"
        else:
            rows = f"windows of {self.window} frames every {self.stride} at {self.video_fps:g} fps"
        ahead = f", {self.ahead_s:.4g} s of what follows seen" if self.ahead_s else ""
        return f"{rows}, {self.time} times{ahead}"
