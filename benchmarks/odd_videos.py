"""Videos as users have them, and the rows that each must become, or why it becomes none.

Promise: see `odd_case.py`. A case is right if the store holds the videos that it should, each with
as many rows as it should and at its time, every row of the picture that was to be seen then; what
can't be read is refused in one line, by itself.
"""

from __future__ import annotations

import re
import tarfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from forked import Outcome
from odd_case import OddCase
from odd_films import EDGE, copy_model, numbers_of, picture, shown, steady, write
from odd_packed import pack

from antcache.store import Store

STORE = "s.zarr"
OPTIONS = ("--backbone", "vit", "--device", "cpu", "--fps", "4")
ONE = Path("videos/v")
"""Where the file of a case is, without its ending."""

FRAME = Fraction(1, 25)
Expected = Mapping[str, Sequence[int]]
"""Numbers of the pictures that the rows of a video are of, by its name."""


def _wrong_rows(folder: Path, expected: Expected, start_s: float) -> str:
    store = Store.open(folder / STORE)
    if store.videos("rgb") != sorted(expected):
        return f"videos {store.videos('rgb')}, not {sorted(expected)}"
    for name, numbers in expected.items():
        features = store.features("rgb", name)
        found = numbers_of(features.read())
        if found != list(numbers):
            return f"{name}: rows of {found}, not of {list(numbers)}"
        if features.times is not None or abs(features.start_s - start_s) > 0.05:
            return f"{name}: rows from {features.start_s} s on, not {start_s}"
    return ""


def _wrong_end(outcome: Outcome, code: int, says: Sequence[str]) -> str:
    """What is wrong with how a command ended, and with the lines that it printed on stderr."""
    if outcome.traceback or outcome.hung or outcome.code != code:
        return f"exit code {outcome.code}, not {code}: {outcome.stderr[-500:]}"
    lines = outcome.remarks
    if len(lines) != len(says):
        return f"{len(lines)} lines on stderr, not {len(says)}: {outcome.stderr}"
    wrong = [
        wanted for wanted, line in zip(says, lines, strict=True) if not re.search(wanted, line)
    ]
    return f"nothing says {wrong}: {outcome.stderr}" if wrong else ""


def case(
    name: str,
    make: Callable[[Path], object],
    expected: Expected | None = None,
    *,
    says: Sequence[str] = (),
    code: int | None = None,
    given: str = "videos",
    start_s: float = 0.0,
) -> OddCase:
    """A case of the videos that `make` writes into the folder `videos` of a folder.

    Args:
        name: of the case.
        make: gets the folder above.
        expected: the rows of each video; None where all is refused.
        says: what each line on stderr must say.
        code: exit code; None: 0, or 2 where all is refused.
        given: what is extracted.
        start_s: time of the first row of each video.
    """
    right = (2 if expected is None else 0) if code is None else code

    def prepare(folder: Path) -> list[list[str]]:
        copy_model(folder)
        (folder / "videos").mkdir()
        make(folder)
        return [["extract", *OPTIONS, given, STORE]]

    def wrong(folder: Path, outcomes: Sequence[Outcome]) -> str:
        ended = _wrong_end(outcomes[-1], right, says)
        if ended or expected is None:
            stored = (folder / STORE).exists() and Store.open(folder / STORE).streams()
            rows = stored and Store.open(folder / STORE).videos("rgb")
            return ended or (f"stored {rows}" if rows else "")
        return _wrong_rows(folder, expected, start_s)

    return OddCase(name=name, kind="video", make=prepare, wrong=wrong)


def film(name: str, ending: str, *, times: Sequence[Fraction] = (), **options: Any) -> OddCase:
    """A film of 2 s, or of `times`, whose rows are all there."""
    known = {key: options.pop(key) for key in ("start_s",) if key in options}
    times = times or steady()
    return case(
        name,
        lambda folder: write(folder / f"{ONE}{ending}", times, **options),
        {"v": shown(times)},
        **known,
    )


def refused(name: str, make: Callable[[Path], object], says: str, given: str) -> OddCase:
    """A file or folder of which nothing can be read."""
    return case(name, make, says=(says,), given=given)


def failing(name: str, make: Callable[[Path], object], says: str) -> OddCase:
    """A file that fails by itself; beside it lies a good one."""

    def both(folder: Path) -> None:
        write(folder / "videos/good.mp4", steady())
        make(folder)

    return case(name, both, {"good": shown(steady())}, says=(rf"^failed: .*{says}",), code=1)


def _raw(form: str, codec: str, ending: str) -> Callable[[Path], object]:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return lambda folder: write(
        folder / f"{ONE}{ending}", steady(), form=form, codec=codec, pix_fmt=pix_fmt, tick=FRAME
    )


def _frames(folder: Path) -> Path:
    """Pictures, one file each."""
    above = folder / "videos/P01_01"
    above.mkdir()
    for number in range(10):
        frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
        frame.to_image().save(above / f"frame_{number + 1:010d}.jpg")
    return above


def _tar(folder: Path) -> None:
    """A tar of pictures that is called like a film."""
    frames = _frames(folder)
    with tarfile.open(folder / f"{ONE}.mp4", "w") as tar:
        tar.add(frames, arcname=".")
    for path in frames.iterdir():
        path.unlink()


