"""The image and video processors of `transformers` that are followed, and what they do unless told.

Promise: what a file leaves out has the default of its class, on which older files rely; a test
compares `PROCESSORS` with the classes.
"""

from __future__ import annotations

from typing import Any

RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""PIL's codes of the filters that torch has, all but the first with antialiasing."""

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
    "DINOv3ViT": {**_COMMON, **_IMAGENET, "size": 224, "resample": 2},
    "Siglip2": {**_COMMON, "patch_size": 16, "max_num_patches": 256, "resample": 2},
    "EfficientNet": {
        **_COMMON,
        "size": {"height": 346, "width": 346},
        "crop_size": 289,
        "resample": 3,
        "rescale_offset": False,
        "include_top": True,
    },
    "MobileNetV2": {**_CROPPED, "size": 256, "resample": 2},
    "TimmWrapper": {**_CROPPED, **_IMAGENET, "resample": 3},
    "LlavaOnevision": {
        **_COMMON,
        **_CLIP,
        "size": {"height": 384, "width": 384},
        "resample": 3,
        "default_to_square": False,
    },
    "VJEPA2": {**_CROPPED, **_IMAGENET, "crop_size": 256, "resample": 2},
    "Timesformer": {**_CROPPED, **_IMAGENET, "resample": 2},
    "Vivit": {**_CROPPED, "size": 256, "resample": 2, "rescale_factor": 1 / 127.5, "offset": True},
}
"""Defaults of the image processor classes of `transformers` 5, by the stem of their names."""

OF_CLASS: dict[str, dict[str, Any]] = {
    "DINOv3ViT": {"whole_levels": False},
    "TimmWrapper": {"nearest_middle": True},
}
"""What these classes do that no setting says."""

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
