"""`benchmarks/tokens.py` in small; what it does on a GPU too, so it does not fail there first."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokens
import tokens_gpu
import tokens_model
import torch
from tokens_model import Size

from antcache.extract.backbone import Backbone, load_backbone

TINY = Size(width=32, layers=1, heads=2, frames=4, pixels=64, kept=(2, 2, 2), predictor=(24, 1, 2))
"""Sixteen times as many tokens as are kept would take long; four are enough here."""


def test_every_figure_on_record_is_measured(recorded, tmp_path: Path) -> None:
    found = tokens.on_cpu(tmp_path, 2, 8, full=TINY, small=TINY, short=TINY)
    assert {figure.figure for figure in found} == recorded("tokens")
    assert all(np.isfinite(figure.value) and figure.value >= 0 for figure in found)
    bounds = {f.figure: (f.at_least, f.at_most) for f in found if f.at_least or f.at_most}
    assert bounds == {
        "probe: cache, packed over encoder for every sample": (20.0, None),
        "logits: error of int8 over whole": (None, 1.0),
    }


def test_sides_train_on_the_same_tokens(tmp_path: Path) -> None:
    """Up to how they are stored: int8 within half a scale, float16."""
    sides = tokens.make_sides(tmp_path, TINY)
    cache, streamed, encoder, whole = sides.values()
    order = torch.arange(2 * tokens.BATCH).flip(0)
    for side, bound in ((encoder, 1 / 254), (whole, 1e-3)):
        assert side.batches is not None
        stored = side.trainer.windows.batches(order, tokens.BATCH)
        for (rows, made), (same_rows, kept) in zip(side.batches(order), stored, strict=True):
            assert torch.equal(rows, same_rows)
            peaks = made.abs().amax(-1, keepdim=True)
            assert ((made - kept.float()).abs() <= 1.01 * bound * peaks).all()
            assert not torch.equal(made, kept.float())
    for side in (streamed, encoder):
        pairs = zip(side.trainer.model.parameters(), cache.trainer.model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert np.array_equal(
            side.trainer.windows.labels.action, cache.trainer.windows.labels.action
        )


def test_bytes_by_hand(tmp_path: Path) -> None:
    """Values, a float16 scale of each int8 token, a float64 time; and Zarr's own files."""
    size = replace(TINY, width=512)
    found = {f.figure: f for f in tokens.bytes_of_clips(tmp_path, size, 8)}
    for form, grid in (("whole", size.grid), ("pooled", size.kept)):
        count = int(np.prod(grid))
        for dtype, token in (("float16", 2 * 512), ("int8", 512 + 2)):
            measured = 1e6 * found[f"disk: a clip, {form}, {dtype}"].value
            assert 0 <= measured - (count * token + 8) < 1_000
            all_of_it = 1e9 * found[f"disk: EK100, {form}, {dtype}"].value
            assert all_of_it == pytest.approx(76_885 * measured, abs=76_885 * 100)  # as rounded


def test_the_sizes_are_the_published_ones() -> None:
    assert tokens_model.VIT_L.grid == (16, 16, 16)
    eighth = tokens_model.EIGHTH
    assert (8 * eighth.width, 8 * np.prod(eighth.grid)) == (1024, 16**3)
    for size in (tokens_model.VIT_L, eighth, tokens.SHORT):
        assert np.prod(size.grid) == 16 * np.prod(size.kept)


def test_the_figures_of_a_gpu_are_all_measured(tmp_path: Path) -> None:
    small = {"layers": 1, "heads": 2, "batch_size": 4, "compile": "off"}
    found = tokens_gpu.on_gpu(
        tmp_path, TINY, torch.device("cpu"), batch=2, batches=2, training=10, side=64, **small
    )
    assert all(figure.value >= 0 for figure in found)
    assert {f.figure: f.at_least for f in found if f.at_least} == {
        "the probe: share of the matrix-product rate": 50.0
    }
    named = " ".join(figure.figure for figure in found)
    for part in ("1,000 clips", "epoch", "peak memory of extraction", "64 GPUs", "one GPU"):
        assert part in named


