"""The tokens of a model's last layer as a grid: in the order of time, height and width.

Promise: every token that is of a place is there once, where it lies; those that are of none (CLS,
distillation, registers) are left out. Tokens are as the model gives them, with whatever norm it
ends in. A model whose tokens are no grid, or not one of the shape of its pixels, has none.
Letters: B rows, T frames, D width of a token.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

from torch import Tensor

from antcache.extract.families import Family


def token_grid(hidden: Tensor, pixels: Tensor, model: Any, family: Family) -> Tensor | None:
    """Tokens (B, time, height, width, D) out of a last layer, or None.

    Args:
        hidden: the last layer, (B, N, D) or a map (B, D, height, width).
        pixels: what it was made of, (B, T, 3, height, width).
        model: the model that made it.
        family: of that model.
    """
    if family.no_grid or len(hidden) != len(pixels):
        return None
    timm = getattr(model, "timm_model", None)  # which knows about its models what a family can't
    if hidden.ndim == 4:
        channels_last = getattr(timm, "output_fmt", "NCHW") == "NHWC"
        return (hidden if channels_last else hidden.permute(0, 2, 3, 1))[:, None]
    if hidden.ndim != 3:
        return None
    if family.order == "unrolled":
        rolled: Tensor = model.encoder.reroll(hidden, stage_idx=len(model.config.depths) - 1)
        return rolled[:, None]
    settings = getattr(model.config, "vision_config", model.config)
    registers = int(getattr(settings, "num_register_tokens", 0))
    lead = getattr(timm, "num_prefix_tokens", family.lead + registers)
    times = max(1, pixels.shape[1] // tubelet(settings))
    shape = _plane((hidden.shape[1] - lead) / times, *pixels.shape[-2:])
    if shape is None:
        return None
    tokens = hidden[:, lead:]
    if family.order == "space_first":
        return tokens.reshape(len(tokens), *shape, times, -1).permute(0, 3, 1, 2, 4)
    return tokens.reshape(len(tokens), times, *shape, -1)


def tubelet(settings: Any) -> int:
    """Frames that a token is made of."""
    frames = getattr(settings, "tubelet_size", 1)
    return int(frames if isinstance(frames, int) else frames[0])


def _plane(count: float, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of `count` tokens that cover pixels of this height and width evenly."""
    rows = isqrt(int(count) * height // width)
    columns = rows * width // height
    whole = rows > 0 and rows * columns == count and rows * width == columns * height
    return (rows, columns) if whole else None
