"""How much less is decoded where a few pictures a second are needed?

    python benchmarks/decoding.py [--record] [--repeats N] [--seconds N] [--height N]

Films of 1080p60, made from a real clip (or from noise that wanders, where there are no clips):
  - x264 as it comes: three B-frames, some of them predicted from, a key frame at least every 250;
  - h264 as action cameras write it: no B-frames, a key frame every half second;
  - x265 as it comes: four B-frames, open groups of pictures.
Of each, 4 pictures a second and 1 in 5 seconds are taken, as `antcache extract` takes them: once
decoding all frames (as before frames were left out), once only those that are needed. The pictures
are compared. CPU time of all threads, both in turn, over and over; a ratio is the median of those
within one turn. Beside them: what FFmpeg's own choice of threads costs over one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from record import DATA, Figure, finish

from antcache.extract.videos.decode import VideoSampler
from antcache.extract.videos.film_frames import FilmFile
from antcache.extract.videos.source import Frames, VideoSource

FPS = 60
FORMS = {
    "x264": ("libx264", {"preset": "veryfast"}),
    "h264 without B-frames": (
        "libx264",
        {"preset": "veryfast", "x264-params": f"bframes=0:scenecut=0:keyint={FPS // 2}"},
    ),
    "x265": ("libx265", {"preset": "superfast", "x265-params": "log-level=-1:bframes=4"}),
}
RATES = {"4 a second": (Fraction(4), 1.05), "1 in 5 s": (Fraction(1, 5), 1.3)}
"""Pictures per second, and how many times the CPU time decoding all takes, at least."""


@dataclass(frozen=True)
class AllFrames:
    """Frames of which none is left out."""

    inner: Any

    @property
    def facts(self) -> Any:
        """As the file's."""
        return self.inner.facts

    def __iter__(self) -> Generator[tuple[Fraction, Any], None, None]:
        yield from self.inner

    def picture(self, frame: Any) -> NDArray[np.uint8]:
        """As the file's."""
        return self.inner.picture(frame)


@dataclass(frozen=True)
class DecodedWhole:
    """A file that is decoded whole."""

    file: FilmFile

    @property
    def path(self) -> Path:
        """As the file's."""
        return self.file.path

    def frames(self, **options: Any) -> Frames:
        """All of them."""
        return AllFrames(self.file.frames(**options))

    def duration_s(self) -> float | None:
        """As the file's."""
        return self.file.duration_s()


def pictures(height: int, width: int) -> Iterator[av.VideoFrame]:
    """Of a real clip, forth and back, without end."""
    clip = DATA / "clips" / "video_features_v_ZNVhz7ctTq0.mp4"
    if not clip.is_file():
        rng = np.random.default_rng(0)
        base = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        base = base.repeat(8, 0).repeat(8, 1)
        for number in range(10**9):
            moved = np.ascontiguousarray(np.roll(base, (number, 2 * number), (0, 1)))
            yield av.VideoFrame.from_ndarray(moved, format="rgb24")
    with av.open(str(clip)) as container:
        small = [frame.reformat(format="yuv420p") for frame in container.decode(video=0)]
    for frame in cycle([*small, *small[-2:0:-1]]):
        yield frame.reformat(width=width, height=height)


def write(path: Path, form: str, seconds: float, height: int) -> Path:
    """A film in one of the forms."""
    codec, options = FORMS[form]
    width = height * 16 // 9
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(islice(pictures(height, width), round(seconds * FPS))):
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def taken(source: VideoSource, rate: Fraction) -> tuple[float, list[int], VideoSampler]:
    """CPU seconds that the pictures took, a hash of each, and what read them."""
    began = time.process_time()
    sampler = VideoSampler(source, rate=rate)
    hashes = [hash(picture.tobytes()) for _, picture in sampler]
    return time.process_time() - began, hashes, sampler


def side_by_side(path: Path, rate: Fraction, repeats: int) -> tuple[NDArray[np.float64], float]:
    """CPU seconds (N, 3) of all, of what is needed, and of that by one thread; and the share of
    frames that are not decoded."""
    file = FilmFile(path)
    sources: tuple[VideoSource, ...] = (DecodedWhole(file), file, FilmFile(path, threads=1))
    seconds = []
    for turn in range(repeats + 1):
        found = [taken(source, rate) for source in sources]
        assert all(hashes == found[0][1] for _, hashes, _ in found)
        if turn:  # the first warms up
            seconds.append([took for took, _, _ in found])
    facts = found[1][2].facts
    return np.array(seconds), facts.unneeded_frames / facts.num_frames


def measure(path: Path, form: str, repeats: int) -> Iterator[Figure]:
    """The figures of one film."""

    def median(name: str, values: NDArray[np.float64], bound: float | None = None) -> Figure:
        return Figure(
            figure=f"{form}, {name}",
            value=round(float(np.median(values)), 3),
            unit="x",
            at_least=bound,
            spread=round(float(values.std(ddof=1)), 3),
            n=repeats,
        )

    for name, (rate, bound) in RATES.items():
        seconds, share = side_by_side(path, rate, repeats)
        yield Figure(
            figure=f"{form}, {name}: frames not decoded",
            value=round(100 * share, 1),
            unit="percent",
        )
        yield median(f"{name}: CPU time of all over needed", seconds[:, 0] / seconds[:, 1], bound)
        yield median(f"{name}: CPU time of all threads over one", seconds[:, 1] / seconds[:, 2])


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--repeats", type=int, default=5, help="turns, at least 2")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each film")
    parser.add_argument("--height", type=int, default=1080, help="of its pictures")
    arguments = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMS:
            path = write(Path(folder) / "film.mp4", form, arguments.seconds, arguments.height)
            figures += measure(path, form, arguments.repeats)
    for figure in figures:
        print(f"{figure.figure:60}{figure.value:10,.2f} {figure.unit}")
    finish("decoding", figures, record=arguments.record)


if __name__ == "__main__":
    main()
