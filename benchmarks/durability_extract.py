"""`antcache extract` killed, by one process or by three that share the work; see `durability.py`.

Promise: after each kill every video that the store lists, or that the log calls written, is equal
to an undisturbed run's to the bit, and so is every other file outside staging; nothing else can be
seen. One of the videos is broken.
"""

from __future__ import annotations

import hashlib
import json
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from durability_runner import KilledCommand, Violation
from transformers import ViTConfig, ViTModel
from transformers.utils.logging import disable_progress_bar

import antcache.cli.extract  # noqa: F401  (loaded before the fork)
from antcache import extract as library
from antcache.extract import Ledger
from antcache.extract.engines.video import RowMaker
from antcache.store import Store
from antcache.store.backends import is_empty
from antcache.store.format import STAGING
from antcache.store.local.folder import FolderBackend
from antcache.store.local.hdf5_backend import Hdf5Backend
from antcache.store.local.zarr_backend import ZarrBackend

VIDEOS = {"v1": 30, "v2": 60, "v3": 20, "v4": 45, "v5": 25}
"""Frames of each video."""
BROKEN = "v6"
BETWEEN, EXTRACTING, PUBLISHING, PUBLISHED = range(4)
WRITTEN = re.compile(
    r"^.* (\d+) INFO antcache\.extract\.engines\.video: (\w+): \d+ rows from ", re.M
)


class Extraction(KilledCommand):
    """Into a store of a kind, with videos and a backbone in `inputs`, see `write_inputs`."""

    phases = ("between videos", "decoding or embedding", "publishing", "after the rename")
    codes = (1,)  # one video is broken

    def __init__(self, inputs: Path, kind: str, workers: int) -> None:
        self.inputs, self.kind, self.workers = inputs, kind, workers
        self.name = f"{kind}, {workers} process{'es' if workers > 1 else ''}"
        self.reference: dict[str, str] = {}

    def prepare(self, out: Path) -> None:
        """See `KilledCommand`; nothing is there."""

    def command(self, out: Path) -> list[str]:
        """See `KilledCommand`."""
        words = ["extract", str(self.inputs / "videos"), str(self._store(out)), "--fps", "10"]
        return [*words, "--backbone", str(self.inputs / "vit"), "--format", self.kind]

    def instrument(self, slot: int) -> None:
        """See `KilledCommand`."""
        backbone = load_backbone(self.inputs)
        library.load_backbone = lambda *args, **options: backbone
        mark = self.bench.mark
        mark(RowMaker, "made", slot, EXTRACTING, BETWEEN)
        mark(FolderBackend, "publish", slot, PUBLISHING, EXTRACTING, 0)
        mark(ZarrBackend, "_rename", slot, PUBLISHING, PUBLISHED, 1)
        mark(Hdf5Backend, "_rename", slot, PUBLISHING, PUBLISHED, 1)

    def keep(self, out: Path) -> None:
        """See `KilledCommand`; also what is true of undisturbed runs alone."""
        self.reference = tree(self._store(out))
        log = log_of(self._store(out))
        written = WRITTEN.findall(log)
        if sorted(name for _, name in written) != sorted(VIDEOS):
            raise Violation(f"undisturbed, yet written were {written}")
        if "another process wrote it" in log:
            raise Violation("undisturbed, yet a video was done twice")
        if self.workers > 1 and len({pid for pid, _ in written}) == 1:
            print("note: one process of three did all the work")

    def check_state(self, out: Path) -> int:
        """See `KilledCommand`; how many videos can be seen."""
        path, reference = self._store(out), self.reference
        said = {name for _, name in WRITTEN.findall(log_of(path))}
        listed: set[str] = set()
        if not is_empty(path):
            store = Store.open(path)
            listed = set(store.videos("rgb")) if "rgb" in store.streams() else set()
            for key in ("", "features", "features/rgb"):
                if store.backend.group_damaged(key):
                    raise Violation(f"group {key!r} is damaged")
            for name in listed:
                if damage := store.backend.damaged_parts(f"features/rgb/{name}"):
                    raise Violation(f"{name}: {damage} damaged")
                rows = store.features("rgb", name).read()
                if hashlib.sha256(rows).hexdigest() != reference[f"rows of {name}"]:
                    raise Violation(f"{name}: other rows")
        if not said <= listed <= set(VIDEOS):
            raise Violation(f"the log says {sorted(said)}, the store lists {sorted(listed)}")
        other = [f for f, digest in tree(path).items() if reference.get(f) != digest]
        if other:
            raise Violation(f"{other[0]} is not as in the reference")
        if any(f.video != BROKEN for f in Ledger(path).read()):
            raise Violation("the ledger blames a good video")
        return len(listed)

    def check_whole(self, out: Path) -> None:
        """See `KilledCommand`."""
        path = self._store(out)
        if self.check_state(out) != len(VIDEOS):
            raise Violation("videos are missing after a run that finished")
        if missing := self.reference.keys() - tree(path).keys():
            raise Violation(f"{sorted(missing)[0]} is missing after a run that finished")
        if [f.video for f in Ledger(path).read()] != [BROKEN]:
            raise Violation("the ledger does not list the broken video alone")
        expected = {path.name, f"{path.name}.log", f"{path.name}.failures.jsonl", "errors"}
        left = {p.name for p in out.iterdir()} ^ expected
        if left or (path / STAGING).exists():
            raise Violation(f"left over: {sorted(left) or STAGING}")

    def _store(self, out: Path) -> Path:
        return out / f"s.{self.kind}"


def log_of(store: Path) -> str:
    """What was logged beside a store."""
    log = store.with_name(f"{store.name}.log")
    return log.read_text() if log.exists() else ""


def tree(path: Path) -> dict[str, str]:
    """Hash of each file of a store outside staging, and of the rows of each video."""
    found = {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file() and STAGING not in file.parts
    }
    if not is_empty(path):
        store = Store.open(path)
        for name in store.videos("rgb"):
            rows = store.features("rgb", name).read()
            found[f"rows of {name}"] = hashlib.sha256(rows).hexdigest()
    return found


BACKBONES: dict[Path, library.Backbone] = {}


def load_backbone(folder: Path) -> library.Backbone:
    """The one of `write_inputs`; loaded once, before the forks."""
    if folder not in BACKBONES:
        BACKBONES[folder] = library.load_backbone(folder / "vit", device="cpu")
    return BACKBONES[folder]


def write_inputs(folder: Path) -> None:
    """Small videos, and a small ViT with random weights."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for name, frames in VIDEOS.items():
        with av.open(str(videos / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=20)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(frames):
                picture = noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 20)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    (videos / f"{BROKEN}.mp4").write_text("no film")
    torch.manual_seed(0)
    disable_progress_bar()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = ViTModel(ViTConfig(**sizes, intermediate_size=64, image_size=32, patch_size=8))
    model.save_pretrained(folder / "vit")
    processor = {"image_processor_type": "ViTImageProcessor", "do_resize": True}
    processor |= {"size": {"height": 32, "width": 32}, "resample": 2, "do_rescale": True}
    processor |= {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))
