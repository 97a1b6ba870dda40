"""Backbones of one's own: what they give is stored, and what is none is refused."""

from __future__ import annotations

import re
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import BadConfig, FingerprintMismatch, UnknownBackbone
from antcache.extract import ExtractConfig, extract, find_videos, load_backbone, make_plan
from antcache.extract.own import try_own
from antcache.store import Store


class Means:
    """Mean colour, and what is asked of it beside; a clip's frames lie behind one another."""

    fingerprint = "means 1"

    def __init__(self, num_frames=1, **attributes):
        self.num_frames, self.dim = num_frames, 3 * num_frames
        vars(self).update(attributes)

    def preprocess(self, pictures):
        return pictures.float().mean((1, 2)) / 255

    def __call__(self, pixels):
        return pixels.flatten(1)


@pytest.fixture
def folder(tmp_path, video):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, number in (("a", 50), ("b", 75)):
        video.write(videos / f"{name}.mkv", video.steady(number), codec="ffv1", pix_fmt="bgr0")
    return videos


def means(video, numbers):
    return np.stack([video.barcode(n, 48, 80).mean((0, 1)) / 255 for n in numbers])


def test_rows_are_what_it_gives(tmp_path, video, folder):
    store = Store.create(tmp_path / "s.zarr")
    report = extract(find_videos(folder), store, Means(), ExtractConfig(dtype="float32"))
    assert (report.written, report.rows) == (("a", "b"), 8 + 12)
    shown = [int(Fraction(row, 4) * 25) for row in range(12)]
    rows = store.features("rgb", "b").read()
    np.testing.assert_allclose(rows, means(video, shown), atol=1e-5)
    stream = store.stream("rgb")
    assert stream.dim == 3
    assert stream.config["family"] == "own"
    assert stream.config["fingerprint"] == "means 1"
    assert stream.source.endswith(".Means")