def _named(*names: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        for name in names:
            write(folder / f"videos/{name}.mp4", steady())

    return make


def _all(*names: str) -> Expected:
    return {name: shown(steady()) for name in names}


def _links(folder: Path) -> None:
    """A folder on another disk, a file there, and a link that leads round in a circle."""
    write(folder / "disk/P02/P02_01.mp4", steady())
    write(folder / "disk/P03_01.mp4", steady())
    write(folder / "videos/P01/P01_01.mp4", steady())
    (folder / "videos/P02").symlink_to("../disk/P02")
    (folder / "videos/P03_01.mp4").symlink_to("../disk/P03_01.mp4")
    (folder / "videos/P01/up").symlink_to("..")


def _among_others(folder: Path) -> None:
    """A film among hidden ones, notes and a low-resolution copy of a camera's."""
    write(folder / f"{ONE}.MP4", steady())
    write(folder / "videos/.trash/w.mp4", steady())
    for name in ("notes.txt", "v.LRV", "._v.mp4"):
        (folder / "videos" / name).write_bytes(b"x")


def _same_names(folder: Path) -> None:
    for place in ("a/v.mp4", "b/v.mov", "good.mp4"):
        write(folder / "videos" / place, steady())


def _cut(folder: Path) -> None:
    path = write(folder / "videos/cut.mkv", steady(100))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])


def _pause(folder: Path) -> None:
    times = [*steady(25), *steady(25, start=Fraction(6))]
    write(folder / "videos/pause.mkv", times)


def _damaged(folder: Path) -> None:
    """Packets in the middle hold nothing: what they show can't be known, until the next key."""
    path = write(folder / f"{ONE}.mp4", steady())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0)][30:32]
    data = bytearray(path.read_bytes())
    for begin, size in places:
        data[begin : begin + size] = bytes(size)
    path.write_bytes(data)


def _held() -> list[int]:
    """Rows of `_damaged`: frame 29 is the last intact one before the key frame 36."""
    return [29 if 29 < number < 36 else number for number in shown(steady())]


NTSC = Fraction(30000, 1001)
UNEVEN = [Fraction(int(t), 1000) for t in np.cumsum([0, *[20, 45, 33, 180, 61] * 9])]
NFD = unicodedata.normalize("NFD", "cr\u00eape")

CASES: tuple[OddCase, ...] = (
    film("AVI, H.264 with B-frames", ".avi", b_frames=2, tick=FRAME, start_s=0.04),
    film("AVI, MPEG-4 with B-frames", ".avi", codec="mpeg4", b_frames=2, tick=FRAME, start_s=0.04),
    case(
        "AVI, packed bitstream",
        lambda folder: pack(folder / f"{ONE}.avi", steady()),
        _all("v"),
        start_s=0.04,
    ),
    film("MKV, thumbnail before the film", ".mkv", thumbnails=1),
    film("MP4, thumbnail before the film", ".mp4", thumbnails=1),
    film("MP4, cover picture before the film", ".mp4", thumbnails=1, cover=True),
    film("pixels twice as wide as high", ".mp4", size=(EDGE, EDGE // 2), aspect=Fraction(2)),
    film("pixels twice as high as wide", ".mkv", size=(EDGE // 2, EDGE), aspect=Fraction(1, 2)),
    film("a telephone's, turned by 90 degrees", ".mp4", turned=90),
    film("no steady rate", ".mkv", times=UNEVEN),
    film("NTSC rate", ".mp4", times=steady(60, NTSC), tick=1 / NTSC),
    film(
        "sound first, pictures a second later", ".mp4", times=steady(start=1), sound_s=3, start_s=1
    ),
    film("AVCHD's .MTS", ".MTS", form="mpegts", start_s=0),
    film("MPEG-2 in .mpg", ".mpg", codec="mpeg2video", form="mpeg", tick=FRAME),
    film("Windows Media", ".wmv", codec="wmv2", form="asf"),
    film("Flash", ".flv", codec="flv"),
    film("an old telephone's .3gp", ".3gp", codec="mpeg4", tick=FRAME),
    film("H.264 of 10 bits", ".mkv", pix_fmt="yuv420p10le"),
    refused("raw MJPEG", _raw("mjpeg", "mjpeg", ".mp4"), r"v\.mp4: .*raw stream", f"{ONE}.mp4"),
    refused("a tar of frames, called .mp4", _tar, r"v\.mp4: not a video", f"{ONE}.mp4"),
    refused("a folder of frames", _frames, r"no videos here.*10 \.jpg.*--image-fps", "videos"),
    case(
        "ids of YouTube",
        _named("a0bCdEfGhIj", "-5KxAbCdEfG", "_Qz1AbCdEfG"),
        _all("a0bCdEfGhIj", "-5KxAbCdEfG", "_Qz1AbCdEfG"),
    ),
    case(
        "blanks, brackets and accents",
        _named("Fire Kitchen (1)", "Pasta [dQw4w9WgXcQ]", NFD, "\u53a8\u623f01"),
        _all("Fire Kitchen (1)", "Pasta [dQw4w9WgXcQ]", "cr\u00eape", "\u53a8\u623f01"),
    ),
    case("linked folders", _links, _all("P01_01", "P02_01", "P03_01"), says=(r"^note: .* 1 link",)),
    case(
        "a film among other files",
        _among_others,
        _all("v"),
        says=(r"^note: videos: passed over 2 hidden, 1 \.lrv, 1 \.txt$",),
    ),
    failing("a name that is none", _named("bad\nname?"), r"not a name for a video.*rename"),
    case(
        "two films of one name",
        _same_names,
        _all("good"),
        says=(r"^failed: .*two videos are called 'v'.*rename one",) * 2,
        code=1,
    ),
    failing("a film that is cut off", _cut, r"cut\.mkv: it breaks off"),
    failing("a film with a long pause", _pause, r"pause\.mkv: no intact frame.*--max-gap"),
    case("damage in the middle", _damaged, {"v": _held()}),
)
