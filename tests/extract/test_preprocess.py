from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers.image_utils
from PIL import Image

from antcache.errors import UnknownBackbone
from antcache.extract.backbone import cut
from antcache.extract.preprocess import Preprocessing
from antcache.extract.processors import PROCESSORS

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
    name = "mobilenet_v2" if stem == "MobileNetV2" else stem.lower()
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
    ("ViT", {"size": {"height": 182, "width": 322}}),  # twice the first shape: many halves
    ("ViT", {"size": {"height": 150, "width": 200}}),  # half of the last
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
    ("EfficientNet", {}),
    ("EfficientNet", {"size": {"height": 65, "width": 67}, "resample": 0, "include_top": False}),
    ("EfficientNet", {"do_normalize": False, "do_center_crop": True, "rescale_offset": True}),
    ("EfficientNet", {"rescale_offset": True, "rescale_factor": 1 / 127.5}),
    ("MobileNetV2", {}),
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


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("shape", [(300, 400), (224, 300), (225, 224)])
def test_smaller_as_bytes_is_within_a_level_of_smaller_in_float32(shape, resample, monkeypatch):
    """The one is what CPUs do, the other what GPUs do."""
    ours = of({"size": {"height": 224, "width": 224}, "resample": resample})
    frame = torch.from_numpy(picture(*shape))[None]
    as_bytes = ours.levels(frame)
    monkeypatch.setattr(Preprocessing, "_as_bytes", lambda *_: False)
    difference = (as_bytes.float() - ours.levels(frame).float()).abs()
    assert difference.max() <= 1
    assert difference.mean() <= 0.01


def test_no_picture_is_held_in_float32():
    """Of films in 4K that would be 100 MB, and as much for each decoder."""
    frame = torch.zeros(1, 1080, 1920, 3, dtype=torch.uint8)
    with torch.profiler.profile(profile_memory=True) as profile:
        of({}).levels(frame)
    assert max(event.cpu_memory_usage for event in profile.events()) < frame.nbytes / 4


def larger(ours, shape):
    """Whether pictures are enlarged: more values lie halfway between two levels then."""
    return ours.resized(*shape) > shape


@pytest.mark.parametrize("shape", [(91, 161), (240, 135), (64, 64), (7, 300)])
@pytest.mark.parametrize("settings", [{}, {"patch_size": 14, "max_num_patches": 100}])
@pytest.mark.usefixtures("width_first")
def test_patches_are_those_of_transformers(settings, shape):
    """SigLIP 2 sees pictures in their own shape, cut into patches."""
    theirs = reference("Siglip2", settings)
    ours = of(json.loads(theirs.to_json_string()))
    frame = picture(*shape)
    output = theirs(frame, return_tensors="pt")
    taken = cut(ours(torch.from_numpy(frame)[None]), ours.patch)
    assert torch.equal(taken["spatial_shapes"], output["spatial_shapes"])
    count = taken["pixel_attention_mask"].shape[1]
    assert torch.equal(taken["pixel_attention_mask"], output["pixel_attention_mask"][:, :count])
    assert not output["pixel_attention_mask"][:, count:].any()
    difference = (taken["pixel_values"] - output["pixel_values"][:, :count]).abs() / 2
    assert difference.max() <= LEVEL * 1.01
    assert difference.mean() <= LEVEL * (0.02 if larger(ours, shape) else 0.01)


ATTRIBUTES = {"image_mean", "image_std", "size", "crop_size", "resample", "default_to_square"}
ATTRIBUTES |= {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "rescale_factor"}


def stated(stem):
    """Defaults of a class that only torchvision lets be imported, as its file states them."""
    kind, suffix = ("image", "Image") if stem == "DINOv3ViT" else ("video", "Video")
    name = {"DINOv3ViT": "dinov3_vit", "LlavaOnevision": "llava_onevision"}.get(stem, stem.lower())
    folder = Path(transformers.__file__).parent / "models" / name
    tree = ast.parse((folder / f"{kind}_processing_{name}.py").read_text("utf-8"))
    (body,) = (
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == f"{stem}{suffix}Processor"
    )
    return {
        node.targets[0].id: eval(ast.unparse(node.value), dict(vars(transformers.image_utils)))
        for node in body
        if isinstance(node, ast.Assign) and node.targets[0].id in ATTRIBUTES
    }


OF_TORCHVISION = {"Timesformer", "Vivit", "VJEPA2", "LlavaOnevision", "DINOv3ViT"}
"""Stems of classes that run with torchvision alone."""


