"""One intact file of every kind that is read, and the command line that reads it.

Promise: `kitchen` makes a small world in a folder, by the commands themselves where there is one:
stores, videos, a vision model, runs, teachers and files in every form that is imported. Every
command of `SPECIMENS` ends with exit code 0 in a copy of it, but that of the sweep, whose store has
no features, so that nothing is trained. What is made is the same every time, but for times and
versions in it.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from forked import run
from specimen_texts import EK55, EK100, PLAN, PROCESSOR, RECIPES

from antcache.hub import quiet

VIDEOS = tuple(f"P01_0{i}" for i in range(1, 7))
VERBS, NOUNS = ("take", "put", "open"), ("pan", "door")
EXTRACT = ("--backbone", "vit", "--device", "cpu", "--fps", "2")
FORMS = {
    "mp4": ("libx264", {}),
    "mkv": ("libx264", {}),
    "avi": ("mpeg4", {}),
    "ts": ("libx264", {}),
    "flv": ("flv", {}),
    "webm": ("libvpx", {}),
}
"""Containers, and a codec for each."""


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A kind of file.

    Attributes:
        kind: what it is.
        path: of the file, in the kitchen.
        commands: words behind `antcache` that read it.
    """

    kind: str
    path: str
    commands: Sequence[str]


def _import(file: str) -> tuple[str, ...]:
    return (f"import predictions s.zarr files/{file} --name new --dry-run",)


def _extract(file: str) -> tuple[str, ...]:
    return (f"extract {file} new.zarr {' '.join(EXTRACT)}",)


PREDICT = ("student predict s.zarr run --split validation -o p.safetensors",)
SPECIMENS = (
    *(
        Specimen(
            kind=f"video, {form}", path=f"videos/v.{form}", commands=_extract(f"videos/v.{form}")
        )
        for form in FORMS
    ),
    Specimen(
        kind="own table",
        path="table/train.csv",
        commands=("annotations import table table new.zarr",),
    ),
    Specimen(
        kind="official table",
        path="ek100/EPIC_100_train.csv",
        commands=("annotations summary epic-kitchens-100-official ek100",),
    ),
    Specimen(
        kind="RULSTM's table",
        path="ek55/training.csv",
        commands=("annotations summary epic-kitchens-55 ek55",),
    ),
    Specimen(
        kind="verb classes",
        path="ek55/EPIC_verb_classes.csv",
        commands=("annotations summary epic-kitchens-55 ek55",),
    ),
    Specimen(
        kind="action classes",
        path="ek55/actions.csv",
        commands=("annotations summary epic-kitchens-55 ek55",),
    ),
    Specimen(
        kind="many-shot actions",
        path="ek55/EPIC_many_shot_actions.csv",
        commands=("annotations summary epic-kitchens-55 ek55",),
    ),
    Specimen(
        kind="test list",
        path="files/test_seen.csv",
        commands=("student predict s.zarr run --segments files/test_seen.csv -o p.safetensors",),
    ),
    Specimen(
        kind="list of participants",
        path="files/unseen.csv",
        commands=("evaluate s.zarr run --unseen files/unseen.csv",),
    ),
    Specimen(
        kind="scripts",
        path="files/scripts.txt",
        commands=("teacher train s.zarr --name new --scripts files/scripts.txt",),
    ),
    Specimen(kind="npz", path="files/p.npz", commands=_import("p.npz")),
    Specimen(kind="compressed npz", path="files/c.npz", commands=_import("c.npz")),
    Specimen(kind="pickle", path="files/p.pkl", commands=_import("p.pkl")),
    Specimen(kind="torch file", path="files/p.pt", commands=_import("p.pt")),
    Specimen(kind="older torch file", path="files/old.pt", commands=_import("old.pt")),
    Specimen(kind="parquet", path="files/p.parquet", commands=_import("p.parquet")),
    Specimen(kind="LMDB", path="lmdb/data.mdb", commands=("import lmdb new.zarr rgb=lmdb",)),
    Specimen(
        kind="predictions",
        path="run/predictions.safetensors",
        commands=("evaluate s.zarr run", "fuse s.zarr run run2 -o f.safetensors"),
    ),
    Specimen(kind="settings of a run", path="run/config.json", commands=PREDICT),
    Specimen(
        kind="weights of a run",
        path="run/checkpoint/epoch-0001/weights.safetensors",
        commands=PREDICT,
    ),
    Specimen(
        kind="metrics of a run",
        path="run/metrics.jsonl",
        commands=("report s.zarr run run2 --over all --bootstrap 5 -o r.html",),
    ),
    Specimen(
        kind="settings of a teacher",
        path="s.zarr.teachers/count/teacher.json",
        commands=("teacher predict s.zarr s.zarr.teachers/count --name new",),
    ),
    Specimen(
        kind="counts of a teacher",
        path="s.zarr.teachers/count/teacher.safetensors",
        commands=("teacher predict s.zarr s.zarr.teachers/count --name new",),
    ),
    Specimen(
        kind="weights of a teacher",
        path="s.zarr.teachers/seq/teacher.safetensors",
        commands=("teacher predict s.zarr s.zarr.teachers/seq --name new",),
    ),
    Specimen(
        kind="sweep plan",
        path="files/plan.yaml",
        commands=("student sweep labels.zarr files/plan.yaml --runs r",),
    ),
    Specimen(
        kind="recipes",
        path="files/recipes.json",
        commands=("teacher corpus files/recipes.json -o corpus --taxonomy-from s.zarr",),
    ),
    Specimen(
        kind="settings of a vision model", path="vit/config.json", commands=_extract("videos/v.mp4")
    ),
    Specimen(
        kind="settings of preprocessing",
        path="vit/preprocessor_config.json",
        commands=_extract("videos/v.mp4"),
    ),
    Specimen(
        kind="weights of a vision model",
        path="vit/model.safetensors",
        commands=_extract("videos/v.mp4"),
    ),
    Specimen(
        kind="list of failures",
        path="s.zarr.failures.jsonl",
        commands=(f"extract videos/v.mp4 s.zarr {' '.join(EXTRACT)} --stream x --dry-run",),
    ),
    Specimen(
        kind="zarr.json of a unit",
        path="s.zarr/targets/count/zarr.json",
        commands=("store info s.zarr", "store verify s.zarr", "evaluate s.zarr --targets count"),
    ),
    Specimen(
        kind="zarr.json of a group",
        path="s.zarr/labels/zarr.json",
        commands=("store info s.zarr", "store verify s.zarr", "evaluate s.zarr --targets count"),
    ),
    Specimen(
        kind="HDF5 unit",
        path="s.h5/targets/count.h5",
        commands=("store info s.h5", "store verify s.h5", "evaluate s.h5 --targets count"),
    ),
)


