"""What hostile stores are made from: a small honest store, what its commands need, and a neighbour.

Promise: made once per process, copied for every case. The neighbour is a folder that nobody may
read or touch: a store like the honest one, under the same names, whose values and texts are
secrets that can be told from everything else.
"""

from __future__ import annotations

import csv
import functools
import json
import shutil
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from antcache.annotations import Segments, read_annotations
from antcache.annotations.dataset import Dataset
from antcache.store import SoftTargets, Store
from antcache.store.quantise import quantise

SECRET = "the neighbour's diary"
SECRET_VALUE = 1717.0
"""Every row of the neighbour's store holds nothing else; exact in every float type."""

SECRET_SCALE = float(quantise(np.full((1, 1), SECRET_VALUE))[1][0])
"""Scale of the neighbour's int8 tokens, whose values are all 127."""

VERBS, NOUNS = ("take", "put", "wash"), ("pan", "cup", "leek")
PAIRS = [(v, n) for v in range(3) for n in range(3)]
ACTIONS, DIM, FPS, SECONDS, LENGTH = len(PAIRS), 8, 4.0, 3.0, 8
GRID = (1, 2, 2)
SPLITS = {"train": 4, "validation": 2}
ROWS = int(LENGTH * SECONDS * FPS)
CONFIG: dict[str, Any] = {"backbone": "none", "mean": [0.5, None]}


def write_table(folder: Path) -> None:
    """Annotations of the kitchen as own tables: videos of eight segments of three seconds."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, num_videos in SPLITS.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["uid", "video", "start", "stop", "verb", "noun"])
            for i in range(num_videos * LENGTH):
                # Every pair once in training, so that both splits have the same classes.
                verb, noun = PAIRS[i % len(PAIRS) if split == "train" else rng.integers(len(PAIRS))]
                start = i % LENGTH * SECONDS
                times = (start, start + SECONDS)
                video = f"{split[0]}{i // LENGTH}"
                writer.writerow([f"{split}_{i}", video, *times, VERBS[verb], NOUNS[noun]])


@functools.cache
def annotations() -> Dataset:
    """What the tables hold."""
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "table")
        return read_annotations("table", Path(folder) / "table", name="kitchen")


def segments(split: str, secret: bool = False) -> Segments:
    """Labels of a split; those of the neighbour have uids of their own."""
    found = annotations().splits[split]
    return replace(found, uid=np.char.add(f"{SECRET} ", found.uid)) if secret else found


def write_store(path: Path, backend: str, secret: bool = False) -> Store:
    """Labels, a plain and a compressed stream with listed times, one of int8 tokens, soft targets
    in both forms."""
    store = Store.create(path, backend=backend)
    rng = np.random.default_rng(0)
    streams = {"rgb": ("float16", False), "flow": ("float32", True)}
    source = SECRET if secret else "random"
    for name, (dtype, compressed) in streams.items():
        store.create_stream(
            name,
            dim=DIM,
            dtype=dtype,
            fps=FPS,
            source=source,
            config={**CONFIG, "stream": name},
            compressed=compressed,
        )
    store.create_stream(
        "tokens", dim=DIM, dtype="int8", fps=FPS, source=source, config=CONFIG, grid=GRID
    )
    for split in SPLITS:
        own = segments(split, secret)
        store.write_labels(
            split, own, annotations().taxonomy, source=SECRET if secret else "made up"
        )
        for video in own.videos:
            rows = rng.normal(size=(ROWS, DIM))
            rows = np.full_like(rows, SECRET_VALUE) if secret else rows
            store.write_features("rgb", video, rows.astype(np.float16))
            times = np.arange(ROWS) / FPS
            store.write_features("flow", video, rows.astype(np.float32), times=times)
            tokens = np.repeat(rows[:, None], 4, axis=1)
            store.write_features("tokens", video, tokens.astype(np.float16))
    uid = np.concatenate([store.labels(split).uid for split in SPLITS])
    dense = SoftTargets(
        uid=uid,
        valid=np.ones(len(uid), bool),
        logits=rng.normal(size=(len(uid), ACTIONS)).astype(np.float32),
        attributes={"taxonomy": annotations().taxonomy.fingerprint, "kind": "random", "folds": 0},
    )
    store.write_targets("dense", dense)
    store.write_targets("other", replace(dense, logits=dense.logits[::-1].copy()))
    store.write_targets("sparse", dense.top_k(4))
    return store


@functools.cache
def kit() -> Path:
    """Folder with the stores `zarr` and `hdf5`, the neighbour's `victim`, and `kit`: a run, a
    teacher, predictions, annotations, an LMDB, a video and a backbone."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    store = write_store(folder / "zarr", "zarr")
    write_store(folder / "hdf5", "hdf5")
    victim = folder / "victim"
    for backend in ("zarr", "hdf5"):
        write_store(victim / backend, backend, secret=True)
    (victim / "diary.txt").write_text(SECRET)
    rows = np.full((ROWS, DIM), SECRET_VALUE, np.float16)
    rows.tofile(victim / "rows.bin")
    (victim / "empty").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _write_kit(folder / "kit", store)
    return folder


