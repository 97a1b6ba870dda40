from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
import transformers
from family_models import makers
from safetensors.torch import load_file, save_file
from transformers.models.siglip2.image_processing_pil_siglip2 import (
    convert_image_to_patches,
    pad_along_first_dim,
)

from antcache.errors import MissingExtra, UnknownBackbone
from antcache.extract.backbone import load_backbone
from antcache.extract.families import FAMILIES

VERSION = transformers.__version__


def tower(model, kind):
    """The vision part of a model with heads."""
    if kind in ("clip", "siglip", "siglip2"):
        return model.vision_model
    if kind.startswith("dinov3"):  # its prefix names a part of it
        return model
    return getattr(model, model.base_model_prefix, model)


def published(model, kind, pixels):
    """What the vision part says of pixels (B, T, 3, 32, 32), by its own arguments."""
    if kind == "xclip":
        return model.get_video_features(pixel_values=pixels)
    if kind == "videoprism":
        return model.get_video_features(pixel_values_videos=pixels)
    if kind == "videoprism_vision_model":
        return model(pixel_values_videos=pixels)
    if kind == "vjepa2":
        return model.vjepa2.encoder(pixel_values_videos=pixels)
    if kind.startswith("siglip2"):  # padded, as its image processor does it
        cut = [pad_along_first_dim(convert_image_to_patches(p[0].numpy(), 8), 20) for p in pixels]
        patches, masks = (torch.from_numpy(np.stack(each)) for each in zip(*cut, strict=True))
        shapes = torch.tensor([[4, 4]] * len(pixels))
        return tower(model, kind)(patches, pixel_attention_mask=masks, spatial_shapes=shapes)
    return tower(model, kind)(pixel_values=pixels if FAMILIES[kind].frames else pixels[:, 0])


@pytest.mark.parametrize("kind", sorted(FAMILIES.keys() - {"timm_wrapper"}))
def test_families(tmp_path, models, small, kind):
    """Every family loads from a published form, and its feature is the output the table names."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = makers(small)[kind]().eval()
    assert model.config.model_type == kind
    backbone = load_backbone(models.save(tmp_path / kind, model), device="cpu")
    family = FAMILIES[kind]
    assert backbone.num_frames == (4 if family.frames else 1)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, backbone.num_frames, 3, 32, 32, generator=generator)
    features = backbone(pixels)
    with torch.no_grad():
        output = published(model, kind, pixels)
    expected = {
        "pooler": lambda: output.pooler_output.flatten(1),
        "cls": lambda: output.last_hidden_state[:, 0],
        "mean": lambda: output.last_hidden_state.mean(1),
    }[family.pooling]()
    assert features.shape == (2, backbone.dim)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(features[0], features[1], atol=1e-3)
    json.dumps(backbone.config)


def test_the_documentation_lists_the_families(repo):
    table = (repo / "docs" / "extract.md").read_text("utf-8").split("| Family ")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert {name.strip() for row in rows for name in row.split(",")} == set(FAMILIES)


def test_a_family_that_transformers_does_not_have_yet(monkeypatch, vit):
    later = dataclasses.replace(FAMILIES["vit"], model="NotYetModel")
    monkeypatch.setitem(FAMILIES, "vit", later)
    message = f"vit need a newer transformers: expected .*NotYetModel, found {re.escape(VERSION)}"
    with pytest.raises(UnknownBackbone, match=message):
        load_backbone(vit)


def test_config_identifies_the_features(tmp_path, vit):
    """Moving the folder changes nothing; weights, preprocessing and settings do."""
    first = load_backbone(vit, device="cpu")
    moved = tmp_path / "moved"
    shutil.copytree(vit, moved)
    assert load_backbone(moved, device="cpu").config == first.config
    assert first.config["family"] == "vit"
    assert first.config["pooling"] == "cls"

    weights = load_file(moved / "model.safetensors")
    weights["layernorm.weight"] += 1
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    other = load_backbone(moved, device="cpu").config
    assert {k for k in other if other[k] != first.config[k]} == {"weights"}

    shutil.copytree(vit, moved, dirs_exist_ok=True)
    file = moved / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "resample": 3}))
    other = load_backbone(moved, device="cpu").config
    assert {k for k in other if other[k] != first.config[k]} == {"preprocessing"}


def edit(folder, name, **changes):
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def without_config(folder):
    (folder / "config.json").unlink()


def spoilt_config(folder):
    (folder / "config.json").write_text('{"model_type": ')


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def spoilt_weights(folder):
    (folder / "model.safetensors").write_bytes(b"not tensors" * 100)


def truncated_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def missing_weights(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def other_shapes(folder):
    edit(folder, "config.json", intermediate_size=128)


def unsafe_weights(folder):
    """A pickle that would run code."""
    (folder / "model.safetensors").unlink()
    torch.save({"layernorm.weight": pytest.ExitCode.OK}, folder / "pytorch_model.bin")


def without_processor(folder):
    (folder / "preprocessor_config.json").unlink()


def other_size(folder):
    edit(folder, "preprocessor_config.json", size={"height": 40, "width": 40})


def unknown_processor(folder):
    edit(folder, "preprocessor_config.json", do_reduce_labels=True)


def bert(folder):
    edit(folder, "config.json", model_type="bert")


def own_code(folder):
    edit(folder, "config.json", model_type="mine", auto_map={"AutoModel": "mine.Mine"})


def deep_config(folder):
    (folder / "config.json").write_text("[" * 100_000)


def layers(folder):
    edit(folder, "config.json", num_hidden_layers=10**9)


def wide(folder):
    edit(folder, "config.json", hidden_size=10**6)


def elsewhere(folder):
    """An index that says that weights lie in another folder."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    names = load_file(folder / "model-00001-of-00001.safetensors")
    index = {
        "metadata": {},
        "weight_map": dict.fromkeys(names, "../model-00001-of-00001.safetensors"),
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def large_pictures(folder):
    edit(folder, "preprocessor_config.json", size=10**6)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (without_config, "no readable config.json: found nothing"),
        (spoilt_config, "no readable config.json: found Expecting value"),
        (without_weights, "no weights: expected model.safetensors"),
        (spoilt_weights, "can't be used"),
        (truncated_weights, "can't be used"),
        (missing_weights, "missing from the checkpoint.*found 1, such as layernorm.weight"),
        (other_shapes, "can't be used"),
        (unsafe_weights, "can't be used"),
        (without_processor, "no preprocessor_config.json"),
        (other_size, "can't be used.*40"),
        (unknown_processor, "'do_reduce_labels' is not understood"),
        (bert, "not a vision model that antcache knows.*found bert"),
        (own_code, "found mine"),
        (deep_config, "no readable config.json: found nested too deeply"),
        (layers, "can't be used.*num_hidden_layers 1000000000, more than 1000"),
        (wide, r"can't be used.*a model of \d{14} bytes, and \d+ bytes of weights"),
        (elsewhere, "can't be used.*weights lie outside of the folder"),
        (large_pictures, "an edge of 1000000 pixels, not 1 to 4096"),
    ],
)
def test_harmed_folders(tmp_path, vit, harm, message, capfd):
    folder = tmp_path / "harmed"
    shutil.copytree(vit, folder)
    harm(folder)
    with pytest.raises(UnknownBackbone, match=message) as caught:
        load_backbone(folder, device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [0, 10**6])