def kitchen(folder: Path) -> Path:
    """Make the kitchen in a folder that is there and empty; see the module."""
    torch.set_num_threads(1)  # threads of OpenMP do not outlive a fork
    _warm()
    for name, files in (("table", _tables()), ("ek55", EK55), ("ek100", EK100)):
        (folder / name).mkdir()
        for file, text in files.items():
            (folder / name / file).write_text(text)
    (folder / "videos").mkdir()
    for form in FORMS:
        write_video(folder / f"videos/v.{form}", form)
    _vision_model(folder / "vit")
    (folder / "files").mkdir()
    _files(folder / "files")
    _lmdb(folder / "lmdb")
    train = "student train s.zarr --epochs 1 --width 8 --layers 1 --heads 1 --num-frames 2 --rate 1"
    for command in (
        "annotations import table table s.zarr",
        "annotations import table table labels.zarr",
        "import lmdb s.zarr rgb=lmdb",
        f"{train} --run run",
        f"{train} --run run2 --seed 1",
        "teacher train s.zarr --name count",
        "teacher train s.zarr --name seq --kind sequence --epochs 1 --set width=8 --set heads=1",
        "store convert s.zarr s.h5 --format hdf5",
    ):
        _done(command, folder)
    failure = {"stream": "x", "video": "v", "file": "v.mp4", "error": "no", "date": "2025-01-01"}
    (folder / "s.zarr.failures.jsonl").write_text(json.dumps(failure) + "\n")
    return folder


@functools.cache
def _intact() -> tempfile.TemporaryDirectory[str]:
    """A kitchen that nobody changes, as long as this process lives."""
    folder = tempfile.TemporaryDirectory(prefix="kitchen-")
    kitchen(Path(folder.name))
    return folder


def copy_kitchen(folder: Path) -> Path:
    """A kitchen of one's own in `folder`, which is there and empty."""
    return Path(shutil.copytree(_intact().name, folder, dirs_exist_ok=True))


def link_kitchen(folder: Path) -> Path:
    """The same in no time: its files are those of all others, which no command writes in place."""
    return Path(shutil.copytree(_intact().name, folder, dirs_exist_ok=True, copy_function=os.link))


def words(command: str) -> list[str]:
    """The words of a command line; none of ours has a blank in a word."""
    return command.split()


