"""Token streams: what is stored is what the backbone gives, whole or pooled, as floats or int8."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from family_models import makers

from antcache.errors import BadConfig, FingerprintMismatch
from antcache.extract import (
    ExtractConfig,
    check_settings,
    extract,
    find_videos,
    load_backbone,
    make_plan,
)
from antcache.extract.token_rows import pooled
from antcache.store import Store
from antcache.store.pooling import pool
from antcache.store.quantise import quantise


@pytest.fixture(scope="module")
def vjepa2(tmp_path_factory, models, small):
    """Clips of 4 frames, tokens of 2; a predictor to which positions matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = makers(small)["vjepa2"]().eval()
        for weights in model.parameters():
            weights.data += 0.2 * torch.randn(weights.shape)
    folder = models.save(tmp_path_factory.mktemp("models") / "vjepa2", model)
    return load_backbone(folder, device="cpu")


@pytest.fixture
def folder(tmp_path, video):
    (tmp_path / "v").mkdir()
    video.write(tmp_path / "v" / "a.mkv", video.steady(60), codec="ffv1", pix_fmt="bgr0")
    return tmp_path / "v"


def clips(video, backbone, rate=4.0):
    """Pixels (R, T, 3, 32, 32) of the video's rows: 4 a second, of 2.4 s."""
    rows = []
    for row in range(10):
        back = range(backbone.num_frames - 1, -1, -1)
        seen = [Fraction(row, 4) - k / Fraction(rate) for k in back]
        pictures = np.stack([video.barcode(max(0, int(t * 25 // 1)), 48, 80) for t in seen])
        rows.append(backbone.preprocess(torch.from_numpy(pictures)))
    return torch.stack(rows)


def extracted(tmp_path, folder, backbone, **settings):
    store = Store.open_or_create(tmp_path / "s.zarr")
    stream = f"s{len(store.streams())}"
    config = ExtractConfig(**{"dtype": "float32", "batch_size": 3, "stream": stream, **settings})
    report = extract(find_videos(folder), store, backbone, config)
    assert (report.written, report.rows) == (("a",), 10)
    return store.stream(stream), store.features(stream, "a")


def test_whole_and_pooled(tmp_path, video, folder, vjepa2):
    whole = vjepa2.tokens(clips(video, vjepa2)).numpy()
    stream, features = extracted(tmp_path, folder, vjepa2, tokens="full")
    assert (stream.grid, stream.pooled_from, stream.row_shape) == ((2, 4, 4), None, (32, 32))
    assert stream.config["pooling"] == "tokens"
    assert (features.times, features.start_s, features.fps) == (None, 0.0, 4.0)
    np.testing.assert_allclose(features.read(), whole, atol=1e-4)
    for grid in ((1, 2, 4), (1, 1, 1), (2, 4, 4)):
        stream, features = extracted(tmp_path, folder, vjepa2, tokens=grid)
        assert (stream.grid, stream.pooled_from) == (grid, None if grid == (2, 4, 4) else (2, 4, 4))
        np.testing.assert_allclose(features.read(), pool(whole, (2, 4, 4), grid), atol=1e-4)


def test_int8(tmp_path, video, folder, vjepa2):
    """The round trip is within the stated bound of the rows that would have been stored."""
    _, exact = extracted(tmp_path, folder, vjepa2, tokens=(2, 2, 2))
    _, features = extracted(tmp_path, folder, vjepa2, tokens=(2, 2, 2), dtype="int8")
    values, scale = quantise(exact.read())
    np.testing.assert_array_equal(features.rows[...], values)
    np.testing.assert_array_equal(features.scale[...], scale)
    error = np.abs(features.read() - exact.read())
    assert (error <= scale.astype(np.float32)[..., None] / 2 * (1 + 1e-6)).all()
    assert error.max() > 0


@pytest.mark.parametrize("clip_fps", [4.0, 8.0])
def test_futures(tmp_path, video, folder, vjepa2, clip_fps):
    """Each lies floor(gap * clip_fps / 2) tokens of time after the clip's."""
    future = (0.25, 0.75, 1.0)
    settings = {"future": future, "clip_fps": clip_fps}
    pixels = clips(video, vjepa2, clip_fps)
    stream, features = extracted(tmp_path, folder, vjepa2, tokens="full", **settings)
    ahead = [int(gap * clip_fps // 2) for gap in future]
    assert ahead == ([0, 1, 2] if clip_fps == 4.0 else [1, 3, 4])
    assert (stream.future, stream.num_tokens) == (future, 32 + 3 * 16)
    whole = vjepa2.tokens(pixels, ahead).numpy()
    one, two, three = (whole[:, 32 + 16 * i : 48 + 16 * i] for i in range(3))
    assert not np.allclose(one, two, atol=1e-3)
    assert not np.allclose(two, three, atol=1e-3)
    np.testing.assert_allclose(features.read(), whole, atol=1e-4)
    _, features = extracted(tmp_path, folder, vjepa2, tokens=(1, 2, 2), **settings)
    np.testing.assert_allclose(features.read(), pool(whole, (2, 4, 4), (1, 2, 2)), atol=1e-4)


@pytest.mark.parametrize("futures", [0, 1, 3])
def test_pooling_on_a_device_is_that_of_the_store(futures):
    tokens = torch.randn(3, 4 * 6 * 2 + futures * 12, 5)
    for to in ((2, 3, 1), (4, 6, 2), (1, 1, 1), (4, 2, 2)):
        ours = pooled(tokens, (4, 6, 2), to)
        np.testing.assert_allclose(ours, pool(tokens.numpy(), (4, 6, 2), to), atol=1e-6)


def test_settings_are_part_of_the_fingerprint(tmp_path, folder, vjepa2):
    extracted(tmp_path, folder, vjepa2, tokens=(2, 2, 2), dtype="int8")
    store = Store.open(tmp_path / "s.zarr")
    same = {"stream": "s0", "tokens": (2, 2, 2), "dtype": "int8"}
    assert make_plan(find_videos(folder), store, vjepa2, ExtractConfig(**same)).done == ("a",)
    for other in ({"tokens": (2, 4, 2)}, {"dtype": "float16"}, {"future": (1.0,)}):
        with pytest.raises(FingerprintMismatch, match="made with other settings"):
            extract(find_videos(folder), store, vjepa2, ExtractConfig(**same | other))
    with pytest.raises(FingerprintMismatch, match="made with other settings"):
        extract(find_videos(folder), store, vjepa2, ExtractConfig(stream="s0"))


def test_the_order_of_futures_is_no_setting(tmp_path, folder, vjepa2):
    extracted(tmp_path, folder, vjepa2, tokens=(2, 2, 2), future=(0.5, 1.0), clip_fps=4.0)
    store = Store.open(tmp_path / "s.zarr")
    same = ExtractConfig(
        stream="s0", dtype="float32", tokens=(2, 2, 2), future=(1.0, 0.5), clip_fps=4.0
    )
    assert make_plan(find_videos(folder), store, vjepa2, same).done == ("a",)


def test_bytes_of_a_row(folder, vjepa2):
    def row_bytes(**settings):
        return make_plan(find_videos(folder), None, vjepa2, ExtractConfig(**settings)).row_bytes

    assert row_bytes() == 32 * 2
    assert row_bytes(tokens="full") == 32 * 32 * 2
    assert row_bytes(tokens=(2, 2, 2), dtype="int8", future=(1.0,)) == (8 + 4) * (32 + 2)


def test_the_bytes_that_the_documentation_states(repo):
    text = (repo / "docs" / "extract.md").read_text("utf-8").split("| model | tokens |")[1]
    rows = [
        [cell.strip() for cell in line.split("|")] for line in text.split("\n\n")[0].split("\n")
    ]
    for _, _, tokens, dim, dtype, stated, _ in rows[2:]:
        count = np.prod([int(side) for side in tokens.split("x")])
        each = int(dim) * np.dtype(dtype).itemsize + (2 if dtype == "int8" else 0)
        assert count * each == int(stated.replace(",", ""))
    assert len(rows) == 2 + 6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dtype": "int8"}, "`dtype` int8 only with tokens .*1x1x1"),
        ({"future": (1.0,)}, "`future` only with tokens"),
        ({"at": "windows", "future": (1.0,)}, "`future` and `at` windows only with tokens"),
        ({"tokens": "all"}, "unknown tokens: expected full, found all"),
        ({"tokens": (2, 2)}, r"wrong type: expected .*found \(2, 2\)"),
        ({"tokens": (2, 0, 2)}, r"impossible tokens\[1\]"),
        ({"tokens": "full", "future": (0.0,)}, r"impossible future\[0\]"),
        ({"tokens": "full", "future": (1.0, 1.0)}, "impossible future: expected different"),
        ({"tokens": "full", "gaps": (1.0,)}, "`gaps` only with `at` windows"),
        ({"tokens": "full", "splits": ("a",), "anchors": (0.5,)}, "`anchors`, `splits` only"),
        ({"tokens": "full", "at": "windows", "anchors": (1.5,)}, r"impossible anchors\[0\]"),
        ({"tokens": "full", "at": "windows", "gaps": (1.0, 1.0)}, "impossible gaps"),
        ({"tokens": "full", "at": "frames"}, "unknown at: expected uniform or windows"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(BadConfig, match=words):
        ExtractConfig(**settings)


class Endless:
    """More tokens than a row may have."""

    fingerprint, dim, num_frames = "endless 1", 1, 1

    def __init__(self, times):
        self.grid = (times, 1024, 1024)

    def preprocess(self, pictures):
        return pictures.float().mean((1, 2, 3))

    def __call__(self, pixels):
        return pixels

    def tokens(self, pixels):
        return pixels[:, :, None].expand(-1, self.grid[0] << 20, -1)


def test_rows_that_no_store_holds():
    """Are refused before a store is made."""
    with pytest.raises(BadConfig, match=r"impossible grid: expected tokens .* at most 1048576"):
        check_settings(Endless(2), ExtractConfig(tokens="full"))
    check_settings(Endless(1), ExtractConfig(tokens="full"))


def test_what_a_backbone_can_not_give(folder, vjepa2, vit, tmp_path, models, small):
    def refused(backbone, words, **settings):
        with pytest.raises(BadConfig, match=words) as error:
            make_plan(find_videos(folder), None, backbone, ExtractConfig(**settings))
        assert "\n" not in str(error.value)

    refused(vjepa2, "can't be pooled .*divide 2x4x4, found 2x3x4", tokens=(2, 3, 4))
    refused(vjepa2, "can't be pooled", tokens=(4, 4, 4))
    twice = {"tokens": "full", "future": (1.25, 0.25, 1.0), "clip_fps": 4.0}
    refused(vjepa2, "`future` has two times .*steps of 0.5 s, found 1 and 1.25 s", **twice)
    vit = load_backbone(vit, device="cpu")
    refused(vit, "`future` is for backbones that predict", tokens="full", future=(1.0,))
    xclip = load_backbone(models.save(tmp_path / "m", makers(small)["xclip"]()), device="cpu")
    refused(xclip, "no grid of tokens.*its frames see one another", tokens="full")
