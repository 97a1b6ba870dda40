"""Pictures as a backbone wants them: what its `preprocessor_config.json` says, in torch.

Promise: resizing, cropping, rescaling and normalising run on the device where the pictures are,
need no torchvision, and equal the image processors of `transformers` (PIL, or torchvision where a
class has no other form) within 1 of 255 levels, 0.01 on average (0.02 where they are enlarged, and
of torchvision); CPUs make them smaller as bytes, GPUs in float32, which single values show as the
next level. Pictures are resized along their width first, as in Pillow up to 12 (from 13 on,
Pillow begins with the height where that shrinks more, which can move single pixels at hard edges by
20 levels). A setting that is not understood is an error, never ignored; so is a missing file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate, repeat
from math import ceil
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from antcache.errors import UnknownBackbone
from antcache.extract.processors import (
    OF_CLASS,
    PROCESSORS,
    RESAMPLE,
    UNDERSTOOD,
    WITHOUT_EFFECT,
)

CONVENTION = 3
"""Version of the rules in this file; part of every fingerprint that settings of it are part of.

2 resized everything in float32; as bytes, single values are the next level. 1 rounded values
halfway between two levels to the even one, of which there are many where pictures are enlarged or
made smaller by whole factors.
"""

LONGEST_EDGE = 4096
"""Pixels of an edge: vision models see up to 1,500; a picture of any size can be stated."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From pictures (B, H, W, 3) uint8 to pixels (B, 3, *out*) float32.

    Attributes:
        shortest_edge: length to which the shorter edge is resized, or
        size: (height, width) to which pictures are resized; neither where `most_patches` is given.
        resample: nearest, or bilinear or bicubic, antialiased as PIL does it.
        crop: (height, width) cut out of the middle, or None.
        scale: factor on the 0..255 values.
        offset: added after scaling.
        mean: per channel, subtracted then.
        std: per channel, divided by at last.
        most_patches: in how many squares of `patch` pixels a picture of any shape is cut at most.
        patch: edge of such a square.
        whole_levels: whether resized values are rounded to whole levels.
        nearest_middle: whether an odd rest is halved to the even number, as torchvision crops;
            the larger part is right and below otherwise.
    """

    shortest_edge: int | None
    size: tuple[int, int] | None
    resample: str
    crop: tuple[int, int] | None
    scale: float
    offset: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    most_patches: int | None = None
    patch: int | None = None
    whole_levels: bool = True
    nearest_middle: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings and the version of the rules, for the fingerprint."""
        return {"convention": CONVENTION, **asdict(self)}

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the pixels; those of a square picture, where they differ."""
        return self.crop or self.size or self.resized(LONGEST_EDGE, LONGEST_EDGE)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pixels (B, 3, *out*) float32 of pictures (B, H, W, 3) uint8, on the same device."""
        return self.normalised(self.levels(pictures))

    def levels(self, pictures: Tensor) -> Tensor:
        """Pictures (B, H, W, 3) uint8 resized and cropped, (B, 3, *out*).

        Where they are whole levels they are uint8, so that a quarter of the bytes crosses to
        whoever has the backbone; else float32.
        """
        whole = self.whole_levels or self.resample == "nearest"
        pixels = pictures.permute(0, 3, 1, 2)
        pixels = self._resize(pixels if whole and self._as_bytes(pixels) else pixels.float())
        if self.crop is not None:
            height, width = self.crop
            top, left = map(self._half, (pixels.shape[2] - height, pixels.shape[3] - width))
            pixels = pixels[..., top : top + height, left : left + width]
        return (pixels.byte() if whole else pixels).contiguous()

    def normalised(self, levels: Tensor) -> Tensor:
        """Pixels (..., 3, *out*) float32 of levels, on the same device."""
        pixels = levels.float()
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return (pixels * self.scale + self.offset - mean) / std

    def _half(self, rest: int) -> int:
        return round(rest / 2) if self.nearest_middle else rest // 2

    def _as_bytes(self, pixels: Tensor) -> bool:
        """Whether these can be resized as bytes, many times as fast.

        CPUs alone do so, with weights of 16 bits: too few where pictures are enlarged.
        """
        height, width = pixels.shape[2:]
        new_height, new_width = self.resized(height, width)
        return pixels.is_cpu and new_height <= height and new_width <= width

    def _resize(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[2:]
        new_height, new_width = self.resized(height, width)
        if self.resample == "nearest":
            return pixels[:, :, _nearest(height, new_height)][..., _nearest(width, new_width)]
        if not (self.whole_levels and pixels.is_floating_point()):
            size = (new_height, new_width)
            return F.interpolate(pixels, size, mode=self.resample, antialias=True)
        # Rounded to whole levels after each axis, halves up, as PIL does it.
        for now, then in (
            ((height, width), (height, new_width)),
            ((height, new_width), (new_height, new_width)),
        ):
            if now != then:
                pixels = F.interpolate(pixels, then, mode=self.resample, antialias=True)
                pixels = pixels.add_(0.5).floor_().clamp_(0, 255)
        return pixels

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing."""
        if self.size is not None:
            return self.size
        if self.most_patches is not None and self.patch is not None:
            return _in_patches(height, width, self.patch, self.most_patches)
        edge = self.shortest_edge
        assert edge is not None
        if height <= width:
            return edge, int(edge * width / height)
        return int(edge * height / width), edge

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, where: Path, default_type: str
    ) -> Preprocessing:
        """The preprocessing that a `preprocessor_config.json` describes.

        Args:
            config: content of the file.
            where: the file, for messages.
            default_type: stem of the processor class where the file names none.

        Raises:
            UnknownBackbone: a setting is not understood, or contradicts another.
        """
        kind = processor_kind(config, default_type)
        if kind not in PROCESSORS:
            raise UnknownBackbone(
                "an image processor that antcache does not know",
                where=where,
                expected=", ".join(PROCESSORS),
                found=kind,
            )
        known = {**PROCESSORS[kind], **{k: v for k, v in config.items() if v is not None}}
        understood = UNDERSTOOD | WITHOUT_EFFECT | PROCESSORS[kind].keys()
        for name, value in known.items():
            if name not in understood and value not in (False, {}, []):
                raise UnknownBackbone(
                    f"the setting {name!r} is not understood",
                    where=where,
                    expected="settings that antcache can reproduce",
                    found=repr(value),
                )
        try:
            if kind == "VJEPA2":  # whatever its file says of the size
                _, (edge, _) = _edge_or_size(known["crop_size"], True)  # type: ignore[misc]
                known["size"] = {"shortest_edge": int(edge * 256 / 224)}
            return cls(**_settings(known), **OF_CLASS.get(kind, {}))
        except (ValueError, TypeError, KeyError) as error:
            raise UnknownBackbone(
                "image processor settings that can't be followed", where=where, found=str(error)
            ) from error


def processor_kind(config: Mapping[str, Any], default: str) -> str:
    """Stem of the image processor class that a configuration names."""
    names = ("image_processor_type", "video_processor_type", "feature_extractor_type")
    name = str(next((config[n] for n in names if config.get(n)), default))
    for suffix in ("Fast", "Pil", "ImageProcessor", "VideoProcessor", "FeatureExtractor"):
        name = name.removesuffix(suffix)
    return name


def _settings(known: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Preprocessing`; a ValueError says what can't be followed."""
    if not known["do_resize"]:
        raise ValueError("do_resize false: pictures of any size can't share a batch")
    if known["resample"] not in RESAMPLE:
        codes = "0 (nearest), 2 (bilinear) or 3 (bicubic)"
        raise ValueError(f"resample {known['resample']}, not {codes}")
    shortest_edge, size, most_patches, patch = None, None, known.get("max_num_patches"), None
    if most_patches is None:
        shortest_edge, size = _edge_or_size(known["size"], known["default_to_square"])
    else:
        most_patches, patch = _edge(most_patches), _edge(known["patch_size"])
        if most_patches * patch**2 > LONGEST_EDGE**2:
            raise ValueError(f"{most_patches} patches of {patch} x {patch} pixels")
    crop: tuple[int, int] | None = None
    if known.get("do_center_crop"):
        shortest, crop = _edge_or_size(known["crop_size"], True)
        if shortest is not None:
            raise ValueError(f"crop_size {known['crop_size']}")
    if "crop_pct" in known:  # ConvNeXt's own rule
        if shortest_edge is None or crop is not None:
            raise ValueError("crop_pct needs size.shortest_edge and no center crop")
        if shortest_edge < 384:
            crop = (shortest_edge, shortest_edge)
            shortest_edge = int(shortest_edge / known["crop_pct"])
        else:
            size = (shortest_edge, shortest_edge)
            shortest_edge = None
    if crop is None and size is None and most_patches is None:
        raise ValueError("size.shortest_edge without a crop: pictures of differing shapes")
    if crop is not None:
        smallest = size or (shortest_edge or 0, shortest_edge or 0)
        if crop[0] > smallest[0] or crop[1] > smallest[1]:
            raise ValueError(f"crop_size {crop} larger than the resized picture {smallest}")
    normalize = known["do_normalize"]
    mean, std = (tuple(map(float, known[k])) for k in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3 or 0.0 in std:
        raise ValueError(f"image_mean {mean}, image_std {std}, not three values each")
    divisor: tuple[float, ...] = std if normalize else (1.0,) * 3
    if known.get("include_top"):  # EfficientNet's own rule: divided once more
        divisor = tuple(one * more for one, more in zip(divisor, std, strict=True))
    offset = known.get("offset") or known.get("rescale_offset")
    return {
        "shortest_edge": shortest_edge,
        "size": size,
        "resample": RESAMPLE[known["resample"]],
        "crop": crop,
        "scale": float(known["rescale_factor"]) if known["do_rescale"] else 1.0,
        "offset": -1.0 if known["do_rescale"] and offset else 0.0,
        "mean": mean if normalize else (0.0,) * 3,
        "std": divisor,
        "most_patches": most_patches,
        "patch": patch,
    }


def _edge_or_size(size: Any, square: bool) -> tuple[int | None, tuple[int, int] | None]:
    """`size` in any of its forms, as a shortest edge or as (height, width)."""
    if isinstance(size, int):
        edge = _edge(size)
        return (None, (edge, edge)) if square else (edge, None)
    if isinstance(size, Mapping):
        given = {k: _edge(v) for k, v in size.items() if v is not None}
        if given.keys() == {"shortest_edge"}:
            return given["shortest_edge"], None
        if given.keys() == {"height", "width"}:
            return None, (given["height"], given["width"])
    if isinstance(size, list) and len(size) == 2:
        return None, (_edge(size[0]), _edge(size[1]))
    raise ValueError(f"size {size}, not an edge or height and width")


def _nearest(length: int, new: int) -> list[int]:
    """Which pixels of an edge are taken; steps are added up, as in PIL: ties depend on it."""
    step = length / new
    return [int(middle) for middle in accumulate(repeat(step, new - 1), initial=step / 2)]


def _in_patches(height: int, width: int, patch: int, most: int) -> tuple[int, int]:
    """Height and width in whole patches, as large as `most` of them allow.

    The search for the scale is SigLIP 2's, step for step: its end decides the shape.
    """
    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        scale = (low + high) / 2
        new = [max(patch, ceil(edge * scale / patch) * patch) for edge in (height, width)]
        if (new[0] // patch) * (new[1] // patch) <= most:
            low = scale
        else:
            high = scale
    found = [max(patch, ceil(edge * low / patch) * patch) for edge in (height, width)]
    return found[0], found[1]


def _edge(value: Any) -> int:
    edge = int(value)
    if not 1 <= edge <= LONGEST_EDGE:
        raise ValueError(f"an edge of {edge} pixels, not 1 to {LONGEST_EDGE}")
    return edge
