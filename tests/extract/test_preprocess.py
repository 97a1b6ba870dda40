from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from antcache.errors import UnknownBackbone
from antcache.extract.preprocess import PROCESSORS, UNDERSTOOD, Preprocessing

WHERE = Path("preprocessor_config.json")

LEVEL = 1 / 255
"""One level of a picture; tolerances are in levels after resizing."""


@pytest.fixture
def width_first(monkeypatch):
    """Pillow that resizes width first whatever the shape, as it did before version 13."""
    original = Image.Image.resize

    def resize(self, size, *args, **kwargs):
        wide = original(self, (size[0], self.height), *args, **kwargs)
        return original(wide, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", resize)


def of(config, default_type="ViT"):
    return Preprocessing.from_config(config, where=WHERE, default_type=default_type)


def reference(stem, settings):
    """The image processor of transformers, in its PIL form."""
    module = {"Siglip": "siglip", "VideoMAE": "videomae", "ConvNext": "convnext"}
    name = module.get(stem, stem.lower())
    path = f"transformers.models.{name}.image_processing_pil_{name}"
    return getattr(importlib.import_module(path), f"{stem}ImageProcessorPil")(**settings)


def picture(height, width):
    """Noise with hard edges, and smooth parts: filters that overshoot, and ones that don't."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    noise[: height // 2] = ramp[None, :, None]
    noise[:, width // 3 : width // 2] = np.where(np.arange(height)[:, None, None] % 7 < 3, 0, 255)
    return noise


CASES = [
    ("ViT", {}),
    ("ViT", {"size": {"height": 32, "width": 48}, "resample": 3}),
    ("DeiT", {}),
    ("CLIP", {}),
    ("CLIP", {"size": {"shortest_edge": 64}, "crop_size": {"height": 48, "width": 50}}),
    ("Siglip", {"size": {"height": 96, "width": 96}}),
    ("Siglip", {"resample": 2}),
    ("ConvNext", {"size": {"shortest_edge": 224}}),
    ("ConvNext", {"size": {"shortest_edge": 64}, "crop_pct": 0.9}),
    ("ConvNext", {}),
    ("Bit", {"size": {"shortest_edge": 256}}),
    ("VideoMAE", {}),
    ("VideoMAE", {"do_normalize": False}),
    ("VideoMAE", {"do_rescale": False}),
]


@pytest.mark.usefixtures("width_first")
@pytest.mark.parametrize("shape", [(91, 161), (240, 135), (300, 400)])
@pytest.mark.parametrize(("stem", "settings"), CASES)
def test_equals_transformers(stem, settings, shape):
    theirs = reference(stem, settings)
    ours = of(json.loads(theirs.to_json_string()))
    frame = picture(*shape)
    output = theirs([[frame]] if stem == "VideoMAE" else frame, return_tensors="np")
    expected = output["pixel_values"].reshape(3, *output["pixel_values"].shape[-2:])
    pixels = ours(torch.from_numpy(np.stack([frame, frame])))
    assert pixels.dtype == torch.float32
    assert pixels.shape == (2, *expected.shape) == (2, 3, *ours.out)
    # back to levels of 255, where the tolerance is stated
    std = np.reshape(ours.std, (3, 1, 1)) / (ours.scale * 255)
    difference = np.abs(pixels.numpy() - expected) * std
    assert difference.max() <= LEVEL * 1.01
    assert difference.mean() <= LEVEL * 0.01


OF_CLIPS = {"Timesformer", "Vivit"}
"""Stems of classes for videos alone; their defaults are attributes (they run with torchvision)."""


@pytest.mark.parametrize("stem", sorted(OF_CLIPS))
def test_defaults_for_clips_are_those_of_transformers(stem):
    path = f"transformers.models.{stem.lower()}.video_processing_{stem.lower()}"
    theirs = vars(getattr(importlib.import_module(path), f"{stem}VideoProcessor"))
    given = {name: theirs[name] for name in UNDERSTOOD & theirs.keys()}
    assert {"image_mean", "image_std", "size", "crop_size", "resample"} <= given.keys()
    given["offset"] = stem == "Vivit"  # a method there
    assert of({"video_processor_type": f"{stem}VideoProcessor"}) == of(given, default_type=stem)


@pytest.mark.parametrize("stem", sorted(PROCESSORS.keys() - OF_CLIPS))
def test_defaults_are_those_of_transformers(stem):
    """A file without any setting means what it means there."""
    theirs = json.loads(reference(stem, {}).to_json_string())
    theirs.pop("image_processor_type")
    assert of({"image_processor_type": f"{stem}ImageProcessor"}) == of(theirs, default_type=stem)


@pytest.mark.parametrize(
    ("config", "default", "expected"),
    [
        (
            {  # google/vit-base-patch16-224, as first published
                "do_normalize": True,
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "size": 224,
            },
            "ViT",
            {"size": (224, 224), "crop": None, "resample": "bilinear", "scale": 1 / 255},
        ),
        (
            {  # openai/clip-vit-base-patch32
                "crop_size": 224,
                "do_center_crop": True,
                "do_normalize": True,
                "do_resize": True,
                "feature_extractor_type": "CLIPFeatureExtractor",
                "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_std": [0.26862954, 0.26130258, 0.27577711],
                "resample": 3,
                "size": 224,
            },
            "CLIP",
            {"shortest_edge": 224, "crop": (224, 224), "resample": "bicubic"},
        ),
        (
            {  # facebook/convnext-tiny-224
                "crop_pct": 0.875,
                "do_normalize": True,
                "do_resize": True,
                "feature_extractor_type": "ConvNextFeatureExtractor",
                "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225],
                "resample": 3,
                "size": 224,
            },
            "ConvNext",
            {"shortest_edge": 256, "crop": (224, 224), "mean": (0.485, 0.456, 0.406)},
        ),
        (
            {  # google/vivit-b-16x2-kinetics400
                "crop_size": {"height": 224, "width": 224},
                "do_center_crop": True,
                "do_normalize": True,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_processor_type": "VivitImageProcessor",
                "image_std": [0.5, 0.5, 0.5],
                "offset": True,
                "resample": 2,
                "rescale_factor": 1 / 127.5,
                "size": {"shortest_edge": 256},
            },
            "Vivit",
            {"shortest_edge": 256, "crop": (224, 224), "offset": -1.0, "scale": 1 / 127.5},
        ),
    ],
)
def test_published_files(config, default, expected):
    ours = of(config, default)
    assert {name: getattr(ours, name) for name in expected} == expected


def test_offset_by_hand():
    """ViViT maps 0..255 to -1..1 and then normalises, which gives -3..1."""
    ours = of({"size": 4, "crop_size": 4, "video_processor_type": "VivitVideoProcessor"})
    levels = torch.tensor([0, 255, 127, 128], dtype=torch.uint8)
    pixels = ours(levels.view(1, 1, 4, 1).expand(1, 4, 4, 3))
    torch.testing.assert_close(pixels[0, 0, 0], (levels / 127.5 - 1 - 0.5) / 0.5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"do_pad": True}, "the setting 'do_pad' is not understood"),
        ({"rescale_offset": True}, "'rescale_offset' is not understood"),
        ({"do_resize": False}, "do_resize false"),
        ({"resample": 1}, r"resample 1, not 2 \(bilinear\) or 3 \(bicubic\)"),
        ({"size": {"shortest_edge": 224}}, "without a crop"),
        ({"size": {"shortest_edge": 224, "longest_edge": 300}}, "not an edge or height and width"),
        ({"size": 224, "do_center_crop": True, "crop_size": 256}, "larger than the resized"),
        ({"image_mean": [0.5]}, "not three values"),
        ({"image_std": [0.5, 0.0, 0.5]}, "not three values"),
        ({"image_mean": "imagenet"}, "can't be followed"),
        ({"image_processor_type": "OwlViTImageProcessor"}, "does not know: expected ViT"),
    ],
)
def test_what_is_not_understood_is_refused(config, message):
    with pytest.raises(UnknownBackbone, match=message) as caught:
        of(config)
    assert str(caught.value).startswith(f"{WHERE}: ")
    assert "\n" not in str(caught.value)


def test_settings_without_effect_or_unset_are_accepted():
    extra = {"do_convert_rgb": True, "do_pad": False, "pad_size": None, "do_center_crop": None}
    assert of(extra) == of({})
    assert of({"image_processor_type": "ViTImageProcessorFast"}) == of({})


@pytest.mark.parametrize("stem", sorted(PROCESSORS))
def test_config_is_json_ready(stem):
    assert json.loads(json.dumps(of({}, stem).to_dict()))["resample"] in ("bilinear", "bicubic")
