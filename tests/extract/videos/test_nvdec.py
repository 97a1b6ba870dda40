"""NVIDIA's decoder gives the CPU's pictures, and where there is none, that is said at once."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import BadConfig
from antcache.extract import ExtractConfig
from antcache.extract.plan import check_settings
from antcache.extract.videos import nvdec
from antcache.extract.videos.decode import VideoSampler
from antcache.extract.videos.film_frames import FilmFile

LEVELS = 0
"""By which pictures may differ, of 255: the codecs prescribe every bit, and the rest is ours."""


class Colours:
    dim, num_frames, fingerprint = 3, 1, "the mean colour"

    def preprocess(self, pictures):
        return pictures.float().mean(dim=(1, 2))

    def __call__(self, pixels):
        return pixels.flatten(1)


def same_picture(depth, layouts):
    """One picture in two layouts: three planes, and a plane of luma and one of chroma."""
    rng = np.random.default_rng(0)
    kind = np.uint8 if depth == 8 else np.uint16
    y, u, v = (rng.integers(0, 1 << depth, size, kind) for size in ((48, 80), (24, 40), (24, 40)))
    shift = 0 if depth == 8 else 16 - depth
    planes = ((y, u, v), (y << shift, np.stack([u, v], 2).reshape(24, 80) << shift))
    frames = []
    for layout, values in zip(layouts, planes, strict=True):
        frame = av.VideoFrame(80, 48, layout)
        for plane, each in zip(frame.planes, values, strict=True):
            padded = np.zeros((plane.height, plane.line_size), np.uint8)
            rows = np.ascontiguousarray(each).view(np.uint8)
            padded[:, : rows.shape[1]] = rows
            plane.update(padded.tobytes())
        frames.append(frame)
    return frames


@pytest.mark.parametrize("colorspace", [1, 2, 6, 9])
@pytest.mark.parametrize(
    ("depth", "color_range", "layouts"),
    [
        (8, ColorRange.MPEG, ("yuv420p", "nv12")),
        (8, ColorRange.UNSPECIFIED, ("yuv420p", "nv12")),
        (8, ColorRange.JPEG, ("yuvj420p", "nv12")),
        (10, ColorRange.MPEG, ("yuv420p10le", "p010le")),
        (10, ColorRange.JPEG, ("yuv420p10le", "p010le")),
    ],
)
def test_the_layout_of_a_gpu_is_brought_to_that_of_the_cpu(depth, color_range, layouts, colorspace):
    cpu, gpu = same_picture(depth, layouts)
    for frame in (cpu, gpu):
        frame.color_range, frame.colorspace = color_range, colorspace
    back = nvdec.as_on_cpu(gpu)
    assert back.format.name == layouts[0]
    expected = cpu.to_ndarray(format="rgb24")
    assert np.array_equal(back.to_ndarray(format="rgb24"), expected)
    assert np.ptp(expected) > 200
    assert nvdec.as_on_cpu(cpu) is cpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there may be such a decoder here")
def test_without_a_gpu_it_is_refused():
    with pytest.raises(BadConfig, match=r"no NVIDIA decoder here.*`decoder` cpu"):
        check_settings(Colours(), ExtractConfig(decoder="nvdec"))
    check_settings(Colours(), ExtractConfig(decoder="cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there may be such a decoder here")
def test_the_command_ends_before_anything_is_made(tmp_path, video, vit):
    path = video.write(tmp_path / "v.mp4", video.steady(10))
    words = ["extract", str(path), str(tmp_path / "s.zarr"), "--backbone", str(vit)]
    done = CliRunner().invoke(cli, [*words, "--decoder", "nvdec"])
    assert done.exit_code == 2
    assert "no NVIDIA decoder here" in done.output
    assert "--decoder cpu" in done.output
    assert sorted(each.name for each in tmp_path.iterdir()) == ["v.mp4"]


def test_an_old_pyav_is_refused(monkeypatch):
    monkeypatch.setattr(av, "__version__", "17.1.0")
    with pytest.raises(BadConfig, match=r"PyAV is too old.*expected 18\.0.*found 17\.1\.0"):
        nvdec.check_decoder("nvdec")


FORMS = {
    "h264": {"codec": "libx264", "b_frames": 3},
    "h264, turned": {"codec": "libx264", "rotation": 90},
    "h264, full range": {"codec": "libx264", "pix_fmt": "yuvj420p"},
    "hevc": {"codec": "libx265", "b_frames": 3, "size": (144, 256)},
    "hevc, 10 bits": {"codec": "libx265", "pix_fmt": "yuv420p10le", "size": (144, 256)},
    "vp9": {"codec": "libvpx-vp9", "size": (144, 256)},
    "by the CPU": {"codec": "libx264", "pix_fmt": "yuv444p10le"},
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("rate", [1, 25])
def test_pictures_of_a_gpu(tmp_path, video, name, rate):
    path = video.write(tmp_path / "v.mkv", video.steady(60), **FORMS[name])
    pictures = [
        list(VideoSampler(FilmFile(path, decoder=decoder), rate=Fraction(rate)))
        for decoder in ("cpu", "nvdec")
    ]
    assert [tick for tick, _ in pictures[0]] == [tick for tick, _ in pictures[1]]
    for (_, cpu), (_, gpu) in zip(*pictures, strict=True):
        assert cpu.shape == gpu.shape
        assert np.abs(cpu.astype(int) - gpu).max() <= LEVELS
