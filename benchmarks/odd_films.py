"""Films whose pictures say their own number, and what a small vision model sees in them.

Promise: a film is written frame by frame at the times that are given; `numbers_of` tells from rows
of features which pictures they are of, and refuses to guess. Pictures are cropped to squares before
they are seen, so that one of the wrong shape is like none.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from antcache.extract import load_backbone
from antcache.hub import quiet

EDGE, BITS, FPS = 112, 7, 4
PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "resample": 2,
}
CLEAR = 0.5
"""How much nearer than to the next one rows must be to a picture to be of it."""


def picture(number: int, height: int = EDGE, width: int = EDGE) -> NDArray[np.uint8]:
    """Bars that spell `number`, below a grey band: (height, width, 3)."""
    bits = (number >> np.arange(BITS)) & 1
    bars = np.broadcast_to(bits[np.arange(width) * BITS // width] * 255, (height, width)).copy()
    bars[: height // 4] = 128
    return np.repeat(bars[..., None], 3, axis=2).astype(np.uint8)


def steady(frames: int = 50, fps: Fraction | int = 25, start: Fraction | int = 0) -> list[Fraction]:
    """Times of frames at one rate."""
    return [start + Fraction(number) / fps for number in range(frames)]


def shown(times: Sequence[Fraction]) -> list[int]:
    """Numbers of the frames that are to be seen, `FPS` times a second from the first one on."""
    ticks = range(int((times[-1] - times[0]) * FPS) + 1)
    return [sum(time <= times[0] + Fraction(tick, FPS) for time in times) - 1 for tick in ticks]


def write(
    path: Path,
    times: Sequence[Fraction],
    *,
    codec: str = "libx264",
    form: str | None = None,
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (EDGE, EDGE),
    tick: Fraction = Fraction(1, 1000),
    b_frames: int = 0,
    aspect: Fraction | None = None,
    turned: int = 0,
    thumbnails: int = 0,
    cover: bool = False,
    sound_s: int = 0,
) -> Path:
    """A film of pictures 0, 1, ... at `times`.

    Args:
        path: of the file.
        times: of the frames, multiples of `tick`.
        codec: of the pictures.
        form: container; None: as the file's ending says.
        pix_fmt: of the pictures.
        size: height and width of the coded pictures.
        tick: of the clock.
        b_frames: how many are predicted from what comes later.
        aspect: width of pixels over their height.
        turned: degrees by which players turn the picture counterclockwise.
        thumbnails: streams of one picture before the film.
        cover: those are marked as cover pictures.
        sound_s: seconds of silence from 0 on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=form) as container:
        small = [container.add_stream("mjpeg", rate=25) for _ in range(thumbnails)]
        for stream in small:
            stream.width, stream.height, stream.pix_fmt = EDGE, EDGE, "yuvj420p"
            if cover:
                stream.disposition = av.stream.Disposition.attached_pic
        film: Any = container.add_stream(
            codec, rate=round(1 / tick) if tick > Fraction(1, 99) else 25
        )
        film.height, film.width, film.pix_fmt = size[0], size[1], pix_fmt
        film.codec_context.time_base = film.time_base = tick
        film.codec_context.max_b_frames, film.codec_context.gop_size = b_frames, 12
        film.codec_context.bit_rate = 2_000_000
        if aspect is not None:
            film.codec_context.sample_aspect_ratio = aspect
        if turned:
            film.set_display_rotation(turned)
        sound: Any = container.add_stream("aac", rate=8000, layout="mono") if sound_s else None
        for stream in small:
            container.mux(stream.encode(_frame(picture(85))))
            container.mux(stream.encode())
        if sound:
            for start in range(0, sound_s * 8000, 1024):
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                silence.sample_rate, silence.pts = 8000, start
                silence.time_base = Fraction(1, 8000)
                container.mux(sound.encode(silence))
            container.mux(sound.encode())
        for number, time in enumerate(times):
            upright = picture(number, *(size if turned % 180 == 0 else size[::-1]))
            frame = _frame(np.ascontiguousarray(np.rot90(upright, -turned // 90)))
            stamp = Fraction(time) / tick
            assert stamp.denominator == 1
            frame.pts, frame.time_base = int(stamp), tick
            container.mux(film.encode(frame))
        container.mux(film.encode())
    return path


def _frame(pixels: NDArray[np.uint8]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


@functools.cache
def _model() -> tempfile.TemporaryDirectory[str]:
    """A small vision model, as long as this process lives."""
    import transformers

    folder = tempfile.TemporaryDirectory(prefix="odd-films-")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "image_size": 32, "patch_size": 8}
    with quiet(transformers), torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ViTModel(transformers.ViTConfig(**sizes)).save_pretrained(folder.name)
    (Path(folder.name) / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def copy_model(folder: Path) -> None:
    """The vision model as `vit` in a folder."""
    shutil.copytree(_model().name, folder / "vit")


@functools.cache
def _seen() -> NDArray[np.float32]:
    """Features (N, D) of every picture."""
    torch.set_num_threads(1)  # threads of OpenMP do not outlive a fork
    backbone = load_backbone(_model().name, device="cpu")
    pictures = torch.from_numpy(np.stack([picture(number) for number in range(1 << BITS)]))
    features = backbone(backbone.preprocessing(pictures)[:, None])
    return np.asarray(features.float().numpy())


def numbers_of(rows: NDArray[Any]) -> list[int]:
    """Numbers of the pictures that rows (R, D) are of; -1 for one that is like none."""
    apart = np.linalg.norm(rows.astype(np.float32)[:, None] - _seen(), axis=2)
    first, second = np.sort(apart, axis=1)[:, :2].T
    return np.where(first < CLEAR * second, apart.argmin(axis=1), -1).tolist()