def _warm() -> None:
    """Load what commands would load one by one: numba's compiled loops, and parts of pyarrow."""
    import pyarrow.compute
    import pyarrow.parquet

    from antcache.teacher.counting import loops
    from antcache.teacher.loops import interpolate, last_rows

    assert pyarrow.parquet
    ints, floats = np.zeros(1, np.int64), np.zeros(1)
    last_rows(ints, ints, floats, floats, 1)
    interpolate(np.ones((1, 1)), ints, np.array([0, 1]), ints, floats, floats, ints)
    loops.interpolate_one(floats, ints, np.array([0, 1]), ints, floats, floats, ints, ints)
    one, three = np.zeros((1, 1), np.int64), np.zeros((1, 2, 1), np.int64)
    loops.count_recency(
        *(one, one, ints, ints, ints, 1, three, three),
        *(np.zeros((2, 2), np.int64), np.zeros(1, np.int64)),
    )
    noun, verb = loops.noun_chances(
        one, one, ints, ints, 1, np.ones((1, 2, 1)), np.ones(1), np.full(2, 0.5)
    )
    loops.recency_rows(noun, verb, ints, np.ones((2, 1)))
    loops.recency_one(noun, verb, ints, np.ones((2, 1)), np.ones((2, 1)), ints)
    loops.product_sums(noun, noun, ints, ints)


def _done(command: str, folder: Path) -> None:
    outcome = run(words(command), folder=folder, timeout_s=300)
    assert outcome.code == 0, f"{command}: {outcome.stdout}{outcome.stderr}"


def _tables() -> dict[str, str]:
    tables = {}
    for split in ("train", "validation"):
        rows = [
            f"{split[0]}{i},{VIDEOS[i % 6]},{i + 1.5},{i + 2.25},{VERBS[i % 3]},{NOUNS[i % 2]}"
            for i in range(24)
        ]
        tables[f"{split}.csv"] = "\n".join(["uid,video,start,stop,verb,noun", *rows]) + "\n"
    return tables


def write_video(path: Path, form: str, grey: int | None = None, seconds: int = 2) -> None:
    """A video of moving bars, or of one grey."""
    codec, options = FORMS[form]
    formats = {"ts": "mpegts", "mkv": "matroska"}
    with av.open(str(path), "w", format=formats.get(form, form), options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for number in range(25 * seconds):
            picture = np.full((48, 80, 3), 0 if grey is None else grey, np.uint8)
            if grey is None:
                picture[:, number % 80 :] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _vision_model(folder: Path) -> None:
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "image_size": 32, "patch_size": 8}
    with quiet(transformers):
        transformers.ViTModel(transformers.ViTConfig(**sizes)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))


def _files(folder: Path) -> None:
    """Predictions in every form, lists, a plan, recipes."""
    uids = [f"{split}{i}" for split in "tv" for i in range(24)]
    actions = len({(i % 3, i % 2) for i in range(24)})
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(uids), actions)).astype(np.float32)
    arrays = {"uid": np.array(uids), "logits": logits, "valid": np.ones(len(uids), bool)}
    np.savez(folder / "p.npz", **arrays)
    np.savez_compressed(folder / "c.npz", **arrays)
    entries = [
        {"uid": u, "logit_action": row, "LM_feat": row[:3]}
        for u, row in zip(uids, logits, strict=True)
    ]
    (folder / "p.pkl").write_bytes(pickle.dumps(entries))
    tensors = {uid: torch.from_numpy(row.copy()) for uid, row in zip(uids, logits, strict=True)}
    torch.save(tensors, folder / "p.pt")
    torch.save(tensors, folder / "old.pt", _use_new_zipfile_serialization=False)
    write_parquet(folder / "p.parquet", uids, logits)
    listed = (f"{i}, {VIDEOS[i % 6]}, {45 * i + 90}, {45 * i + 120}" for i in range(24))
    (folder / "test_seen.csv").write_text("\n".join(listed) + "\n")
    (folder / "unseen.csv").write_text("participant_id\nP01\n")
    (folder / "scripts.txt").write_text("take pan, put door, open pan\n" * 20)
    (folder / "plan.yaml").write_text(PLAN)
    (folder / "recipes.json").write_text(json.dumps(RECIPES))


def write_parquet(path: Path, uids: Sequence[str], logits: np.ndarray) -> None:
    """Predictions as parquet."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"uid": list(uids), "logits": list(map(list, logits))})
    pyarrow.parquet.write_table(table, path)


def _lmdb(folder: Path) -> None:
    """Rows of 8 numbers, 4 per second and 40 s of each video, as RULSTM's features."""
    import lmdb

    rng = np.random.default_rng(0)
    with (
        lmdb.open(str(folder), map_size=1 << 24, lock=False) as env,
        env.begin(write=True) as transaction,
    ):
        for video in VIDEOS:
            for frame in range(15, 1200, 15):
                row = rng.normal(size=8).astype("<f4").tobytes()
                transaction.put(f"{video}_frame_{frame:010d}.jpg".encode(), row)
