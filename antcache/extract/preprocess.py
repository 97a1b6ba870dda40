"""Pictures as a backbone wants them: what its `preprocessor_config.json` says, in torch.

Promise: resizing, cropping, rescaling and normalising run on the device where the pictures are,
need no torchvision, and equal the image processors of `transformers` (PIL) within 1 of 255 levels,
0.01 on average. Pictures are resized along their width first, as in Pillow up to 12 (from 13 on,
Pillow begins with the height where that shrinks more, which can move single pixels at hard edges by
20 levels). A setting that is not understood is an error, never ignored; so is a missing file.

What a file leaves out has the default of its image processor class in `transformers`; older files
rely on that. `PROCESSORS` lists those defaults, and a test compares them with the classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from antcache.errors import UnknownBackbone

RESAMPLE = {2: "bilinear", 3: "bicubic"}
"""PIL's codes of the filters that torch has with antialiasing."""

_HALF = [0.5, 0.5, 0.5]
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_COMMON: dict[str, Any] = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "image_mean": _HALF,
    "image_std": _HALF,
    "default_to_square": True,
}
_CROPPED: dict[str, Any] = {
    **_COMMON,
    "do_center_crop": True,
    "crop_size": 224,
    "size": 224,
    "default_to_square": False,
}

LONGEST_EDGE = 4096
"""Pixels of an edge: vision models see up to 1,500; a picture of any size can be stated."""

PROCESSORS: dict[str, dict[str, Any]] = {
    "ViT": {**_COMMON, "size": 224, "resample": 2},
    "Siglip": {
        **_COMMON,
        "size": {"height": 224, "width": 224},
        "resample": 3,
        "default_to_square": False,
    },
    "DeiT": {**_CROPPED, "size": 256, "resample": 3, "default_to_square": True},
    "CLIP": {**_CROPPED, **_CLIP, "resample": 3},
    "Bit": {**_CROPPED, **_CLIP, "resample": 3},
    "ConvNext": {
        **_COMMON,
        "size": 384,
        "resample": 3,
        "default_to_square": False,
        "crop_pct": 224 / 256,
    },
    "VideoMAE": {**_CROPPED, "resample": 2},
    "Timesformer": {**_CROPPED, **_IMAGENET, "resample": 2},
    "Vivit": {**_CROPPED, "size": 256, "resample": 2, "rescale_factor": 1 / 127.5, "offset": True},
}
"""Defaults of the image processor classes of `transformers` 5, by the stem of their names."""

UNDERSTOOD = {
    *("do_resize", "size", "resample", "default_to_square", "crop_pct"),
    *("do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "offset", "do_normalize", "image_mean", "image_std"),
}
WITHOUT_EFFECT = {
    *("image_processor_type", "feature_extractor_type", "video_processor_type", "processor_class"),
    *("_valid_processor_keys", "_processor_class", "model_input_names", "do_convert_rgb"),
    *("data_format", "input_data_format", "return_tensors", "device", "disable_grouping"),
    *("return_metadata", "image_seq_length", "do_sample_frames", "num_frames", "fps"),
}
"""Settings that do not change the pixels of an RGB frame; frames are chosen by their times."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From pictures (B, H, W, 3) uint8 to pixels (B, 3, *out*) float32.

    Attributes:
        shortest_edge: length to which the shorter edge is resized, or
        size: (height, width) to which pictures are resized; one of the two.
        resample: bilinear or bicubic, antialiased as PIL does it.
        crop: (height, width) cut out of the middle, or None.
        scale: factor on the 0..255 values.
        offset: added after scaling.
        mean: per channel, subtracted then.
        std: per channel, divided by at last.
    """

    shortest_edge: int | None
    size: tuple[int, int] | None
    resample: str
    crop: tuple[int, int] | None
    scale: float
    offset: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings, for the fingerprint."""
        return asdict(self)

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the pixels."""
        out = self.crop or self.size
        assert out is not None
        return out

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pixels (B, 3, *out*) float32 of pictures (B, H, W, 3) uint8, on the same device."""
        pixels = pictures.permute(0, 3, 1, 2).float()
        pixels = self._resize(pixels)
        if self.crop is not None:
            height, width = self.crop
            top, left = (pixels.shape[2] - height) // 2, (pixels.shape[3] - width) // 2
            pixels = pixels[..., top : top + height, left : left + width]
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return (pixels * self.scale + self.offset - mean) / std

    def _resize(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[2:]
        new_height, new_width = self.resized(height, width)
        # Rounded to whole levels after each axis, as PIL does it.
        for now, then in (
            ((height, width), (height, new_width)),
            ((height, new_width), (new_height, new_width)),
        ):
            if now != then:
                pixels = F.interpolate(pixels, then, mode=self.resample, antialias=True)
                pixels = pixels.round_().clamp_(0, 255)
        return pixels

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing."""
        if self.size is not None:
            return self.size
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
        for name, value in known.items():
            if name not in UNDERSTOOD | WITHOUT_EFFECT and value not in (False, {}, []):
                raise UnknownBackbone(
                    f"the setting {name!r} is not understood",
                    where=where,
                    expected="settings that antcache can reproduce",
                    found=repr(value),
                )
        try:
            return cls(**_settings(known))
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
        raise ValueError(f"resample {known['resample']}, not 2 (bilinear) or 3 (bicubic)")
    shortest_edge, size = _edge_or_size(known["size"], known["default_to_square"])
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
    if crop is None and size is None:
        raise ValueError("size.shortest_edge without a crop: pictures of differing shapes")
    if crop is not None:
        smallest = size or (shortest_edge or 0, shortest_edge or 0)
        if crop[0] > smallest[0] or crop[1] > smallest[1]:
            raise ValueError(f"crop_size {crop} larger than the resized picture {smallest}")
    normalize = known["do_normalize"]
    mean, std = (tuple(map(float, known[k])) for k in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3 or 0.0 in std:
        raise ValueError(f"image_mean {mean}, image_std {std}, not three values each")
    return {
        "shortest_edge": shortest_edge,
        "size": size,
        "resample": RESAMPLE[known["resample"]],
        "crop": crop,
        "scale": float(known["rescale_factor"]) if known["do_rescale"] else 1.0,
        "offset": -1.0 if known["do_rescale"] and known.get("offset") else 0.0,
        "mean": mean if normalize else (0.0,) * 3,
        "std": std if normalize else (1.0,) * 3,
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


def _edge(value: Any) -> int:
    edge = int(value)
    if not 1 <= edge <= LONGEST_EDGE:
        raise ValueError(f"an edge of {edge} pixels, not 1 to {LONGEST_EDGE}")
    return edge