def test_projection_by_hand() -> None:
    """An hour has 3,600 s; 0.1 s a clip and 10 s an epoch."""
    hours = [figure.value for figure in tokens_gpu.projection(0.1, 10.0)]
    extraction, probes = 7_688.5 / 3600, 20 * 20 * 10 / 3600
    encoder = 20 * 6_721.7 / 3600
    expected = [extraction, probes, extraction + probes, encoder / 64, encoder]
    assert hours == pytest.approx(expected, abs=1e-4)


def test_operations_of_a_step_by_hand() -> None:
    """Two for each weight and token, forward, and twice that backward; in bfloat16, since what
    PyTorch's fused attention takes in float32 on a CPU is not counted."""
    width, layers, batch = 64, 2, 8
    size = replace(TINY, width=width)
    trainer = tokens_model.make_trainer(
        tokens_gpu.random_pack(size, batch, torch.device("cpu")),
        layers=layers,
        heads=4,
        batch_size=batch,
        precision="bfloat16",
        compile="off",
    )
    per_row, queries = 3 * 2 * 2, 3  # (2 + 1 of the future) x 2 x 2
    block = 12 * width**2 * per_row + 2 * per_row**2 * width
    cross = 2 * width**2 * per_row + 9 * width**2 * queries + 2 * per_row * queries * width
    classes = width * (3_806 + 97 + 300)
    expected = 3 * 2 * batch * (layers * block + cross + classes)
    assert tokens_gpu.step_flops(trainer) == pytest.approx(expected, rel=0.02)


def test_a_pack_of_made_up_tokens_is_like_one_that_is_read(tmp_path: Path) -> None:
    """Shapes and types, so that an epoch over it is one over the cache."""
    tokens_of = tokens.random_tokens(6, 8 + 4, TINY.width)
    path = tmp_path / "store"
    rows = tokens_model.windows_of(tokens_model.write_clips(path, tokens_of, (3, 2, 2), "int8"))
    read = tokens.PackedFeatures.gather([rows], tokens.CPU)
    made = tokens_gpu.random_pack(TINY, 6, tokens.CPU)
    assert made.shape == read.shape
    for name in ("values", "scale", "places"):
        a, b = (getattr(pack.streams[0], name) for pack in (made, read))
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert made.num_bytes == read.num_bytes
    batches = [next(iter(pack.batches(torch.arange(6), 4)))[1] for pack in (made, read)]
    assert batches[0].dtype == batches[1].dtype == torch.float32
    assert all(torch.isfinite(batch).all() for batch in batches)


def test_weights_take_clips_of_any_length(tmp_path: Path) -> None:
    """As docs/tokens.md has it: 32 frames in `config.json` of a checkpoint that was made for 64."""
    longer = tokens_model.make_backbone(replace(TINY, frames=8), tmp_path, "cpu")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    assert config["frames_per_clip"] == 8
    path.write_text(json.dumps(config | {"frames_per_clip": 4}))
    shorter = load_backbone(tmp_path, device="cpu")
    assert isinstance(shorter, Backbone)
    assert (longer.grid, shorter.grid) == ((4, 4, 4), (2, 4, 4))
    assert shorter.config["weights"] == longer.config["weights"]
    found = shorter.tokens(torch.randn(2, 4, 3, 64, 64), (1,))
    assert found.shape == (2, 3 * 16, TINY.width)
    assert torch.isfinite(found).all()


def test_clips_show_their_colours() -> None:
    """So that there is something to learn: the brightest part of each is its square."""
    pixels, colour = tokens_model.made_up_clips(12, TINY)
    assert pixels.shape == (12, 4, 3, 64, 64)
    assert len(set(colour.tolist())) > 3
    for clip, which in zip(pixels, colour.tolist(), strict=True):
        means = clip.mean(dim=(0, 2, 3))
        assert [bool(mean > 0) for mean in means] == [bool(which >> bit & 1) for bit in range(3)]


def test_a_step_trains() -> None:
    trainer = tokens_model.make_trainer(
        tokens_gpu.random_pack(TINY, 9, torch.device("cpu")), layers=1, heads=2, batch_size=4
    )
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    for _ in itertools.islice(tokens_model.steps(trainer), 3):  # past the end of an epoch
        pass
    after = list(trainer.model.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