def test_lengths_of_clips_that_no_weight_bounds(tmp_path, models, small, count):
    """V-JEPA 2 takes any number of frames."""
    folder = models.save(tmp_path / "vjepa2", makers(small)["vjepa2"]())
    edit(folder, "config.json", frames_per_clip=count)
    with pytest.raises(UnknownBackbone, match=rf"can't be used.*clips of {count} frames, not 1 to"):
        load_backbone(folder, device="cpu")


def test_bin_weights(tmp_path, vit):
    folder = tmp_path / "bin"
    shutil.copytree(vit, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    pixels = torch.ones(1, 1, 3, 32, 32)
    torch.testing.assert_close(load_backbone(folder)(pixels), load_backbone(vit)(pixels))


def test_processor_inside_processor_config(tmp_path, vit):
    """Where transformers 5 puts it for models that also read text."""
    folder = tmp_path / "nested"
    shutil.copytree(vit, folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    assert load_backbone(folder).config == load_backbone(vit).config


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_no_such_folder(name):
    with pytest.raises(UnknownBackbone, match="no such folder"):
        load_backbone(name)


def test_hub_id_that_can_not_be_fetched(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*args, **kwargs):
        raise LocalEntryNotFoundError("Name or service not known\nand more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UnknownBackbone, match="nobody/nothing: neither a folder") as caught:
        load_backbone("nobody/nothing")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    with pytest.raises(UnknownBackbone, match="neither a folder"):
        load_backbone("not a hub id")


def test_hub_id(monkeypatch, vit):
    """Files of a hub id come through the hub's cache; `.bin` is fetched only without the other."""
    import huggingface_hub

    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: asked.append((a, k)) or str(vit)
    )
    assert load_backbone("some/vit").config == load_backbone(vit).config
    assert [a for a, _ in asked] == [("some/vit",)]


def test_global_settings_are_left_alone(vit):
    log = transformers.utils.logging
    before = (log.get_verbosity(), log.is_progress_bar_enabled(), torch.get_rng_state())
    load_backbone(vit)
    assert before[:2] == (log.get_verbosity(), log.is_progress_bar_enabled())
    assert torch.equal(before[2], torch.get_rng_state())


def test_missing_extra(monkeypatch, vit):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"'transformers' is not installed.*antcache\[extract\]"):
        load_backbone(vit)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_is_close_to_cpu(vit):
    pixels = torch.randn(4, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    on_cpu, on_gpu = load_backbone(vit, device="cpu"), load_backbone(vit, device="cuda")
    assert on_gpu.precision == "bfloat16"
    features = on_gpu(pixels.cuda())
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.cpu(), on_cpu(pixels), rtol=0.05, atol=0.05)
