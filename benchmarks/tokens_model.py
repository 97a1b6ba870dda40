"""V-JEPA 2 and its probe for `tokens.py`: an encoder with random weights, clips, and trainers.

No weights are at hand; neither time nor bytes depend on them. Letters: N clips, K tokens of a clip
that are kept, D width of a token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.extract.backbone import Backbone, load_backbone
from antcache.hub import quiet
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.heads.head import ModelShape
from antcache.student.presets import find_preset
from antcache.student.training.loop import Trainer
from antcache.windows.dataset import WindowFeatures, Windows
from antcache.windows.labels import WindowLabels
from antcache.windows.reading.stream_rows import StreamRows

ACTIONS, VERBS, NOUNS = 3_806, 97, 300
"""Classes of EPIC-KITCHENS-100."""

SEGMENTS, TRAINING = 76_885, 67_217
"""Its segments with labels, and those of them that are trained on."""

COLOURS = 8
"""Of made-up clips."""

PATCH, TUBELET = 16, 2
"""What a token is made of: pixels a side, and frames."""

Grid = tuple[int, int, int]
Batches = Callable[[Tensor], Iterator[tuple[Tensor, Tensor]]]
"""Positions and features of windows in some order, batch by batch."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """An encoder, its clips, and what is kept of their tokens.

    Attributes:
        width: D.
        layers: of the encoder.
        heads: of its attention.
        frames: of a clip.
        pixels: side of a frame.
        kept: tokens that are kept in time, height and width: means over cells of its grid.
        predictor: width, layers and heads of the predictor.
    """

    width: int
    layers: int
    heads: int
    frames: int
    pixels: int
    kept: Grid
    predictor: tuple[int, int, int]

    @property
    def grid(self) -> Grid:
        """Tokens of a clip in time, height and width."""
        return self.frames // TUBELET, self.pixels // PATCH, self.pixels // PATCH


VIT_L = Size(
    width=1024,
    layers=24,
    heads=16,
    frames=32,
    pixels=256,
    kept=(16, 4, 4),
    predictor=(384, 12, 12),
)
"""ViT-L at 256 pixels, as V-JEPA 2 has it, and 4 x 4 tokens of each tubelet."""

EIGHTH = Size(
    width=128, layers=24, heads=4, frames=16, pixels=128, kept=(8, 2, 2), predictor=(48, 2, 2)
)
"""The same with an eighth of its width and of its tokens: attention is the same share of the work,
and one of 16 tokens is kept."""


def make_backbone(size: Size, folder: Path, device: str) -> Backbone:
    """The encoder with random weights, saved and loaded as any other."""
    import transformers

    width, layers, heads = size.predictor
    config = transformers.VJEPA2Config(
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        crop_size=size.pixels,
        frames_per_clip=size.frames,
        patch_size=PATCH,
        tubelet_size=TUBELET,
        pred_hidden_size=width,
        pred_num_hidden_layers=layers,
        pred_num_attention_heads=heads,
    )
    with torch.random.fork_rng(devices=[]), quiet(transformers):
        torch.manual_seed(0)
        transformers.VJEPA2Model(config).save_pretrained(folder)
    processor = {
        "video_processor_type": "VJEPA2VideoProcessor",
        "size": {"shortest_edge": size.pixels * 292 // 256},
        "crop_size": {"height": size.pixels, "width": size.pixels},
    }
    (folder / "video_preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    backbone = load_backbone(folder, device=device)
    assert isinstance(backbone, Backbone)
    assert backbone.grid == size.grid
    return backbone


def random_labels(count: int, frames: int = 1) -> WindowLabels:
    """Labels of N windows of clips that nobody has seen."""
    rng = np.random.default_rng(1)
    return WindowLabels(
        uid=np.arange(count).astype(str),
        video=np.full(count, "clips"),
        padded=np.zeros((count, frames), dtype=bool),
        action=rng.integers(0, ACTIONS, count),
        verb=rng.integers(0, VERBS, count),
        noun=rng.integers(0, NOUNS, count),
        frame_action=np.full((count, frames), -100),
    )


def write_clips(
    path: Path, tokens: NDArray[Any], grid: Grid, dtype: str, scale: NDArray[Any] | None = None
) -> Store:
    """A store with the tokens of N clips (N, K, D) of one video, a row each."""
    store = Store.create(path)
    store.create_stream(
        "clips",
        dim=tokens.shape[-1],
        dtype=dtype,
        fps=8,
        source="random",
        config={},
        grid=grid,
        at={"anchors": [0.0], "gaps": [1.0]},
    )
    times = np.arange(len(tokens), dtype=np.float64)
    store.write_features("clips", "clips", tokens, scale=scale, times=times)
    return store


def windows_of(store: Store) -> StreamRows:
    """A window of each clip."""
    features = store.features("clips", "clips")
    return StreamRows(
        features={"clips": features},
        video=np.full(features.num_rows, "clips"),
        rows=np.arange(features.num_rows)[:, None],
    )


def make_trainer(features: WindowFeatures, **settings: Any) -> Trainer:
    """The published probe on the features of N clips, with labels that mean nothing."""
    config = find_preset("ek100-vjepa2-l").replace(device=str(features.device), **settings)
    return Trainer(config, Windows(random_labels(features.shape[0]), features), shape_of(features))


def shape_of(features: WindowFeatures) -> ModelShape:
    """What a probe of these has to fit."""
    _, frames, tokens, width = features.shape
    return ModelShape(
        dims=(width,),
        tokens=tokens,
        num_classes=ACTIONS,
        num_frames=frames,
        num_verbs=VERBS,
        num_nouns=NOUNS,
    )


def steps(trainer: Trainer, batches: Batches | None = None) -> Iterator[None]:
    """Trains a batch with each `next`, as `Trainer.train_epoch` does; full batches only.

    Args:
        trainer: of the probe.
        batches: where features come from; None: from the trainer's windows.
    """
    size, step = batch_size(trainer), 0
    batches = batches or partial(trainer.windows.batches, size=size)
    trainer.model.train()
    while True:
        for rows, features in batches(trainer.order()):
            if len(rows) == size:
                trainer.set_rate(step)
                trainer._step(rows, features, step)
                step += 1
                yield


def batch_size(trainer: Trainer) -> int:
    """Windows of a step."""
    config: StudentConfig = trainer.config
    return config.optimization.batch_size


def made_up_clips(count: int, size: Size) -> tuple[Tensor, NDArray[np.int64]]:
    """Pixels (N, T, 3, height, width) of clips, and the colours (N,) of what is in them: squares of
    one of `COLOURS` colours that move over noise."""
    rng = np.random.default_rng(2)
    side = size.pixels
    shape = (count, size.frames, 3, side, side)
    pixels = 0.3 * rng.standard_normal(shape, dtype=np.float32)
    start, move = rng.integers(0, side // 2, (count, 2)), rng.integers(-2, 3, (count, 2))
    colour = rng.integers(0, COLOURS, count)
    bright = 4 * ((colour[:, None] >> np.arange(3)) & 1) - 2.0  # red, green, blue: on or off
    for clip, frame in np.ndindex(shape[:2]):
        y, x = (start[clip] + frame * move[clip]).clip(0, 3 * side // 4)
        square = pixels[clip, frame, :, y : y + side // 4, x : x + side // 4]
        square += bright[clip, :, None, None]
    return torch.from_numpy(pixels), colour


def colour_trainer(features: WindowFeatures, colour: NDArray[np.int64], **settings: Any) -> Trainer:
    """The published probe with one query, which learns the colours (N,) of N clips, by
    cross-entropy: of a few clips the focal loss learns little but how rare each class is."""
    config = find_preset("ek100-vjepa2-l").replace(
        device=str(features.device), verb_noun_weight=0.0, loss="cross-entropy", **settings
    )
    labels = replace(random_labels(features.shape[0]), action=colour)
    shape = replace(shape_of(features), num_classes=COLOURS, num_verbs=0, num_nouns=0)
    return Trainer(config, Windows(labels, features), shape)