def _write_kit(folder: Path, store: Store) -> None:
    import lmdb

    from antcache.student.config import StudentConfig
    from antcache.student.runs.train import train
    from antcache.teacher.targets import TargetConfig
    from antcache.teacher.teach import teach

    folder.mkdir()
    write_store(folder / "good", "zarr")
    config = StudentConfig.of(
        **{"head": "light", "layers": 1, "heads": 2, "width": 8, "epochs": 1, "batch_size": 8},
        **{"device": "cpu", "precision": "float32", "stream": ("rgb",)},
    )
    train(store, folder / "run", config)
    shutil.rmtree(folder / "run/tensorboard", ignore_errors=True)
    target = TargetConfig(kind="count", settings={"length": 4}, folds=0)
    teach(Store.open(folder / "good"), "count", target, folder / "teacher")
    train_uid = store.labels("train").uid
    rng = np.random.default_rng(1)
    np.savez(
        folder / "predictions.npz",
        uid=train_uid,
        logits=rng.normal(size=(len(train_uid), ACTIONS)).astype(np.float32),
    )
    with lmdb.open(str(folder / "lmdb"), map_size=1 << 24) as env, env.begin(write=True) as write:
        for row in range(20):
            value = rng.normal(size=DIM).astype(np.float32).tobytes()
            write.put(f"t0_frame_{row * 8 + 1:010d}.jpg".encode(), value)
    (folder / "lmdb/lock.mdb").unlink()
    write_table(folder / "table")
    _write_video(folder / "videos")
    _write_backbone(folder / "backbone")


def _write_video(folder: Path) -> None:
    import av

    folder.mkdir()
    with av.open(str(folder / "t0.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(8):
            picture = np.full((32, 32, 3), number * 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _write_backbone(folder: Path) -> None:
    import torch
    from transformers import ConvNextConfig, ConvNextModel

    torch.manual_seed(0)
    sizes = {"hidden_sizes": [4, 4, 4, 8], "depths": [1, 1, 1, 1], "image_size": 32}
    ConvNextModel(ConvNextConfig(**sizes)).save_pretrained(folder)
    preprocessing = {
        "image_processor_type": "ConvNextImageProcessor",
        **{"do_resize": True, "size": {"shortest_edge": 32}, "crop_pct": 1.0, "resample": 2},
        **{"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True},
        **{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))


def place(folder: Path, backend: str) -> Path:
    """Put the honest store as `s`, the kit and the neighbour into a folder; the store's path."""
    for name, target in ((backend, "s"), ("kit", "kit"), ("victim", "victim")):
        shutil.copytree(kit() / name, folder / target, symlinks=True)
    return folder / "s"