@pytest.mark.parametrize("asked", [None, 5.0])
def test_a_clip_ends_at_its_row(tmp_path, video, folder, asked):
    """Its newest frame is the row's; frames before the video repeat the first."""
    clip_fps = asked or 12.5
    store = Store.create(tmp_path / "s.zarr")
    config = ExtractConfig(dtype="float32", clip_fps=asked, batch_size=3)
    extract(find_videos(folder), store, Means(2, clip_fps=12.5), config)
    rows = store.features("rgb", "a").read()
    for row, features in enumerate(rows):
        times = (Fraction(row, 4) - 1 / Fraction(clip_fps), Fraction(row, 4))
        numbers = [max(0, int(t * 25 // 1)) for t in times]
        np.testing.assert_allclose(features, means(video, numbers).ravel(), atol=1e-5)
    assert store.stream("rgb").config["clip"] == {"frames": 2, "fps": clip_fps}


def test_a_clip_needs_a_rate(folder):
    with pytest.raises(BadConfig, match=r"`clip_fps` is needed.*the 2 frames"):
        make_plan(find_videos(folder), None, Means(2), ExtractConfig())


def test_the_fingerprint_tells_features_apart(tmp_path, folder):
    store = Store.create(tmp_path / "s.zarr")
    videos = find_videos(folder)
    extract(videos, store, Means())
    assert extract(videos, store, Means(), ExtractConfig()).skipped == ("a", "b")
    with pytest.raises(FingerprintMismatch, match=r"means 1.*means 2"):
        extract(videos, store, Means(fingerprint="means 2"))


class Cells(Means):
    """Also the mean colours of the halves of each frame, as tokens of a grid."""

    def __init__(self, num_frames=1, **attributes):
        super().__init__(num_frames, **{"dim": 3, "grid": (num_frames, 1, 2), **attributes})

    def preprocess(self, pictures):
        halves = pictures.float().unflatten(2, (2, -1)).mean((1, 3)) / 255
        return halves.view(-1, 2, 3)

    def __call__(self, pixels):
        return pixels.mean((1, 2))

    def tokens(self, pixels):
        return pixels.flatten(1, 2)


def giving(output, **attributes):
    """Gives `output(pixels)` as its tokens."""
    own = type("Giving", (Cells,), {"tokens": lambda self, pixels: output(pixels)})()
    vars(own).update(attributes)
    return own


def test_tokens_of_ones_own():
    tried = try_own(Cells(2, clip_fps=4.0))
    assert tried.grid == (2, 1, 2)
    pixels = torch.rand(5, 2, 2, 3)
    assert torch.equal(tried.tokens(pixels), pixels.flatten(1, 2))
    assert torch.equal(tried(pixels), pixels.mean((1, 2)))
    assert try_own(Means()).grid is None


class Uncallable:
    dim, num_frames, fingerprint = 3, 1, "means 1"
    preprocess = Means.preprocess


class Unready(Means):
    """One whose weights are not there yet has no rate to tell."""

    @property
    def clip_fps(self):
        raise RuntimeError("no weights")


class Noisy(Means):
    def __call__(self, pixels):
        return pixels.flatten(1) + 1e-6 * torch.rand(len(pixels), 1)


class Remembering(Means):
    seen = 0.0

    def __call__(self, pixels):
        self.seen = 0.5 * self.seen + pixels.flatten(1)
        return self.seen


class BatchNormed(Means):
    """Its author forgot `eval()`."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)

    def __call__(self, pixels):
        return self.norm(pixels.flatten(1).repeat(2, 1))[: len(pixels)]


class Augmenting(Means):
    def preprocess(self, pictures):
        return super().preprocess(pictures) + torch.rand(1)


class OneBuffer(Means):
    buffer = torch.zeros(1, 3)

    def preprocess(self, pictures):
        return self.buffer.copy_(super().preprocess(pictures))


class Growing(Means):
    """As large as the pictures that it has seen."""

    calls = 0

    def preprocess(self, pictures):
        self.calls += 1
        return torch.zeros(1, self.calls)


def returning(output):
    """Gives `output(pixels)`."""
    return type("Returning", (Means,), {"__call__": lambda self, pixels: output(pixels)})()


def preparing(output):
    """Prepares `output(pictures)`."""
    return type("Preparing", (Means,), {"preprocess": lambda self, pictures: output(pictures)})()


def fails(_):
    raise RuntimeError("no such kernel\nand much more")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (object(), "object: its `dim` is missing: expected a whole number above 0"),
        (Means(dim=None), "its `dim` is missing"),
        (Means(dim=0), "impossible `dim`.*found 0"),
        (Means(dim=True), "impossible `dim`.*found True"),
        (Means(1.0, dim=3), "impossible `num_frames`.*found 1.0"),
        (Means(fingerprint=None), "its `fingerprint` is missing: expected a text"),
        (Means(fingerprint=" "), "impossible `fingerprint`"),
        (Means(fingerprint=b"1"), "impossible `fingerprint`"),
        (Means(preprocess=None), "its `preprocess` is missing"),
        (Means(clip_fps=0), "impossible `clip_fps`.*found 0"),
        (Means(clip_fps=float("nan")), "impossible `clip_fps`.*found nan"),
        (Unready(), r"can't be used \(RuntimeError\): found no weights"),
        (Uncallable(), r"it can't be called: expected __call__\(pixels\)"),
        (Means(device="warp"), "can't be used"),
        (Means(dim=4), r"another shape.*expected a tensor \(2, 4\).*found \(2, 3\) float32"),
        (returning(lambda p: p), r"another shape.*found \(2, 1, 3\)"),
        (returning(lambda p: p.flatten(1)[:1]), r"another shape.*found \(1, 3\)"),
        (returning(lambda p: p.flatten(1).long()), r"or type.*found \(2, 3\) int64"),
        (returning(lambda p: p.flatten(1).numpy()), "or type.*found ndarray"),
        (returning(lambda p: None), "or type.*found nothing"),
        (returning(lambda p: p.flatten(1) / 0), "infinite or not a number: found 6 of 6"),
        (returning(lambda p: p.flatten(1) * torch.nan), "infinite or not a number"),
        (returning(fails), r"can't be used \(RuntimeError\): found no such kernel$"),
        (preparing(fails), r"can't be used \(RuntimeError\): found no such kernel$"),
        (preparing(lambda p: p.numpy()), "`preprocess` gives something else.*found ndarray"),
        (preparing(lambda p: p[0]), r"something else.*found \(120, 160, 3\) uint8"),
        (Cells(grid=(1, 2)), r"impossible `grid`: expected three whole.*found \(1, 2\)"),
        (Cells(grid=(1, 0, 2)), "impossible `grid`"),
        (Cells(grid=2), "impossible `grid`"),
        (Cells(tokens=None), "its `tokens` is missing"),
        (Cells(grid=(1, 2, 2)), r"another shape.*tensor \(2, 4, 3\).*found \(2, 2, 3\)"),
        (giving(lambda p: p.flatten(1)), r"another shape.*\(2, 2, 3\).*found \(2, 6\)"),
        (giving(lambda p: p.flatten(1, 2) * torch.nan), "infinite or not a number"),
        (giving(lambda p: p.flatten(1, 2) + torch.rand(1)), "changes from call to call"),
        (giving(lambda p: p.flatten(1, 2) * len(p)), "depends on the rows"),
        (giving(fails), r"can't be used \(RuntimeError\)"),
        (Noisy(), "its output changes from call to call"),
        (Remembering(), "its output changes from call to call"),
        (BatchNormed(), "its output depends on the rows"),
        (Augmenting(), "the pixels that `preprocess` gives change"),
        (OneBuffer(), "the pixels that `preprocess` gives change"),
        (Growing(), "`preprocess` gives pixels of differing shapes"),
    ],
)
def test_what_is_none_is_refused_before_any_video(tmp_path, own, message):
    store = Store.create(tmp_path / "s.zarr")
    with pytest.raises(UnknownBackbone, match=message) as caught:
        extract({"a": tmp_path / "not-looked-at.mp4"}, store, own)
    assert "\n" not in str(caught.value)
    assert store.streams() == []


class OwnShapes(Means):
    """Prepares a picture of an odd number larger than one of an even number."""

    def preprocess(self, pictures):
        odd = pictures[0, :, 0].min() > 127  # the first bar; not the noise of the trial
        return torch.stack([super().preprocess(pictures)] * (2 if odd else 1), 1)

    def __call__(self, pixels):
        return pixels.mean(2).flatten(1)


def test_pixels_may_change_their_shape_from_row_to_row(tmp_path, video, folder):
    """As where the pictures of a film change theirs: each row is as if it were alone."""
    store = Store.create(tmp_path / "s.zarr")
    config = ExtractConfig(fps=25.0, dtype="float32")
    report = extract(find_videos(folder), store, OwnShapes(), config)
    assert (report.written, report.failed) == (("a", "b"), ())
    rows = store.features("rgb", "a").read()
    np.testing.assert_allclose(rows, means(video, range(50)), atol=1e-5)


def test_but_not_within_a_clip(tmp_path, folder):
    """That video is listed; the pass goes on."""
    store = Store.create(tmp_path / "s.zarr")
    own = OwnShapes(2, clip_fps=25.0)
    report = extract(find_videos(folder), store, own, ExtractConfig(fps=25.0))
    assert [each.video for each in report.failed] == ["a", "b"]
    assert all("change their shape within a clip" in each.error for each in report.failed)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda p: p.flatten(1) / (len(p) < 3), "infinite or not a number"),
        (lambda p: p.flatten(1)[:2], "another shape"),
    ],
)
def test_what_shows_later_ends_the_pass(tmp_path, folder, output, message):
    """With larger batches than those of the trial; no video is half there."""
    store = Store.create(tmp_path / "s.zarr")
    with pytest.raises(UnknownBackbone, match=message):
        extract(find_videos(folder), store, returning(output), ExtractConfig(batch_size=8))
    assert store.videos("rgb") == []


MODULE = """
import torch

class Means:
    dim, num_frames, fingerprint = 3, 1, "means 1"

    def __init__(self, device):
        assert device == torch.device("cpu")
        self.device = device

    def preprocess(self, pictures):
        return pictures.float().mean((1, 2)) / 255

    def __call__(self, pixels):
        return pixels.flatten(1)

number = 3

def broken(device):
    raise OSError("no weights\\nanywhere")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Name of a module in a package in the working folder."""
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "backbones.py").write_text(MODULE)
    (tmp_path / "mypackage" / "spoilt.py").write_text("1 / 0")
    (tmp_path / "mypackage" / "lacking.py").write_text("import not_installed_anywhere")
    monkeypatch.chdir(tmp_path)
    yield "mypackage.backbones"
    for name in [name for name in sys.modules if name.split(".")[0] == "mypackage"]:
        del sys.modules[name]


def run(*arguments):
    return CliRunner().invoke(cli, ["extract", *map(str, arguments)])


def test_the_command_imports_it(tmp_path, folder, module):
    """As the library, with what lies in the working folder; and where Python looks is as before."""
    before = list(sys.path)
    result = run(folder, "s.zarr", "--backbone", f"{module}:Means", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert sys.path == before
    stream = Store.open(tmp_path / "s.zarr").stream("rgb")
    assert (stream.source, stream.config["fingerprint"]) == (f"{module}:Means", "means 1")
    library = Store.create(tmp_path / "library.zarr")
    extract(find_videos(folder), library, load_backbone(f"{module}:Means", device="cpu"))
    assert library.stream("rgb") == stream


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("mypackage.nowhere:Means", "can't be imported: found no module mypackage.nowhere"),
        ("mypackage.lacking:Means", "can't be imported: found no module not_installed_anywhere"),
        ("mypackage.spoilt:Means", r"can't be imported \(ZeroDivisionError\)"),
        ("mypackage.backbones:Median", "no function or class Median.*found nothing"),
        ("mypackage.backbones:number", "no function or class number.*found int"),
        ("mypackage.backbones:broken", r"can't be used \(OSError\): found no weights"),
        ("mypackage.backbones:Means()", "neither a folder here nor a model"),
        ("some/repository:Means", "neither a folder here nor a model"),
    ],
)
@pytest.mark.usefixtures("module")
def test_bad_names(tmp_path, folder, backbone, message, monkeypatch):
    """One line, exit code 2, and nothing is written."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = {p for p in tmp_path.rglob("*") if "__pycache__" not in p.parts}
    result = run(folder, "s.zarr", "--backbone", backbone, "--device", "cpu")
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr)
    assert len(result.stderr.strip().splitlines()) == 1
    assert {p for p in tmp_path.rglob("*") if "__pycache__" not in p.parts} == before
