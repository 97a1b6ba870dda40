"""What the `config.json` of a timm model says: how pictures are prepared, and what is made.

Promise: the settings are those that timm itself would take for evaluation, in the words of image
processors. timm makes whatever its settings name, from files and hubs too; so nothing passes but
the name of an architecture and plain numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import floor
from pathlib import Path
from typing import Any

from antcache.errors import UnknownBackbone, needs
from antcache.hub import first_line

ARCHITECTURE = re.compile(r"\w+(\.\w+)?")
"""A name of timm's own list; `hf-hub:` and `local-dir:` would fetch and read others."""
WORDS = {"global_pool"}
"""Arguments of models that are words; others name functions, files or weights."""
RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}


def timm_processor(settings: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Settings of an image processor, from a `config.json` with `model_type` `timm_wrapper`.

    Raises:
        MissingExtra: timm, or torchvision, which it needs, is not installed.
        UnknownBackbone: a setting can't be followed, or would make timm read other files; or
            torchvision does not fit PyTorch.
    """
    try:
        with needs("timm", "timm"):
            import timm  # noqa: F401
    except RuntimeError as error:  # of torchvision, whose operators PyTorch then lacks
        raise UnknownBackbone(
            "timm can't be imported",
            where=where,
            found=first_line(error),
            hint="install the torchvision that was built for this PyTorch",
        ) from error
    architecture = settings.get("architecture")
    if not isinstance(architecture, str) or not ARCHITECTURE.fullmatch(architecture):
        raise UnknownBackbone(
            "no architecture of timm's own list",
            where=where,
            expected="a name such as vit_pe_core_base_patch16_224",
            found=architecture,
        )
    arguments = settings.get("model_args") or {}
    for name, value in arguments.items() if isinstance(arguments, Mapping) else [("", arguments)]:
        if not _plain(value) and not (name in WORDS and isinstance(value, str)):
            raise UnknownBackbone(
                f"the argument {name!r} of the model is no number",
                where=where,
                found=value,
                hint="numbers in model_args are followed, and global_pool",
            )
    try:
        return _processor({**settings, **(settings.get("pretrained_cfg") or {})})
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise UnknownBackbone(
            "settings of timm that can't be followed", where=where, found=str(error)
        ) from error


def _processor(known: Mapping[str, Any]) -> dict[str, Any]:
    channels, height, width = known.get("input_size") or (3, 224, 224)
    part = known.get("crop_pct") or 0.875
    mode = known.get("crop_mode") or "center"
    filter_name = known.get("interpolation") or "bicubic"
    larger = [floor(edge / part) for edge in (height, width)]
    if channels != 3:
        raise ValueError(f"input_size {known['input_size']}, not of three channels")
    if mode not in ("center", "squash"):
        raise ValueError(f"crop_mode {mode}, not center or squash")
    if mode == "center" and height != width:
        raise ValueError(f"input_size {known['input_size']} cut out of the centre, not square")
    return {
        "image_processor_type": "TimmWrapperImageProcessor",
        "size": larger if mode == "squash" else {"shortest_edge": larger[0]},
        "crop_size": [height, width],
        "resample": RESAMPLE.get(filter_name, filter_name),
        "image_mean": known.get("mean"),
        "image_std": known.get("std"),
    }


def _plain(value: Any) -> bool:
    """Whether it is a number, true, false or nothing, or a list of them."""
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or isinstance(value, int | float)
