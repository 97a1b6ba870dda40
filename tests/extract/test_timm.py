"""Models of timm, from folders of one's own; run where timm and torchvision can be imported."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from antcache.errors import MissingExtra, UnknownBackbone
from antcache.extract.backbone import load_backbone
from antcache.extract.preprocess import Preprocessing
from antcache.extract.timm_folder import timm_processor

CFG = {
    "input_size": [3, 32, 32],
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "num_classes": 10,
}
MODELS = {
    "convolutions": ("resnet10t", {}),
    "tokens": ("vit_tiny_patch16_224", {"img_size": 32, "depth": 2}),
    "perception": (  # Perception Encoder's vision part, made small
        "vit_pe_core_tiny_patch16_384",
        {"img_size": 32, "depth": 2, "ref_feat_shape": [2, 2]},
    ),
}


@pytest.fixture
def timm():
    """The package; torchvision, which it imports, has to fit PyTorch's build."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm and torchvision can't be imported: {error}")
    return timm


@pytest.fixture
def pretend(monkeypatch):
    """timm is there, for what only reads settings."""
    monkeypatch.setitem(sys.modules, "timm", sys)


def save(folder, model, config):
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("kind", sorted(MODELS))
def test_models(tmp_path, timm, kind, named):
    """As timm makes them: folders of its hub don't name their type, and the head is left out."""
    architecture, arguments = MODELS[kind]
    model = timm.create_model(architecture, num_classes=10, **arguments).eval()
    config = {"architecture": architecture, "num_classes": 10, "pretrained_cfg": CFG}
    config |= {"model_args": arguments} | ({"model_type": "timm_wrapper"} if named else {})
    backbone = load_backbone(save(tmp_path / "model", model, config), device="cpu")
    pixels = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = model.forward_features(pixels[:, 0])
        expected = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(backbone(pixels), expected, rtol=1e-5, atol=1e-5)
    assert backbone.config["family"] == "timm_wrapper"
    assert backbone.dim == model.num_features


GRIDS = {
    "convolutions": ((1, 1, 1), lambda map_: map_.flatten(2).transpose(1, 2)),
    "tokens": ((1, 2, 2), lambda tokens: tokens[:, 1:]),
    "perception": ((1, 2, 2), lambda tokens: tokens[:, 1:]),
    "registers": ((1, 2, 2), lambda tokens: tokens[:, 5:]),
    "channels_last": ((1, 4, 4), lambda map_: map_.flatten(1, 2)),
}
OTHERS = {
    "registers": ("vit_tiny_patch16_224", {"img_size": 32, "depth": 2, "reg_tokens": 4}),
    "channels_last": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 32, "window_size": 4, "embed_dim": 12, "depths": [1, 1], "num_heads": [3, 6]},
    ),
}


@pytest.mark.parametrize("kind", sorted(GRIDS))
def test_tokens(tmp_path, timm, kind):
    """Those of no place are left out, which timm counts; maps are as timm lays them out."""
    architecture, arguments = (MODELS | OTHERS)[kind]
    model = timm.create_model(architecture, num_classes=10, **arguments).eval()
    config = {"architecture": architecture, "num_classes": 10, "pretrained_cfg": CFG}
    folder = save(tmp_path / "model", model, config | {"model_args": arguments})
    backbone = load_backbone(folder, device="cpu")
    pixels = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    grid, of = GRIDS[kind]
    with torch.no_grad():
        expected = of(model.forward_features(pixels[:, 0]))
    assert backbone.grid == grid
    torch.testing.assert_close(backbone.tokens(pixels), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(91, 161), (240, 135), (300, 401)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"interpolation": "bilinear", "crop_pct": 0.875, "input_size": [3, 65, 65]},
        {"crop_mode": "squash", "crop_pct": 0.8},
        {"crop_pct": 1.0, "input_size": [3, 64, 64], "interpolation": ""},
    ],
)
def test_pictures_are_prepared_as_in_timm(tmp_path, timm, changes, shape, monkeypatch):
    from timm.data import create_transform, resolve_data_config

    cfg = {**CFG, **changes}
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    original = Image.Image.resize

    def resize(self, size, *args, **kwargs):  # width first, as before Pillow 13
        wide = original(self, (size[0], self.height), *args, **kwargs)
        return original(wide, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", resize)
    expected = create_transform(**resolve_data_config(cfg))(Image.fromarray(frame))
    found = timm_processor({"architecture": "resnet10t", "pretrained_cfg": cfg}, tmp_path)
    ours = Preprocessing.from_config(found, where=tmp_path, default_type="TimmWrapper")
    difference = (ours(torch.from_numpy(frame)[None])[0] - expected).abs()
    difference *= torch.tensor(ours.std).view(3, 1, 1) * 255
    assert difference.max() <= 1.01
    assert difference.mean() <= 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "hf-hub:someone/theirs"}, "no architecture of timm's own list"),
        ({"architecture": "local-dir:/tmp"}, "no architecture of timm's own list"),
        ({"architecture": None}, "no architecture of timm's own list: expected a name"),
        ({"model_args": {"checkpoint_path": "/tmp/w.pth"}}, "'checkpoint_path' of the model is no"),
        ({"model_args": {"pretrained_cfg": {"file": "/tmp/w"}}}, "'pretrained_cfg' of the model"),
        ({"model_args": "depth"}, "argument '' of the model is no number"),
        ({"pretrained_cfg": {"crop_mode": "border"}}, "crop_mode border, not center or squash"),
        ({"pretrained_cfg": {"input_size": [1, 32, 32]}}, "not of three channels"),
        ({"pretrained_cfg": {"input_size": [3, 32, 48]}}, "not square"),
        ({"pretrained_cfg": {"input_size": 32}}, "can't be followed"),
        ({"pretrained_cfg": {"crop_pct": "most"}}, "can't be followed"),
        ({"pretrained_cfg": "resnet"}, "can't be followed"),
    ],
)
@pytest.mark.usefixtures("pretend")
def test_what_is_not_followed_is_refused(tmp_path, changes, message):
    settings = {"architecture": "resnet10t", "pretrained_cfg": CFG, **changes}
    with pytest.raises(UnknownBackbone, match=message) as caught:
        timm_processor(settings, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("pretend")
def test_a_filter_that_torch_does_not_have(tmp_path):
    cfg = {**CFG, "interpolation": "lanczos"}
    found = timm_processor({"architecture": "resnet10t", "pretrained_cfg": cfg}, tmp_path)
    with pytest.raises(UnknownBackbone, match="resample lanczos, not 0"):
        Preprocessing.from_config(found, where=tmp_path, default_type="TimmWrapper")


def test_without_timm(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": CFG}))
    with pytest.raises(MissingExtra, match=r"'timm' is not installed.*antcache\[timm\]"):
        load_backbone(tmp_path)


def test_a_torchvision_that_does_not_fit(tmp_path, monkeypatch):
    """Of another build than PyTorch: its operators are missing."""
    (tmp_path / "timm.py").write_text("raise RuntimeError('no torchvision::nms\\nmore')")
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": CFG}))
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownBackbone, match=r"timm can't be imported: found no torchvision::nms"):
        load_backbone(tmp_path)
