"""Videos written by the tests themselves, and small backbones with random weights.

Every frame carries its number as a pattern of black and white bars, so that a test can tell which
frame a picture shows whatever the codec did to it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # family_models

BITS = 10


def barcode(number: int, height: int, width: int) -> np.ndarray:
    """Picture (height, width, 3) uint8 whose bars spell `number` in binary."""
    bits = (number >> np.arange(BITS)) & 1
    columns = bits[np.arange(width) * BITS // width]
    return np.broadcast_to((columns * 255)[None, :, None], (height, width, 3)).astype(np.uint8)


def number_on(picture: np.ndarray) -> int:
    """The number that the bars of a picture spell."""
    width = picture.shape[1]
    middles = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    bits = picture[:, middles].mean(axis=(0, 2)) > 127
    return int((bits << np.arange(BITS)).sum())


def write_video(
    path: Path,
    times: Sequence[Fraction | float | int],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (48, 80),
    time_base: Fraction = Fraction(1, 1000),
    rotation: float | None = None,
    key_every: int = 12,
    b_frames: int = 0,
    picture: Callable[[int, int, int], np.ndarray] = barcode,
    sound_s: float = 0.0,
    muxer: dict[str, str] | None = None,
    title: str = "",
    options: dict[str, str] | None = None,
) -> Path:
    """Write frame i at `times[i]` seconds (multiples of `time_base`)."""
    height, width = size
    with av.open(str(path), "w", options=muxer or {}) as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = stream.time_base = time_base
        stream.codec_context.gop_size = key_every
        stream.codec_context.max_b_frames = b_frames
        if options is not None:
            stream.options = options
        elif codec == "libx264":  # key frames at multiples of `key_every` only
            stream.options = {"x264-params": "scenecut=0"}
        if rotation is not None:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=8000, layout="mono") if sound_s else None
        if sound is not None:
            for start in range(0, int(sound_s * 8000), 1024):
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                silence.sample_rate, silence.pts = 8000, start
                silence.time_base = Fraction(1, 8000)
                container.mux(sound.encode(silence))
            container.mux(sound.encode())
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, height, width), format="rgb24")
            stamp = Fraction(time) / time_base
            assert stamp.denominator == 1
            frame.pts, frame.time_base = int(stamp), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steady(number: int, fps: int = 25) -> list[Fraction]:
    """Times of `number` frames at a constant rate."""
    return [Fraction(i, fps) for i in range(number)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def video() -> Any:
    """The helpers of this file: `write`, `steady`, `number_on`, `barcode`."""

    class Helpers:
        write = staticmethod(write_video)
        steady = staticmethod(steady)
        number_on = staticmethod(number_on)
        barcode = staticmethod(barcode)

    return Helpers


PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "size": {"height": 32, "width": 32},
}


def save_model(folder: Path, model: Any, processor: dict[str, Any] | None = None) -> Path:
    """Save a model with its image processor's settings."""
    model.save_pretrained(folder)
    text = json.dumps(PROCESSOR if processor is None else processor)
    (folder / "preprocessor_config.json").write_text(text)
    return folder


@pytest.fixture(scope="session")
def models() -> Any:
    """The helpers of this file: `save` and `processor`."""

    class Helpers:
        save = staticmethod(save_model)
        processor = PROCESSOR

    return Helpers


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
}


@pytest.fixture(scope="session")
def small() -> dict[str, int]:
    """Settings of a small transformer."""
    return SMALL


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small ViT that sees single frames."""
    from transformers import ViTConfig, ViTModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ViTModel(ViTConfig(**SMALL, patch_size=8))
    return save_model(tmp_path_factory.mktemp("models") / "vit", model)


@pytest.fixture(scope="session")
def videomae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small VideoMAE that sees clips of 4 frames."""
    from transformers import VideoMAEConfig, VideoMAEModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VideoMAEModel(VideoMAEConfig(**SMALL, patch_size=8, num_frames=4))
    return save_model(tmp_path_factory.mktemp("models") / "videomae", model)