@pytest.mark.parametrize("stem", sorted(OF_TORCHVISION))
def test_defaults_are_those_that_transformers_states(stem):
    given = stated(stem)
    assert {"image_mean", "image_std", "size", "resample", "do_resize"} <= given.keys()
    given["offset"] = stem == "Vivit"  # a method there
    assert of({"video_processor_type": f"{stem}VideoProcessor"}) == of(given, default_type=stem)


@pytest.mark.parametrize("shape", [(91, 161), (240, 135), (300, 401)])
@pytest.mark.parametrize(
    ("stem", "settings"),
    [
        ("DINOv3ViT", {}),
        ("DINOv3ViT", {"size": {"height": 64, "width": 96}}),
        ("VJEPA2", {"crop_size": 64}),
        ("VJEPA2", {"crop_size": {"height": 96, "width": 96}, "size": {"shortest_edge": 50}}),
        ("LlavaOnevision", {"size": {"height": 72, "width": 72}, "do_normalize": False}),
        ("Timesformer", {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}}),
    ],
)
def test_equals_torchvision(stem, settings, shape):
    """Where torchvision fits PyTorch's build; classes of videos resize with it alone."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision can't be imported: {error}")
    suffix = "ImageProcessor" if stem == "DINOv3ViT" else "VideoProcessor"
    theirs = getattr(transformers, f"{stem}{suffix}")(**settings)
    ours = of({**json.loads(theirs.to_json_string()), **settings}, stem)
    frame = picture(*shape)
    output = theirs([frame] if stem == "DINOv3ViT" else [[frame]], return_tensors="pt")
    (expected,) = output.values()
    expected = expected.reshape(3, *expected.shape[-2:])
    difference = (ours(torch.from_numpy(frame)[None])[0] - expected).abs()
    difference *= torch.tensor(ours.std).view(3, 1, 1) / (ours.scale * 255)
    assert difference.max() <= LEVEL * 1.01
    assert difference.mean() <= LEVEL * 0.02


def test_the_size_of_vjepa2_follows_its_crop():
    """Whatever the file says of it, as in its class."""
    for crop in (384, {"height": 384, "width": 384}):
        ours = of({"crop_size": crop, "size": {"shortest_edge": 999}}, "VJEPA2")
        assert (ours.shortest_edge, ours.crop) == (438, (384, 384))


def test_dinov3_resizes_without_rounding():
    """Rescaled first, in its class; so values between levels are kept."""
    ours = of({"size": {"height": 3, "width": 1}, "do_normalize": False}, "DINOv3ViT")
    columns = torch.tensor([0, 1, 1, 1], dtype=torch.uint8).view(1, 1, 4, 1).expand(1, 3, 4, 3)
    weights = torch.tensor([5, 7, 7, 5]) / 24  # the triangle over four pixels
    torch.testing.assert_close(ours(columns)[0, 0, 0, 0], weights[1:].sum() / 255)


def test_values_halfway_between_two_levels_are_rounded_up():
    """What changes these values is another version of the rules."""
    ours = of({"size": {"height": 1, "width": 4}, "do_normalize": False, "do_rescale": False})
    levels = torch.tensor([0, 2, 1, 7], dtype=torch.uint8).view(2, 1, 2, 1).expand(2, 1, 2, 3)
    assert ours(levels)[:, 0, 0].tolist() == [[0, 1, 2, 2], [1, 3, 6, 7]]  # 0.5, 1.5; 2.5, 5.5
    assert ours.to_dict()["convention"] == 3


OF_TIMM = {"TimmWrapper"}
"""Read from timm's own settings (test_timm.py)."""


@pytest.mark.parametrize("stem", sorted(PROCESSORS.keys() - OF_TORCHVISION - OF_TIMM))
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
        ({"resample": 1}, r"resample 1, not 0 \(nearest\), 2 \(bilinear\) or 3 \(bicubic\)"),
        ({"size": {"shortest_edge": 224}}, "without a crop"),
        ({"size": {"shortest_edge": 224, "longest_edge": 300}}, "not an edge or height and width"),
        ({"size": 224, "do_center_crop": True, "crop_size": 256}, "larger than the resized"),
        ({"image_mean": [0.5]}, "not three values"),
        ({"image_std": [0.5, 0.0, 0.5]}, "not three values"),
        ({"image_mean": "imagenet"}, "can't be followed"),
        (
            {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 300},
            "256 patches of 300 x 300 pixels",
        ),
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
