"""Tokens of the last layer lie where the pictures that they are made of lie."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
import transformers
from family_models import makers

from antcache.extract.backbone import load_backbone
from antcache.extract.families import FAMILIES, Family
from antcache.extract.token_grid import token_grid

WITHOUT = {"siglip2", "siglip2_vision_model", "timm_wrapper", "xclip"}
"""Families that have none, or none that a model here could show."""
MAPS = {"convnext", "convnextv2", "efficientnet", "mobilenet_v2", "resnet"}
"""Families whose last layer is a map of features; in most, each place of it sees the whole."""
TIMES = {"videomae": 2, "timesformer": 4, "vivit": 2, "vjepa2": 2}
TIMES |= {"videoprism": 4, "videoprism_vision_model": 4}
"""Tokens of time in clips of 4 frames."""


def load(folder, models, model, height=32, width=32):
    """The backbone of a model, for pictures of this size."""
    size = {"height": height, "width": width}
    processor = {**models.processor, "size": size}
    return load_backbone(models.save(folder, model.eval(), processor), device="cpu")


def made(maker):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return maker().eval()


def share_in_place(backbone, height, width):
    """Part of the tokens that change most, of all, where what they are of is changed."""
    times, rows, columns = backbone.grid
    frames = backbone.num_frames
    numbers = torch.Generator().manual_seed(1)
    pixels = 0.1 * torch.randn(1, frames, 3, height, width, generator=numbers)
    before = backbone.tokens(pixels)
    assert before.shape == (1, times * rows * columns, backbone.dim)
    assert before.dtype == torch.float32
    found = []
    for time, row, column in itertools.product(range(times), range(rows), range(columns)):
        changed = pixels.clone()
        here = changed[
            :,
            time * frames // times : (time + 1) * frames // times,
            :,
            row * height // rows : (row + 1) * height // rows,
            column * width // columns : (column + 1) * width // columns,
        ]
        here.copy_(3 * torch.randn(here.shape, generator=numbers))
        found.append(int((backbone.tokens(changed) - before).norm(dim=2).argmax()))
    return sum(token == place for place, token in enumerate(found)) / len(found)


@pytest.mark.parametrize("kind", sorted(FAMILIES.keys() - WITHOUT - MAPS))
def test_tokens_lie_where_they_are_of(tmp_path, models, small, kind):
    edge = 96 if kind == "dinov3_convnext" else 32  # a token of its is of 32 x 32 pixels
    backbone = load(tmp_path / kind, models, made(makers(small)[kind]), edge, edge)
    assert backbone.grid[0] == TIMES.get(kind, 1)
    assert backbone.grid[1] == backbone.grid[2] > 2
    # With random weights, a few react more to their neighbours; in another order, most would.
    assert share_in_place(backbone, edge, edge) > 0.8


@pytest.mark.parametrize("kind", sorted(MAPS))
def test_maps_of_features(tmp_path, models, small, kind):
    model = made(makers(small)[kind])
    backbone = load(tmp_path / kind, models, model, 96, 96)
    numbers = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 1, 3, 96, 96, generator=numbers)
    with torch.no_grad():
        vision = getattr(model, model.base_model_prefix, model)
        maps = vision(pixel_values=pixels[:, 0]).last_hidden_state
    assert backbone.grid == (1, *maps.shape[2:])
    tokens = backbone.tokens(pixels).view(2, *maps.shape[2:], backbone.dim)
    largest = float(maps.abs().max())  # sums of large numbers in which small ones are left
    torch.testing.assert_close(tokens.permute(0, 3, 1, 2), maps, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("kind", ["siglip2", "siglip2_vision_model", "xclip"])
def test_families_without(tmp_path, models, small, kind):
    backbone = load(tmp_path / kind, models, made(makers(small)[kind]))
    assert backbone.grid is None
    assert backbone.no_grid == FAMILIES[kind].no_grid != ""


def test_pictures_that_are_not_square(tmp_path, models, small):
    backbone = load(tmp_path / "model", models, made(makers(small)["dinov3_vit"]), 32, 64)
    assert backbone.grid == (1, 4, 8)
    assert share_in_place(backbone, 32, 64) > 0.8


def test_what_a_model_has_unrolled(tmp_path, models):
    """Hiera that pools less often than it has stages gives its tokens in another order."""
    settings = {"embed_dim": 8, "image_size": [32, 32], "patch_stride": [2, 2]}
    settings |= {"depths": [1, 1, 1], "num_heads": [1, 2, 4], "num_query_pool": 1}
    config = transformers.HieraConfig(**settings, query_stride=[2, 2])
    model = made(lambda: transformers.HieraModel(config))
    backbone = load(tmp_path / "model", models, model)
    pixels = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = model(pixel_values=pixels[:, 0], output_hidden_states=True)
    rolled = output.reshaped_hidden_states[-1]
    assert backbone.grid == (1, *rolled.shape[1:3]) == (1, 8, 8)
    torch.testing.assert_close(backbone.tokens(pixels), rolled.flatten(1, 2))
    assert not torch.allclose(output.last_hidden_state, rolled.flatten(1, 2))


@pytest.mark.parametrize("kind", ["vjepa2", "videomae", "videoprism_vision_model"])
def test_their_mean_is_the_feature(tmp_path, models, small, kind):
    """Of families whose feature that is: nothing is left out, nothing is there twice."""
    backbone = load(tmp_path / kind, models, made(makers(small)[kind]))
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(backbone.tokens(pixels).mean(1), backbone(pixels))


TOKENS = torch.arange(2 * 14.0).view(2, 14, 1)
PIXELS = torch.zeros(2, 1, 3, 32, 48)


def of(hidden, pixels=PIXELS, **timm):
    """The grid of a timm model."""
    family = Family(model="", pooling="", reason="", processor="", lead=5)
    model = SimpleNamespace(config=SimpleNamespace())
    if timm:
        model.timm_model = SimpleNamespace(**timm)
    return token_grid(hidden, pixels, model, family)


def test_timm_says_how_its_tokens_lie():
    """Of which a family knows nothing: each of its models is another."""
    ours = of(TOKENS, num_prefix_tokens=8)
    assert ours.shape == (2, 1, 2, 3, 1)
    assert ours.flatten().tolist() == TOKENS[:, 8:].flatten().tolist()
    maps = torch.arange(2 * 24.0).view(2, 2, 3, 4)
    assert of(maps, output_fmt="NHWC").flatten().tolist() == maps.flatten().tolist()
    assert of(maps, output_fmt="NCHW").shape == (2, 1, 3, 4, 2)
    assert of(maps, no="words").shape == (2, 1, 3, 4, 2)


@pytest.mark.parametrize(
    "hidden",
    [
        TOKENS,  # 9 tokens of 32 x 48 pixels
        TOKENS[:, :5],  # none but those of no place
        TOKENS[:, :6],
        TOKENS[:1],  # not one for each row
        TOKENS[:, 0],
    ],
)
def test_what_is_no_grid(hidden):
    assert of(hidden) is None
    assert of(TOKENS[:, :11]).shape == (2, 1, 2, 3, 1)


def test_predicted_futures(tmp_path, models, small):
    """They follow the grid's tokens, each at the position that V-JEPA 2's evaluation asks for."""
    model = made(makers(small)["vjepa2"]).vjepa2
    numbers = torch.Generator().manual_seed(2)
    for weights in model.parameters():  # mask tokens are zeros, for which positions are alike
        weights.data += 0.2 * torch.randn(weights.shape, generator=numbers)
    backbone = load(tmp_path / "model", models, model)
    pixels = torch.randn(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert backbone.predicts
    tokens = backbone.tokens(pixels, ahead=(0, 3))
    torch.testing.assert_close(tokens[:, :32], backbone.tokens(pixels))
    assert tokens.shape == (3, 32 + 2 * 16, 32)
    for place, steps in ((32, 0), (48, 3)):
        first = 32 + 16 * steps
        seen, asked = torch.arange(32).repeat(3, 1), torch.arange(first, first + 16).repeat(3, 1)
        with torch.no_grad():
            encoded = model.encoder(pixels).last_hidden_state
            expected = model.predictor(encoded, [seen], [asked]).last_hidden_state
        torch.testing.assert_close(tokens[:, place : place + 16], expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(tokens[:, 32:48], tokens[:, 48:], atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["vjepa2", "hiera", "swin"])
def test_gpu_is_close_to_cpu(tmp_path, models, small, kind):
    folder = tmp_path / kind
    on_cpu = load(folder, models, made(makers(small)[kind]))
    on_gpu = load_backbone(folder, device="cuda")
    numbers = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, on_cpu.num_frames, 3, 32, 32, generator=numbers)
    ahead = (0, 2) if on_cpu.predicts else ()
    tokens = on_gpu.tokens(pixels.cuda(), ahead)
    assert tokens.dtype == torch.float32
    torch.testing.assert_close(tokens.cpu(), on_cpu.tokens(pixels, ahead), rtol=0.05, atol=0.05)
